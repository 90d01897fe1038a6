"""Endpoints and EndpointSlices: which pods of a Service get traffic, following Ready.

Rewriting a list of 500 addresses for each pod that turns Ready would cost more than all the rest, so changes
are gathered for a moment and each Service is written once.
"""

from __future__ import annotations

import asyncio
from typing import Any

from shared.domain.json_types import Json

from .api import Api
from .builtins import ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, PODS, SERVICES
from .objects import condition_of, is_terminating, is_true, labels_of, name_of, namespace_of, uid_of
from .selectors import from_labels, matches
from .store import Event, Record

GATHER_SECONDS = 0.05
"""The delay from a pod's change to the Endpoints that show it."""

SHARE = 4
"""Longer when writing takes long: so many times as long as the last round took, to leave the loop to others."""

SLICE_SIZE = 100
"""Endpoints in one slice, as in Kubernetes."""


class EndpointsController:
    """Keeps the endpoints of all Services that have a selector."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._dirty: set[tuple[str, str]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._gather = GATHER_SECONDS
        api.store.listen(SERVICES.key, self._service_changed)
        api.store.listen(PODS.key, self._pod_changed)

    def _service_changed(self, event: Event) -> None:
        self._mark(event.record.obj)

    def _pod_changed(self, event: Event) -> None:
        pod, before = event.record.obj, event.before.obj if event.before else None
        if before is not None and event.kind == "MODIFIED" and _face(before) == _face(pod):
            return
        for record in self._api.store.collection(SERVICES.key).records(namespace_of(pod)):
            selector = from_labels(record.obj["spec"].get("selector") or {})
            if selector and any(matches(selector, labels_of(side)) for side in (pod, before) if side):
                self._mark(record.obj)

    def _mark(self, service: Json) -> None:
        self._dirty.add((namespace_of(service), name_of(service)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._gather, self._work)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _work(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._timer = None
        dirty, self._dirty = self._dirty, set()
        for namespace, name in dirty:
            service = self._api.store.get(SERVICES.key, namespace, name)
            if service is None:
                self._api.store.remove(ENDPOINTS.key, namespace, name)
            elif service.obj["spec"].get("selector"):
                self._write(service.obj)
        self._gather = max(GATHER_SECONDS, SHARE * (loop.time() - begun))

    def _write(self, service: Json) -> None:
        selector = from_labels(service["spec"]["selector"])
        namespace = namespace_of(service)
        pods = [
            record.obj
            for record in self._api.store.collection(PODS.key).ordered(namespace)
            if matches(selector, labels_of(record.obj)) and (record.obj.get("status") or {}).get("podIP")
        ]
        self._write_endpoints(service, [pod for pod in pods if not is_terminating(pod)])
        self._write_slices(service, pods)

    def _write_endpoints(self, service: Json, pods: list[Json]) -> None:
        ready, waiting = (
            [pod for pod in pods if is_true(pod, "Ready")],
            [p for p in pods if not is_true(p, "Ready")],
        )
        parts = {
            "addresses": [_address(pod) for pod in ready],
            "notReadyAddresses": [_address(pod) for pod in waiting],
        }
        subset: Json = {key: value for key, value in parts.items() if value}
        if subset and (ports := _ports(service, pods[0], slices=False)):
            subset["ports"] = ports
        body: Json = {"metadata": {"name": name_of(service), "labels": labels_of(service)}}
        if subset:
            body["subsets"] = [subset]
        self._put(ENDPOINTS, namespace_of(service), body)

    def _write_slices(self, service: Json, pods: list[Json]) -> None:
        namespace, name = namespace_of(service), name_of(service)
        wanted = max(-(-len(pods) // SLICE_SIZE), 1)
        for n in range(wanted):
            part = pods[n * SLICE_SIZE : (n + 1) * SLICE_SIZE]
            labels = {
                **labels_of(service),
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            }
            self._put(
                ENDPOINT_SLICES,
                namespace,
                {
                    "metadata": {
                        "name": f"{name}-{n:05x}",
                        "labels": labels,
                        "ownerReferences": [_owner(service)],
                    },
                    "addressType": "IPv4",
                    "endpoints": [_endpoint(pod) for pod in part],
                    "ports": _ports(service, part[0], slices=True) if part else [],
                },
            )
        surplus = wanted
        while self._api.store.remove(ENDPOINT_SLICES.key, namespace, f"{name}-{surplus:05x}"):
            surplus += 1

    def _put(self, resource: Any, namespace: str, body: Json) -> None:
        """Create the object (not in a namespace that goes), or update it only if it has changed."""
        name = body["metadata"]["name"]
        before: Record | None = self._api.store.get(resource.key, namespace, name)
        if before is None:
            space = self._api.store.get(NAMESPACES.key, "", namespace)
            if space is not None and not is_terminating(space.obj):
                self._api.create(resource, namespace, body)
            return
        kept = {key: before.obj[key] for key in ("kind", "apiVersion")}
        obj = {**kept, **body, "metadata": {**before.obj["metadata"], **body["metadata"]}}
        if obj != before.obj:
            self._api.store.put(resource.key, obj)


def _face(pod: Json) -> tuple[Any, ...]:
    """Return the parts of a pod on which Services depend."""
    status = pod.get("status") or {}
    ready = condition_of(pod, "Ready") or {}
    return labels_of(pod), status.get("podIP"), ready.get("status"), is_terminating(pod)


def _target(pod: Json) -> Json:
    return {"kind": "Pod", "name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod)}


def _address(pod: Json) -> Json:
    return {"ip": pod["status"]["podIP"], "nodeName": pod["spec"].get("nodeName"), "targetRef": _target(pod)}


def _endpoint(pod: Json) -> Json:
    ready, ending = is_true(pod, "Ready"), is_terminating(pod)
    return {
        "addresses": [pod["status"]["podIP"]],
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": _target(pod),
        "conditions": {"ready": ready and not ending, "serving": ready, "terminating": ending},
    }


def _ports(service: Json, pod: Json, slices: bool) -> list[Json]:
    ports = []
    for port in service["spec"].get("ports") or ():
        entry: Json = {
            "port": _number(port.get("targetPort", port["port"]), pod),
            "protocol": port["protocol"],
        }
        if port.get("name") or slices:
            entry["name"] = port.get("name", "")
        if entry["port"]:
            ports.append(entry)
    return ports


def _number(target: int | str, pod: Json) -> int | None:
    """Return a target port's number; look up a named one in the pod's containers."""
    if isinstance(target, int):
        return target
    return next(
        (
            port["containerPort"]
            for container in pod["spec"]["containers"]
            for port in container.get("ports") or ()
            if port.get("name") == target
        ),
        None,
    )


def _owner(service: Json) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "name": name_of(service),
        "uid": uid_of(service),
        "controller": True,
        "blockOwnerDeletion": True,
    }
