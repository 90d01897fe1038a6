"""ValidatingAdmissionPolicies: rules in CEL over the writes of others, which a binding puts into force.

The words of a refusal are the real server's. Of CEL only the standard language is here, and there are no parameters
(`paramKind`). What the sandbox's controllers write to a status, and its kubelet, is not reviewed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import celpy
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError

from shared.domain.json_types import Json

from .builtins import NAMESPACES, POLICIES, POLICY_BINDINGS
from .causes import Cause
from .errors import denied_by_policy
from .objects import labels_of, name_of
from .resources import Resource
from .rules import compiled
from .selectors import from_spec, matches
from .store import Event, Store
from .strategies import Strategy

_NOBODY: Json = {"username": "admin", "groups": ["system:masters", "system:authenticated"]}
"""Who writes: nobody is authenticated here, so everybody is the administrator."""


class Write(NamedTuple):
    """A write to be reviewed: `new` is None for a deletion, `old` for a creation."""

    resource: Resource
    namespace: str
    name: str
    operation: str
    new: Json | None
    old: Json | None
    subresource: str = ""
    dry_run: bool = False


class _Denial(NamedTuple):
    message: str
    reason: str


class Policies:
    """Reviews writes by the policies and bindings in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bound: list[tuple[_Policy, Json]] | None = None
        for resource in (POLICIES, POLICY_BINDINGS):
            store.listen(resource.key, self._changed)

    def _changed(self, _event: Event) -> None:
        self._bound = None

    def review(self, write: Write) -> list[str]:
        """Return the warnings about a write; raise the refusal of the first policy that denies it."""
        if self._bound is None:
            self._bound = self._read()
        if not self._bound or write.resource.group == POLICIES.group:
            return []
        warnings: list[str] = []
        for policy, binding in self._bound:
            scope = binding["spec"].get("matchResources")
            if not self._concerns(policy.constraints, write) or (scope and not self._concerns(scope, write)):
                continue
            who = f"ValidatingAdmissionPolicy '{policy.name}' with binding '{name_of(binding)}'"
            for denial in policy.judge(write, self._namespace(write.namespace)):
                actions = binding["spec"]["validationActions"]
                if "Deny" in actions:
                    text = f"{who} denied request: {denial.message}"
                    raise denied_by_policy(write.resource, write.name, text, denial.reason)
                if "Warn" in actions:
                    warnings.append(f"Validation failed for {who}: {denial.message}")
        return warnings

    def _read(self) -> list[tuple[_Policy, Json]]:
        policies = {
            name_of(record.obj): _Policy(record.obj)
            for record in self._store.collection(POLICIES.key).ordered()
        }
        bindings = [record.obj for record in self._store.collection(POLICY_BINDINGS.key).ordered()]
        return [
            (policies[binding["spec"]["policyName"]], binding)
            for binding in bindings
            if binding["spec"]["policyName"] in policies
        ]

    def _namespace(self, name: str) -> Json | None:
        found = self._store.get(NAMESPACES.key, "", name) if name else None
        return found.obj if found else None

    def _concerns(self, constraints: Json, write: Write) -> bool:
        """Return whether a policy's or binding's rules and selectors choose a write."""
        rules = constraints.get("resourceRules") or ()
        if rules and not any(_fits(rule, write) for rule in rules):
            return False
        if any(_fits(rule, write) for rule in constraints.get("excludeResourceRules") or ()):
            return False
        sides = [side for side in (write.new, write.old) if side is not None]
        chosen = from_spec(constraints.get("objectSelector"))
        if not any(matches(chosen, labels_of(side)) for side in sides):
            return False
        if not write.namespace and write.resource is not NAMESPACES:
            return True
        spaces = [self._namespace(write.namespace)] if write.namespace else sides
        chosen = from_spec(constraints.get("namespaceSelector"))
        return any(matches(chosen, labels_of(space)) for space in spaces if space)


def _fits(rule: Json, write: Write) -> bool:
    resource = write.resource
    scope = "Namespaced" if resource.namespaced else "Cluster"
    wanted = {
        "operations": write.operation,
        "apiGroups": resource.group,
        "apiVersions": resource.version,
    }
    return (
        all({"*", value} & set(rule.get(field) or ()) for field, value in wanted.items())
        and rule.get("scope", "*") in ("*", scope)
        and (not rule.get("resourceNames") or write.name in rule["resourceNames"])
        and any(
            _names(pattern, resource.plural, write.subresource) for pattern in rule.get("resources") or ()
        )
    )


def _names(pattern: str, plural: str, subresource: str) -> bool:
    """Return whether `pods`, `pods/eviction`, `*/scale` or the like names a resource with its subresource."""
    resource, _, part = pattern.partition("/")
    return resource in ("*", plural) and part in (subresource, "*")


