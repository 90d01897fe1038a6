"""Objects as a campaign's checks read them."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.campaigns.observed import INSTANCE, Flow
from shared.domain.deployflow import INSTANCE_LABEL, READINESS_GATE
from shared.domain.json_types import Json
from shared.kube.clonesets import CloneSet
from shared.kube.pods import REVISION_LABEL, Pod


def pod(
    name: str = "a",
    *,
    image: str = "app1:good",
    ready: bool = True,
    containers: bool = True,
    gate: bool = True,
    deleting: bool = False,
) -> Pod:
    conditions = {"ContainersReady": containers, "Ready": ready, READINESS_GATE: gate}
    meta: Json = {
        "name": name,
        "namespace": "here",
        "uid": f"uid-{name}",
        "labels": {INSTANCE_LABEL: INSTANCE, REVISION_LABEL: f"app-{image}"},
    }
    body = {
        "metadata": meta | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}),
        "spec": {
            "containers": [{"image": image}],
            "readinessGates": [{"conditionType": READINESS_GATE}],
        },
        "status": {
            "conditions": [{"type": kind, "status": str(value)} for kind, value in conditions.items()]
        },
    }
    return msgspec.convert(body, Pod)


def cloneset(replicas: int = 2, *, annotations: Json | None = None, **spec: Any) -> CloneSet:
    meta = {"name": INSTANCE, "uid": "uid-cloneset", "annotations": annotations or {}}
    body = {
        "metadata": meta,
        "spec": {"replicas": replicas, **spec},
        "status": {"updateRevision": "app-app1:good"},
    }
    return msgspec.convert(body, CloneSet)


def flow(
    name: str = "release-1",
    *,
    action: str = "update",
    phase: str = "Success",
    image: str = "app1:good",
    replicas: int = 2,
    at: int = 10,
    lasts: int = 20,
    batches: int = 1,
    finalizers: list[str] | None = None,
    annotations: Json | None = None,
    **status: Any,
) -> Flow:
    """Return a release that began `at` seconds after midnight; `batches`: those that have finished."""
    finished = phase in {"Success", "Failed", "Canceled", "Aborted"}
    conditions = [
        {"batch": number, "phase": "Baked", "finishedAt": _time(at + lasts)}
        for number in range(1, batches + 1)
    ]
    body = {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "finalizers": finalizers or [],
            "annotations": annotations or {},
        },
        "spec": {
            "action": action,
            "application": {
                "replicas": replicas,
                "template": {"spec": {"containers": [{"image": image}]}},
            },
        },
        "status": {
            "phase": phase,
            "finished": finished,
            "startedAt": _time(at),
            "finishedAt": _time(at + lasts) if finished else None,
            "finishedBatches": batches,
            "conditions": conditions,
            **status,
        },
    }
    return msgspec.convert(body, Flow)


def _time(seconds: int) -> str:
    return f"1970-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z"
