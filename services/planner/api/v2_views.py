"""Instances and pods as the second version of the API shows them. Pure."""

from __future__ import annotations

from services.planner.api import v1_views
from shared.domain import deployflow as df
from shared.domain.json_types import Json


def instance(cloneset: Json) -> Json:
    """Show an instance by its CloneSet."""
    meta, spec = cloneset["metadata"], cloneset["spec"]
    status = cloneset.get("status") or {}
    old = v1_views.instance(cloneset)
    labels = meta.get("labels") or {}
    return {
        "name": meta["name"],
        "namespace": meta["namespace"],
        "appID": old["appID"],
        "groupID": old["groupID"],
        "appName": labels.get("app.kubernetes.io/name", ""),
        "labels": labels,
        "status": old["status"] if old["replicas"] else "Stopped",
        "replicas": old["replicas"],
        "currentReplicas": status.get("replicas", 0),
        "readyReplicas": status.get("readyReplicas", 0),
        "availableReplicas": status.get("availableReplicas", 0),
        "updatedReplicas": status.get("updatedReplicas", 0),
        "updatedReadyReplicas": status.get("updatedReadyReplicas", 0),
        "updateRevision": status.get("updateRevision") or "",
        "containers": _containers(spec["template"]["spec"]),
        "createdAt": meta["creationTimestamp"],
    }


def pod(item: Json) -> Json:
    meta, spec = item["metadata"], item["spec"]
    status = item.get("status") or {}
    labels = meta.get("labels") or {}
    phase = v1_views.pod_phase(item)
    return {
        "name": meta["name"],
        "namespace": meta["namespace"],
        "uid": meta["uid"],
        "instance": labels.get(df.INSTANCE_LABEL, ""),
        "phase": phase,
        "inTraffic": phase == df.PodPhase.READY,
        "ip": status.get("podIP", ""),
        "node": spec.get("nodeName", ""),
        "revision": labels.get("controller-revision-hash", ""),
        "restarts": sum(
            container.get("restartCount", 0) for container in status.get("containerStatuses") or []
        ),
        "containers": _containers(spec),
        "deleting": "deletionTimestamp" in meta,
        "createdAt": meta["creationTimestamp"],
    }


def _containers(spec: Json) -> list[Json]:
    return [
        {"name": container.get("name", ""), "image": container.get("image", "")}
        for container in spec.get("containers") or []
    ]
