"""Which gates to open and close. Pure: from a pod, a command or a CloneSet to the one patch, or to none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from shared.domain.deployflow import READINESS_GATE
from shared.domain.graceful_exit import DRAINED
from shared.domain.messages import Gate
from shared.kube.clonesets import NO_PULL_IN, CloneSet
from shared.kube.pods import Pod, drain_message, gate_message

Json = dict[str, Any]

OPENED = "PulledIn"
CLOSED = "PulledOut"
UNCLAIMED = "Unclaimed"
"""Why a gate is open that no command opened."""


def commanded(pod: Pod, *, opened: bool, sequence: int) -> bool:
    """Whether a command still has to be carried out on this pod; a lower sequence never is."""
    if pod.deleting or pod.gate == Gate.NONE or pod.sequence > sequence:
        return False
    return (pod.gate == Gate.OPEN) != opened


def unclaimed(pod: Pod, cloneset: CloneSet) -> bool:
    """Whether this pod waits for nobody: a drain, a crash, an HPA or a person made it, no release did.

    A hold covers the pods of the CloneSet's update revision; as long as its controller has not caught up,
    which revision that is is not known. So does a release that Triton 0.1.x began, until it is taken over.
    """
    if not waits(pod) or NO_PULL_IN in cloneset.metadata.annotations:
        return False
    if cloneset.hold is None and not cloneset.owner:
        return True
    return cloneset.settled and pod.revision != cloneset.status.update_revision


def waits(pod: Pod) -> bool:
    """Whether the gate is all that keeps this pod from its traffic, and nobody closed it on purpose."""
    condition = pod.condition(READINESS_GATE)
    pulled_out = condition is not None and condition.reason == CLOSED
    return pod.gate == Gate.CLOSED and pod.containers_ready and not pod.deleting and not pulled_out


def patch(
    pod: Pod, *, opened: bool, sequence: int, now: datetime, reason: str = "", drain_after: int = 0
) -> Json:
    """A strategic merge patch of `pods/status`, for this very pod as it was read; `reason`: of a gate that no command
    moves.

    With its gate a pod that tells of its connections begins to drain.
    """
    why = reason or (OPENED if opened else CLOSED)
    conditions = [condition_of(READINESS_GATE, opened, why, gate_message(sequence), now)]
    if not opened and pod.drain is not None:
        conditions.append(condition_of(DRAINED, False, CLOSED, drain_message(drain_after), now))
    return status_patch(pod, conditions)


def status_patch(pod: Pod, conditions: list[Json]) -> Json:
    return {
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": {"conditions": conditions},
    }


def condition_of(kind: str, status: bool, reason: str, message: str, now: datetime) -> Json:
    return {
        "type": kind,
        "status": "True" if status else "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