class _Policy:
    """A policy with its expressions compiled."""

    def __init__(self, obj: Json) -> None:
        spec = obj["spec"]
        self.name = name_of(obj)
        self.constraints: Json = spec["matchConstraints"]
        self._fails = spec["failurePolicy"] == "Fail"
        self._conditions = [compiled(entry["expression"]) for entry in spec.get("matchConditions") or ()]
        self._variables = {
            entry["name"]: compiled(entry["expression"]) for entry in spec.get("variables") or ()
        }
        self._validations = [_Validation(entry) for entry in spec.get("validations") or ()]

    def judge(self, write: Write, namespace: Json | None) -> Iterator[_Denial]:
        """Return what the validations have against a write."""
        bindings = {
            "object": json_to_cel(write.new),
            "oldObject": json_to_cel(write.old),
            "request": json_to_cel(_request(write)),
            "namespaceObject": json_to_cel(namespace),
        }
        verdicts = [_evaluated(condition, bindings) for condition in self._conditions]
        if any(not isinstance(verdict, CELEvalError) and not verdict for verdict in verdicts):
            return
        for verdict in verdicts:
            if isinstance(verdict, CELEvalError):
                if self._fails:
                    yield _Denial(f"match condition evaluation error: {_words(verdict)}", "Invalid")
                return
        variables = bindings["variables"] = celpy.celtypes.MapType()
        for name, program in self._variables.items():
            # one that fails is an error only where a validation uses it
            variables[celpy.celtypes.StringType(name)] = _evaluated(program, bindings)
        for validation in self._validations:
            verdict = _evaluated(validation.program, bindings)
            if isinstance(verdict, CELEvalError):
                if self._fails:
                    text = f"expression '{validation.expression}' resulted in error: {_words(verdict)}"
                    yield _Denial(text, "Invalid")
            elif not verdict:
                yield _Denial(validation.complaint(bindings), validation.reason)


class _Validation:
    def __init__(self, source: Json) -> None:
        self.expression: str = source["expression"]
        self.program = compiled(self.expression)
        self.reason: str = source.get("reason") or "Invalid"
        self._message: str = source.get("message") or f"failed expression: {self.expression}"
        expression = source.get("messageExpression")
        self._message_program = compiled(expression) if expression else None

    def complaint(self, bindings: dict[str, Any]) -> str:
        if self._message_program is not None:
            text = _evaluated(self._message_program, bindings)
            if not isinstance(text, CELEvalError):
                return str(text)
        return self._message


def _evaluated(program: celpy.Runner, bindings: dict[str, Any]) -> Any:
    """Return the result of an expression, also when that is an error."""
    try:
        return program.evaluate(bindings)
    except CELEvalError as error:
        return error


def _words(error: CELEvalError) -> str:
    """Return what is wrong in the words of the real server's CEL, as far as they are known."""
    text = str(error.args[0]).partition(" (in activation")[0]
    return text.replace("no such member in mapping: ", "no such key: ").replace("'", "")


def _request(write: Write) -> Json:
    resource = write.resource
    return {
        "operation": write.operation,
        "name": write.name,
        "namespace": write.namespace,
        "kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
        "subResource": write.subresource,
        "userInfo": _NOBODY,
        "dryRun": write.dry_run,
    }


class PolicyStrategy(Strategy):
    def prepare(self, new: Json, old: Json | None) -> Json:  # noqa: ARG002
        spec = {"failurePolicy": "Fail", **(new.get("spec") or {})}
        if isinstance(spec.get("matchConstraints"), dict):
            spec["matchConstraints"] = _scope(spec["matchConstraints"])
        return {**new, "spec": spec}

    def check(self, new: Json, old: Json | None) -> list[Cause]:  # noqa: ARG002
        spec = new["spec"]
        causes = [] if spec.get("matchConstraints") else [_required("spec.matchConstraints")]
        if not spec.get("validations"):
            text = "validations or auditAnnotations must contain at least one item"
            causes += [_required(f"spec.{field}", text) for field in ("validations", "auditAnnotations")]
        if spec.get("paramKind"):
            text = "Forbidden: the sandbox's policies take no parameters"
            causes.append(Cause("spec.paramKind", "FieldValueForbidden", text))
        for part in ("variables", "matchConditions", "validations"):
            for n, entry in enumerate(spec.get(part) or ()):
                for field in ("expression", "messageExpression"):
                    if field in entry:
                        causes += _compilation_causes(entry[field], f"spec.{part}[{n}].{field}")
        return causes


class PolicyBindingStrategy(Strategy):
    def prepare(self, new: Json, old: Json | None) -> Json:  # noqa: ARG002
        spec = {**(new.get("spec") or {})}
        if isinstance(spec.get("matchResources"), dict):
            spec["matchResources"] = _scope(spec["matchResources"])
        return {**new, "spec": spec}

    def check(self, new: Json, old: Json | None) -> list[Cause]:  # noqa: ARG002
        spec = new["spec"]
        causes = [] if spec.get("policyName") else [_required("spec.policyName")]
        if not spec.get("validationActions"):
            text = "at least one validation action is required"
            causes.append(_required("spec.validationActions", text))
        return causes


def _scope(constraints: Json) -> Json:
    """Return what a policy or binding concerns, with the API server's defaults."""
    result: Json = {"namespaceSelector": {}, "objectSelector": {}, "matchPolicy": "Equivalent", **constraints}
    for field in ("resourceRules", "excludeResourceRules"):
        if result.get(field):
            result[field] = [{"scope": "*", **rule} for rule in result[field]]
    return result


def _required(field: str, text: str = "") -> Cause:
    return Cause(field, "FieldValueRequired", f"Required value: {text}" if text else "Required value")


def _compilation_causes(expression: Any, field: str) -> list[Cause]:
    try:
        compiled(expression)
    except CELParseError as error:
        text = f'Invalid value: "{expression}": compilation failed: ERROR: {error.args[0]}'
        return [Cause(field, "FieldValueInvalid", text)]
    return []
