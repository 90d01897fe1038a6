"""DeployFlows, instances and pods as the first version of the API shows them. Pure.

Every key is always there, and no other; an unknown value is the zero value, and a time that is not known is None.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.domain.object_bounds import count_in

NEVER: Final = "0001-01-01T00:00:00Z"
"""Go's zero time."""
NO_QUANTITY: Final = "0"
"""What Kubernetes' Go code writes for a quantity that is not set."""

_COUNTS: Final = (
    "availableReplicas",
    "updatedReplicas",
    "updatedReadyReplicas",
    "batches",
    "finishedBatches",
    "finishedReplicas",
    "failedReplicas",
)
_TIMES: Final = ("startedAt", "finishedAt", "updatedAt")


def deploy(flow: Json) -> Json:
    """Show a DeployFlow of `FlowQueries`."""
    spec, status = flow["spec"], flow["status"]
    application = spec["application"]
    return {
        "name": flow["metadata"]["name"],
        "appID": int(application.get("appID") or 0),
        "groupID": int(application.get("groupID") or 0),
        "namespace": flow["metadata"]["namespace"],
        "appName": application.get("appName", ""),
        "instanceName": application.get("instanceName", ""),
        "replicas": int(1 if application.get("replicas") is None else application["replicas"]),
        "action": spec["action"],
        "mode": strategy_of(flow).get("mode", str(df.Mode.MANUAL)),
        **{name: status.get(name) or 0 for name in _COUNTS},
        "updateRevision": revision(status.get("updateRevision") or ""),
        "conditions": [_condition(batch) for batch in status.get("conditions") or []],
        "paused": bool(status.get("paused")),
        "phase": str(status["phase"]),
        "finished": bool(status["finished"]),
        **{name: moment(status.get(name)) for name in _TIMES},
    }


def _condition(batch: Json) -> Json:
    return {
        "batch": batch["batch"],
        "batchSize": batch.get("batchSize", 0),
        "canary": bool(batch.get("canary")),
        "phase": str(batch["phase"]),
        "failedReplicas": batch.get("failedReplicas", 0),
        "pods": [
            {
                "name": pod["name"],
                "ip": pod.get("ip") or "",
                "port": pod.get("port") or 0,
                "phase": str(pod.get("phase") or ""),
                "pullInStatus": str(pod.get("pullInStatus") or ""),
            }
            for pod in batch.get("pods") or []
        ],
        **{name: moment(batch.get(name)) for name in ("startedAt", "pulledInAt", "finishedAt")},
    }


def with_manual_mode(strategy: Json | None) -> Json:
    """Return a strategy with the default mode of this version: manual."""
    return {"mode": str(df.Mode.MANUAL), **(strategy or {})}


def strategy_of(flow: Json) -> Json:
    """Return the fields of the strategy of its action that are set, as they were sent."""
    field = "updateStrategy" if flow["spec"]["action"] in df.UPDATING else "nonUpdateStrategy"
    return _whole(df.set_fields(flow["spec"].get(field) or {}))


def _whole(fields: Json) -> Json:
    """Return the fields with a 3.0 as 3: the API server stores it as it was sent, and protobuf and Go refuse it."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in fields.items()
    }


def revision(name: str) -> str:
    """Return the hash of a revision named `<instance>-<hash>`."""
    return name.rpartition("-")[2]


def moment(time: str | None) -> str | None:
    """Return a time in whole seconds."""
    if not time:
        return None
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instance(cloneset: Json) -> Json:
    """Show an instance by its CloneSet. `status` is Ready once as many pods as wanted are updated and Ready."""
    meta, spec = cloneset["metadata"], cloneset["spec"]
    status = cloneset.get("status") or {}
    labels = meta.get("labels") or {}
    replicas, ready = spec.get("replicas", 1), status.get("updatedReadyReplicas", 0)
    container = _container(spec["template"]["spec"])
    return {
        "name": meta["name"],
        "namespace": meta["namespace"],
        "availableReplicas": ready,
        "replicas": replicas,
        "status": "Ready" if replicas == ready else "InProgress",
        "appID": count_in(labels.get("app")) or 0,
        "groupID": count_in(labels.get("group")) or 0,
        **_resources(container),
        "image": container.get("image", ""),
        "publicNetwork": False,
        "updateRevision": revision(status.get("updateRevision") or ""),
    }


def pod(item: Json) -> Json:
    """Show a pod, with the container that is the application's: the first."""
    meta, spec = item["metadata"], item["spec"]
    status = item.get("status") or {}
    labels = meta.get("labels") or {}
    container = _container(spec)
    return {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "instanceName": labels.get(df.INSTANCE_LABEL, ""),
        **_resources(container),
        "image": container.get("image", ""),
        "publicNetwork": bool(spec.get("hostNetwork")),
        "containerName": container.get("name", ""),
        "podIP": status.get("podIP", ""),
        "status": pod_phase(item),
        "hostIP": status.get("hostIP", ""),
        "updateRevision": revision(labels.get("controller-revision-hash", "")),
        "creationTimestamp": meta["creationTimestamp"],
    }


def pod_phase(item: Json) -> str:
    """Return the phase of a pod: Pending, Running, ContainersReady, Ready or Failed."""
    status = item.get("status") or {}
    true = {item["type"] for item in status.get("conditions") or [] if item["status"] == "True"}
    for phase in (df.PodPhase.READY, df.PodPhase.CONTAINERS_READY):
        if str(phase) in true:
            return str(phase)
    return str(status.get("phase") or df.PodPhase.PENDING)


def _container(spec: Json) -> Json:
    containers: list[Json] = spec.get("containers") or [{}]
    return containers[0]


def _resources(container: Json) -> Json:
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return {
        "cpu": str(limits.get("cpu", NO_QUANTITY)),
        "memory": str(limits.get("memory", NO_QUANTITY)),
        "guaranteedCPU": str(requests.get("cpu", NO_QUANTITY)),
        "guaranteedMemory": str(requests.get("memory", NO_QUANTITY)),
    }
