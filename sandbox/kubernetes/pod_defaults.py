"""Defaults and checks of the API server for pods and pod templates.

The defaults matter beyond cosmetics: OpenKruise writes them into a CloneSet's template, so whoever compares
templates has to expect them.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from shared.domain.json_types import Json

from .causes import Cause
from .metadata import label_complaints

_POD_SPEC: Json = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
_CONTAINER: Json = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_PROBE: Json = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_HTTP_GET: Json = {"path": "/", "scheme": "HTTP"}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_CHANGEABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "nodeName")


def _pull_policy(image: str) -> str:
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    return "Always" if tag in ("", "latest") and "@" not in image else "IfNotPresent"


def _container(container: Json) -> Json:
    result = {**container}
    for key, value in _CONTAINER.items():
        result.setdefault(key, value)
    if "image" in container:
        result.setdefault("imagePullPolicy", _pull_policy(container["image"]))
    if container.get("ports"):
        result["ports"] = [{**port, "protocol": port.get("protocol", "TCP")} for port in container["ports"]]
    for probe in _PROBES:
        if isinstance(container.get(probe), dict):
            result[probe] = _handler({**_PROBE, **container[probe]})
    if isinstance(lifecycle := container.get("lifecycle"), dict):
        result["lifecycle"] = {
            name: _handler(hook) if isinstance(hook, dict) else hook for name, hook in lifecycle.items()
        }
    return result


def _handler(handler: Json) -> Json:
    """Return a probe or hook with defaults, those of an HTTP request included."""
    get = handler.get("httpGet")
    return {**handler, "httpGet": {**_HTTP_GET, **get}} if isinstance(get, dict) else handler


def pod_spec(spec: Json) -> Json:
    """Return a pod's or template's spec with the API server's defaults."""
    result = {**_POD_SPEC, **spec}
    for field in ("containers", "initContainers"):
        if isinstance(spec.get(field), list):
            result[field] = [
                _container(container) for container in spec[field] if isinstance(container, dict)
            ]
    return result


def cloneset_template(template: Json) -> Json:
    """Return a CloneSet's template with OpenKruise's defaults: images are always pulled, for updates in place."""
    metadata = {"creationTimestamp": None, **(template.get("metadata") or {})}
    spec = template.get("spec") or {}
    if isinstance(containers := spec.get("containers"), list):
        pulled = [{"imagePullPolicy": "Always", **c} for c in containers if isinstance(c, dict)]
        spec = {**spec, "containers": pulled}
    return {**template, "metadata": metadata, "spec": pod_spec(spec)}


def template_causes(template: Json, path: str) -> list[Cause]:
    """Return what is wrong with the containers of a pod spec: their names, images, ports and mounts."""
    spec = template.get("spec") or {}
    containers = spec.get("containers")
    if not isinstance(containers, list) or not containers:
        return [Cause(f"{path}.spec.containers", "FieldValueRequired", "Required value")]
    causes: list[Cause] = []
    names: list[Any] = []
    for field in ("containers", "initContainers"):
        for n, container in enumerate(spec.get(field) or ()):
            where = f"{path}.spec.{field}[{n}]"
            causes.extend(_container_causes(container, where, spec))
            if container.get("name") in names:
                text = f'Duplicate value: "{container.get("name")}"'
                causes.append(Cause(f"{where}.name", "FieldValueDuplicate", text))
            names.append(container.get("name"))
    return causes


def _container_causes(container: Json, where: str, spec: Json) -> list[Cause]:
    causes = [
        Cause(f"{where}.{field}", "FieldValueRequired", "Required value")
        for field in ("name", "image")
        if not container.get(field)
    ]
    for text in label_complaints(name) if (name := container.get("name")) else ():
        causes.append(Cause(f"{where}.name", "FieldValueInvalid", f'Invalid value: "{name}": {text}'))
    for n, port in enumerate(container.get("ports") or ()):
        number = port.get("containerPort")
        if not isinstance(number, int) or not 0 < number < 65536:
            causes.append(
                Cause(
                    f"{where}.ports[{n}].containerPort",
                    "FieldValueInvalid",
                    f"Invalid value: {number}: must be between 1 and 65535, inclusive",
                )
            )
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    for n, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            text = f'Not found: "{mount.get("name")}"'
            causes.append(Cause(f"{where}.volumeMounts[{n}].name", "FieldValueNotFound", text))
    return causes


def forbidden_changes(new: Json, old: Json) -> list[Cause]:
    """Return the refusal of a changed pod spec: only images and a few numbers may change."""

    def fixed(spec: Json) -> Json:
        kept = {key: value for key, value in spec.items() if key not in _CHANGEABLE}
        return {
            **kept,
            "containers": [{**c, "image": ""} for c in spec.get("containers") or ()],
            "initContainers": [{**c, "image": ""} for c in spec.get("initContainers") or ()],
        }

    if fixed(new["spec"]) == fixed(old["spec"]):
        return []
    return [
        Cause(
            "spec",
            "FieldValueForbidden",
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
            "previously negative)",
        )
    ]


class Addresses:
    """Hands out addresses of one network, one after the other."""

    def __init__(self, network: str) -> None:
        self._next = int(ipaddress.ip_network(network).network_address) + 1

    def take(self) -> str:
        self._next += 1
        return str(ipaddress.ip_address(self._next))
