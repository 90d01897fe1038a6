"""Pods as the API server shows them, in few words."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.domain.deployflow import READINESS_GATE
from shared.domain.json_types import Json
from shared.kube.pods import Pod, gate_message
from tests.unit.parts import LABELS

CREATED = "2026-01-01T00:00:00Z"
AT = 1_767_225_600_000
"""CREATED in milliseconds since 1970."""


def conditions(**statuses: bool | str) -> list[Json]:
    """`PodScheduled=True`; a text is the time of the condition, which is true then."""
    return [
        {
            "type": READINESS_GATE if name == "gate" else name,
            "status": "True" if status else "False",
            "lastTransitionTime": status if isinstance(status, str) else CREATED,
        }
        for name, status in statuses.items()
    ]


def pod(
    name: str = "web-1",
    status: Json | None = None,
    *,
    gate: str | None = "closed",
    sequence: int | None = None,
    reason: str = "",
    instance: str = "web",
    **meta: Any,
) -> Pod:
    """`gate`: none, closed (nobody has written it yet), out, open; `sequence` of the command that wrote it."""
    status = dict(status or {})
    written = {"open": "True", "out": "False"}.get(gate or "")
    if written is not None:
        condition = {
            "type": READINESS_GATE,
            "status": written,
            "reason": reason or {"True": "PulledIn", "False": "PulledOut"}[written],
            "message": "" if sequence is None else gate_message(sequence),
        }
        status["conditions"] = [*status.get("conditions", []), condition]
    labels = {**LABELS, "app.kubernetes.io/instance": instance, "controller-revision-hash": "new"}
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "creationTimestamp": CREATED,
                "labels": labels,
                "ownerReferences": [
                    {"kind": "CloneSet", "name": instance, "uid": f"uid-{instance}", "controller": True}
                ],
                **meta,
            },
            "spec": {
                "nodeName": "node-1",
                "containers": [{"name": "main", "image": "demo:1", "ports": [{"containerPort": 80}]}],
                "readinessGates": [{"conditionType": "theirs"}]
                + ([] if gate is None else [{"conditionType": READINESS_GATE}]),
            },
            "status": status,
        },
        Pod,
    )


UP: Json = {"phase": "Running", "podIP": "10.1.1.1", "conditions": conditions(ContainersReady=True)}
