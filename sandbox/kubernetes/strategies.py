"""Rules of single built-in resources for writes: defaults, extra checks, admission.

A `Strategy` is called at each write, after the rules that hold for all objects; a resource without one of its
own has the plain one, which changes and refuses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.json_types import Json

from .causes import Cause
from .errors import bad_request
from .objects import timestamp
from .pod_defaults import Addresses, forbidden_changes, pod_spec, template_causes
from .schema import Schema

if TYPE_CHECKING:
    from .resources import Resource


DATA_BYTES = 1024 * 1024
"""The values of a ConfigMap or a Secret together."""

KRUISE_GATES = ("InPlaceUpdateReady", "KruisePodReady")


class Strategy:
    """Hooks around a write. `prepare` gives the object to be checked and stored, `check` says what is wrong
    with it, `admit` may raise a refusal of its own.
    """

    def prepare(self, new: Json, old: Json | None) -> Json:  # noqa: ARG002
        return new

    def check(self, new: Json, old: Json | None) -> list[Cause]:  # noqa: ARG002
        return []

    def admit(self, new: Json, old: Json | None) -> None:
        """Refuse a write by an error as the last check, dry runs included."""


class PodStrategy(Strategy):
    def prepare(self, new: Json, old: Json | None) -> Json:
        if not isinstance(new.get("spec"), dict) or (old is not None and new["spec"] is old["spec"]):
            return new
        spec = pod_spec(new["spec"])
        if old is None:
            return {**new, "spec": spec, "status": _first_status(spec)}
        return {**new, "spec": spec}

    def check(self, new: Json, old: Json | None) -> list[Cause]:
        if old is not None:
            return forbidden_changes(new, old)
        causes = [Cause(cause.field.lstrip("."), *cause[1:]) for cause in template_causes(new, "")]
        for field in ("containers", "initContainers"):
            for n, container in enumerate(new["spec"].get(field) or ()):
                image = container.get("image") or ""
                if image != image.strip():
                    text = f'Invalid value: "{image}": must not have leading or trailing whitespace'
                    causes.append(Cause(f"spec.{field}[{n}].image", "FieldValueInvalid", text))
        return causes


def _first_status(spec: Json) -> Json:
    """Return the status Pending, with OpenKruise's own gates open, as its controllers do within a moment."""
    gates = {gate.get("conditionType") for gate in spec.get("readinessGates") or ()}
    now = timestamp()
    opened = [
        {"type": gate, "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
        for gate in KRUISE_GATES
        if gate in gates
    ]
    status: Json = {"phase": "Pending", "qosClass": "BestEffort"}
    return {**status, "conditions": opened} if opened else status


class ServiceStrategy(Strategy):
    def __init__(self) -> None:
        self._addresses = Addresses("10.96.0.0/16")

    def prepare(self, new: Json, old: Json | None) -> Json:
        spec = {"type": "ClusterIP", "sessionAffinity": "None", **(new.get("spec") or {})}
        spec["ports"] = [
            {"protocol": "TCP", "targetPort": port.get("port"), **port} for port in spec.get("ports") or ()
        ]
        if old is not None:
            spec.setdefault("clusterIP", old["spec"].get("clusterIP"))
        elif not spec.get("clusterIP") and spec["type"] != "ExternalName":
            spec["clusterIP"] = self._addresses.take()
        if spec.get("clusterIP"):
            spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec.update(
            {
                "internalTrafficPolicy": spec.get("internalTrafficPolicy", "Cluster"),
                "ipFamilies": spec.get("ipFamilies", ["IPv4"]),
                "ipFamilyPolicy": spec.get("ipFamilyPolicy", "SingleStack"),
            }
        )
        return {**new, "spec": spec, "status": new.get("status") or {"loadBalancer": {}}}

    def check(self, new: Json, old: Json | None) -> list[Cause]:
        spec = new["spec"]
        if not spec["ports"] and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
            return [Cause("spec.ports", "FieldValueRequired", "Required value")]
        if old is not None and old["spec"].get("clusterIP") not in (None, "", spec.get("clusterIP")):
            return [
                Cause(
                    "spec.clusterIPs[0]",
                    "FieldValueInvalid",
                    f'Invalid value: ["{spec.get("clusterIP")}"]: may not change once set',
                )
            ]
        return []


class NamespaceStrategy(Strategy):
    def prepare(self, new: Json, old: Json | None) -> Json:
        if old is not None:
            return new
        name = new["metadata"]["name"]
        labels = {**(new["metadata"].get("labels") or {}), "kubernetes.io/metadata.name": name}
        return {
            **new,
            "metadata": {**new["metadata"], "labels": labels},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }


class ConfigMapStrategy(Strategy):
    def check(self, new: Json, old: Json | None) -> list[Cause]:  # noqa: ARG002
        return _size_causes(new, "[]")


class SecretStrategy(Strategy):
    def prepare(self, new: Json, old: Json | None) -> Json:  # noqa: ARG002
        return {"type": "Opaque", **new}

    def check(self, new: Json, old: Json | None) -> list[Cause]:  # noqa: ARG002
        return _size_causes(new, "data")


def _size_causes(obj: Json, field: str) -> list[Cause]:
    """Return the complaint about more data than fits; what is in base64 counts as what it stands for."""
    plain, encoded = obj.get("data") or {}, obj.get("binaryData") or {}
    if field == "data":
        plain, encoded = {}, plain
    size = sum(len(str(value).encode()) for value in plain.values())
    size += sum(len(str(value)) * 3 // 4 for value in encoded.values())
    if size <= DATA_BYTES:
        return []
    return [Cause(field, "FieldValueTooLong", f"Too long: may not be more than {DATA_BYTES} bytes")]


class DefinitionStrategy(Strategy):
    """CustomResourceDefinitions: accepted at once, their schemas compiled on the way in."""

    def prepare(self, new: Json, old: Json | None) -> Json:
        spec = new.get("spec") or {}
        names = {**(spec.get("names") or {})}
        if names.get("kind"):
            names.setdefault("singular", names["kind"].lower())
            names.setdefault("listKind", names["kind"] + "List")
        spec = {**spec, "names": names, "conversion": spec.get("conversion") or {"strategy": "None"}}
        now = timestamp()
        conditions = [
            {
                "type": "NamesAccepted",
                "status": "True",
                "reason": "NoConflicts",
                "message": "no conflicts found",
                "lastTransitionTime": now,
            },
            {
                "type": "Established",
                "status": "True",
                "reason": "InitialNamesAccepted",
                "message": "the initial names have been accepted",
                "lastTransitionTime": now,
            },
        ]
        if old is not None:
            conditions = (old.get("status") or {}).get("conditions") or conditions
        stored = [v["name"] for v in spec.get("versions") or () if isinstance(v, dict) and v.get("storage")]
        status = {"conditions": conditions, "acceptedNames": names, "storedVersions": stored}
        return {**new, "spec": spec, "status": status}

    def check(self, new: Json, old: Json | None) -> list[Cause]:  # noqa: ARG002
        spec = new["spec"]
        required = {
            "spec.group": spec.get("group"),
            "spec.scope": spec.get("scope"),
            "spec.names.plural": spec["names"].get("plural"),
            "spec.names.kind": spec["names"].get("kind"),
            "spec.versions": spec.get("versions"),
        }
        causes = [
            Cause(field, "FieldValueRequired", "Required value")
            for field, value in required.items()
            if not value
        ]
        if causes:
            return causes
        wanted = f"{spec['names']['plural']}.{spec['group']}"
        if new["metadata"]["name"] != wanted:
            causes.append(
                Cause(
                    "metadata.name",
                    "FieldValueInvalid",
                    f'Invalid value: "{new["metadata"]["name"]}": must be spec.names.plural+"."+spec.group',
                )
            )
        if sum(bool(version.get("storage")) for version in spec["versions"]) != 1:
            causes.append(
                Cause(
                    "spec.versions",
                    "FieldValueInvalid",
                    "Invalid value: must have exactly one version marked as storage version",
                )
            )
        for n, version in enumerate(spec["versions"]):
            where = f"spec.versions[{n}].schema.openAPIV3Schema"
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            causes.extend(
                [Cause(where, "FieldValueRequired", "Required value: schemas are required")]
                if schema is None
                else _schema_causes(schema, where)
            )
        return causes


def _schema_causes(schema: Json, where: str) -> list[Cause]:
    try:
        Schema(schema, root=True)
    except (
        Exception
    ) as error:  # whatever a CEL or regular-expression compiler dislikes is the author's to mend
        return [Cause(where, "FieldValueInvalid", f"Invalid value: compilation failed: {error}")]
    return []


def check_kind(resource: Resource, obj: Json) -> None:
    """Check that the body is of the path's version and kind; fill in either where it is missing."""
    if obj.get("apiVersion", resource.api_version) != resource.api_version:
        raise bad_request(
            f"the API version in the data ({obj.get('apiVersion')}) does not match the expected API "
            f"version ({resource.api_version})"
        )
    if obj.get("kind", resource.kind) != resource.kind:
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {obj.get("kind")}'
        )
