"""The columns of `kubectl get pods`, and the one word that sums a pod up in STATUS."""

from __future__ import annotations

from typing import Any

from shared.domain.json_types import Json

from .objects import is_terminating, is_true
from .resources import Column

POD_COLUMNS = (
    Column("Ready", ""),
    Column("Status", ""),
    Column("Restarts", ""),
    Column("Age", ""),
    Column("IP", "", priority=1),
    Column("Node", "", priority=1),
    Column("Nominated Node", "", priority=1),
    Column("Readiness Gates", "", priority=1),
)


def pod_word(pod: Json) -> str:
    """Return the text of the column STATUS: the phase, unless a container or the deletion says more."""
    status = pod.get("status") or {}
    word = status.get("reason") or status.get("phase") or "Unknown"
    init = status.get("initContainerStatuses") or []
    if not is_true(pod, "Initialized"):
        for n, container in enumerate(init):
            if container.get("ready"):
                continue
            reason = ((container.get("state") or {}).get("waiting") or {}).get("reason")
            word = f"Init:{reason}" if reason not in (None, "PodInitializing") else f"Init:{n}/{len(init)}"
            return "Terminating" if is_terminating(pod) else word
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        state = container.get("state") or {}
        if reason := (state.get("waiting") or {}).get("reason"):
            word = reason
        elif terminated := state.get("terminated"):
            word = terminated.get("reason") or f"ExitCode:{terminated.get('exitCode')}"
        elif container.get("ready") and state.get("running"):
            running = True
    if word == "Completed" and running:
        word = "Running"
    return "Terminating" if is_terminating(pod) else str(word)


def pod_cells(pod: Json, age: str) -> list[Any]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    ready = sum(bool(container.get("ready")) for container in containers)
    restarts = sum(container.get("restartCount", 0) for container in containers)
    gates = [gate["conditionType"] for gate in spec.get("readinessGates") or ()]
    true = {c["type"] for c in status.get("conditions") or () if c.get("status") == "True"}
    opened = f"{sum(gate in true for gate in gates)}/{len(gates)}" if gates else "<none>"
    return [
        f"{ready}/{len(spec.get('containers') or ())}",
        pod_word(pod),
        str(restarts),
        age,
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        "<none>",
        opened,
    ]
