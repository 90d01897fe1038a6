"""The CustomResourceDefinition of DeployFlow, made from the models so that the two never differ.

Kubernetes wants a structural schema: no references, no unions but int-or-string, `nullable` instead of a
null type. Rules that a schema cannot say are CEL (`x-kubernetes-validations`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from shared.domain import deployflow as df

_UPDATING = "['create', 'update', 'rollback']"
_SPEC_RULES = [
    {
        "rule": "self.action == oldSelf.action",
        "message": "action is immutable: make another DeployFlow for another action",
    },
    {
        # one write, which removes `inherits`, sets what the release has inherited
        "rule": "self.application == oldSelf.application || (has(oldSelf.inherits) && !has(self.inherits) && "
        "self.application.instanceName == oldSelf.application.instanceName)",
        "message": "application is immutable: make another DeployFlow to release something else",
    },
    {
        "rule": "!has(self.inherits) || (has(oldSelf.inherits) && self.inherits == oldSelf.inherits)",
        "message": "inherits is immutable: Triton removes it when the release begins",
    },
    {
        "rule": "!has(self.inherits) || self.action == 'update'",
        "message": "only an update takes over what was released before it: remove inherits",
    },
    {
        "rule": f"!(self.action in {_UPDATING}) || !has(self.nonUpdateStrategy)",
        "message": "create, update and rollback take updateStrategy: remove nonUpdateStrategy",
    },
    {
        "rule": f"self.action in {_UPDATING} || !has(self.updateStrategy)",
        "message": "restart, scale_in, scale_out, start, stop and delete take nonUpdateStrategy: "
        "remove updateStrategy",
    },
    {
        "rule": f"!(self.action in {_UPDATING}) || has(self.application.template)",
        "message": "create, update and rollback need application.template",
    },
]
_TEMPLATE: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class _Column(NamedTuple):
    """A column of `kubectl get`; with `priority` 1 of `kubectl get -o wide` only."""

    name: str
    type: str
    json_path: str
    description: str
    priority: int = 0


_PRINTER_COLUMNS = [
    _Column("REPLICAS", "integer", ".status.replicas", "pods that exist"),
    _Column(
        "UPDATED_READY_REPLICAS",
        "integer",
        ".status.updatedReadyReplicas",
        "pods of the target revision that are Ready",
    ),
    _Column("FINISHED_REPLICAS", "integer", ".status.finishedReplicas", "pods of the finished batches"),
    _Column("PHASE", "string", ".status.phase", "how far the release is"),
    _Column("BATCHES", "integer", ".status.batches", "how many batches there are"),
    _Column("CURRENT_BATCH_SIZE", "integer", ".status.conditions[-1].batchSize", "pods of the newest batch"),
    _Column("AGE", "date", ".metadata.creationTimestamp", "since when the DeployFlow exists"),
    _Column("UPDATE_AT", "date", ".status.updatedAt", "when something last changed", 1),
    _Column("PODS", "string", ".status.pods", "names of the pods that exist", 1),
]


def _int_or_percent(pattern: str, least: int, example: str, unset: bool = False) -> dict[str, Any]:
    """Return the schema of a count from `least` or a percentage; `unset`: 0 and "" are accepted too."""
    shares, minimum = (f"^({pattern})?$", 0) if unset else (f"^{pattern}$", least)
    return {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "x-kubernetes-validations": [
            {
                "rule": f"type(self) == int ? self >= {minimum} : string(self).matches('{shares}')",
                "message": f"must be a count from {least} or a percentage like {example}",
            }
        ],
    }


_SPECIAL: dict[str, dict[str, Any]] = {
    "template": _TEMPLATE,
    "volumeClaimTemplates": {"type": "array", "items": _TEMPLATE},
    "batchSize": _int_or_percent("(100|[1-9][0-9]?)%", 1, "25%", unset=True),
    "requestedStrategy": {**_TEMPLATE, "nullable": True},
    "failureThreshold": _int_or_percent("(100|[1-9]?[0-9])%", 0, "10%"),
}


def _structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Convert one node of pydantic's JSON Schema to a structural schema."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return _structural({**definitions[name], **_without(schema, "$ref")}, definitions)
    if "anyOf" in schema:
        members = [member for member in schema["anyOf"] if member.get("type") != "null"]
        node = _structural({**members[0], **_without(schema, "anyOf")}, definitions)
        unset = [member["const"] for member in members if "const" in member]
        if "enum" in node:
            node["enum"] = [*node["enum"], *unset]
        elif "minimum" in node and unset:
            node["minimum"] = min(node["minimum"], *unset)
        # Kubernetes refuses a null by the enum of a nullable field; of one that is not nullable it removes a null
        keeps_null = "enum" not in node and schema.get("default") is None
        return node | ({"nullable": True} if len(members) < len(schema["anyOf"]) and keeps_null else {})
    kept = ("type", "enum", "minimum", "maximum", "pattern", "minLength", "maxLength", "format")
    node = {key: schema[key] for key in kept if key in schema}
    if schema.get("type") == "integer":
        node["format"] = "int32"
    node |= _description(schema)
    if schema.get("type") == "array":
        node["items"] = _structural(schema["items"], definitions)
    if "properties" in schema:
        # a condition's batchSize is the resulting count, always a number
        special = _SPECIAL.keys() - ({"batchSize"} if "phase" in schema["properties"] else set())
        node["properties"] = {
            name: {**_SPECIAL[name], **_description(child)}
            if name in special
            else _structural(child, definitions)
            for name, child in schema["properties"].items()
        }
        if schema.get("required"):
            node["required"] = schema["required"]
    elif isinstance(schema.get("additionalProperties"), dict):
        node["additionalProperties"] = _structural(schema["additionalProperties"], definitions)
    return node


def _description(schema: dict[str, Any]) -> dict[str, str]:
    return {"description": schema["description"].replace("\n", " ")} if "description" in schema else {}


def _without(schema: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in keys}


def _schema_of(model: type[df.Wire]) -> dict[str, Any]:
    raw = model.model_json_schema(by_alias=True)
    return _structural(_without(raw, "$defs"), raw.get("$defs", {}))


def crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition as a JSON object."""
    spec = _schema_of(df.DeployFlowSpec)
    spec["x-kubernetes-validations"] = _SPEC_RULES
    status = _schema_of(df.DeployFlowStatus)
    for field in ("version", "observedGeneration", "sequence"):
        status["properties"][field]["format"] = "int64"
    condition = status["properties"]["conditions"]["items"]["properties"]
    for array in (status["properties"]["conditions"], status["properties"]["pods"], condition["pods"]):
        # what Triton 0.1.x wrote where there is none
        array["nullable"] = True
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{df.PLURAL}.{df.GROUP}"},
        "spec": {
            "group": df.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": df.KIND,
                "listKind": f"{df.KIND}List",
                "plural": df.PLURAL,
                "singular": df.KIND.lower(),
                "shortNames": ["df"],
            },
            "versions": [
                {
                    "name": df.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {
                            "name": column.name,
                            "type": column.type,
                            "description": column.description,
                            "jsonPath": column.json_path,
                            **({"priority": column.priority} if column.priority else {}),
                        }
                        for column in _PRINTER_COLUMNS
                    ],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "One release of one instance of an application.",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string", "description": df.API_VERSION},
                                "kind": {"type": "string", "description": df.KIND},
                                # the API server describes it itself, and refuses another description
                                "metadata": {"type": "object"},
                                "spec": spec,
                                "status": status,
                            },
                        }
                    },
                }
            ],
        },
    }


class _Plain(yaml.SafeDumper):
    """Writes every value out: a person reading the file should not have to follow anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def crd_yaml() -> str:
    return "# Made from shared/domain/deployflow.py by `make documents`.\n" + yaml.dump(
        crd(), Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True
    )
