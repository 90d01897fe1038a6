"""Decides which gates to open and close, and builds the patch. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.domain.deployflow import READINESS_GATE
from shared.domain.graceful_exit import DRAINED
from shared.domain.json_types import Json
from shared.domain.messages import Gate
from shared.kube.clonesets import NO_PULL_IN, CloneSet
from shared.kube.pods import Pod, drain_message, gate_message

OPENED = "PulledIn"
CLOSED = "PulledOut"
UNCLAIMED = "Unclaimed"
"""The reason of a gate that was opened without a command."""
HELD = "Held"
"""The reason of a gate that somebody else opened before the release did, and that was closed again."""


def needs_command(pod: Pod, *, opened: bool, sequence: int) -> bool:
    """Decide whether a command has yet to change this pod; one with a lower sequence than the last never does."""
    if pod.deleting or pod.gate == Gate.NONE or pod.sequence > sequence:
        return False
    return (pod.gate == Gate.OPEN) != opened


def is_unclaimed(pod: Pod, cloneset: CloneSet) -> bool:
    """Decide whether no release will open this pod's gate: a node drain, a crash, an HPA or a person created it.

    A hold covers the pods of the CloneSet's update revision, which is not known before the CloneSet's controller
    has caught up; the label of a pod's own revision may have been edited. A release that Triton 0.1.x began covers
    them too, until it is taken over. The pods of a canceled batch are claimed until OpenKruise has removed them: it
    removes those without traffic first.
    """
    if not waits_for_gate(pod) or NO_PULL_IN in cloneset.metadata.annotations or not _owns(cloneset, pod):
        return False
    if may_remove(cloneset):
        return False
    of_batch = pod.revision == cloneset.status.update_revision or pod.has_edited_revision
    return not of_batch or (cloneset.hold is None and not cloneset.owner)


def may_remove(cloneset: CloneSet) -> bool:
    """Decide whether OpenKruise may be about to remove pods of it: it has not caught up, or has too many."""
    return not cloneset.settled or cloneset.status.replicas > cloneset.spec.replicas


def waits_for_gate(pod: Pod) -> bool:
    """Decide whether only the gate keeps this pod from its traffic, and no command closed it."""
    condition = pod.condition(READINESS_GATE)
    pulled_out = condition is not None and condition.reason == CLOSED
    runs = pod.containers_ready and not pod.deleting and not pod.ended
    return pod.gate == Gate.CLOSED and runs and not pulled_out and bool(pod.key.instance)


def is_opened_by_other(old: Pod, new: Pod) -> bool:
    """Decide whether somebody else has opened the gate of a pod that never had traffic.

    Not of a pod that had: whoever opens its gate again only undoes what somebody has done by hand.
    """
    before, after = old.condition(READINESS_GATE), new.condition(READINESS_GATE)
    if (old.gate, new.gate) != (Gate.CLOSED, Gate.OPEN) or after is None:
        return False
    return after.reason not in {OPENED, UNCLAIMED} and (before is None or before.reason == HELD)


def is_held(pod: Pod, cloneset: CloneSet) -> bool:
    """Decide whether a release has yet to open the gate of this pod, so that nobody else may."""
    if pod.gate != Gate.OPEN or pod.deleting or NO_PULL_IN in cloneset.metadata.annotations:
        return False
    of_batch = pod.revision == cloneset.status.update_revision or pod.has_edited_revision
    return cloneset.hold is not None and cloneset.settled and of_batch and _owns(cloneset, pod)


def _owns(cloneset: CloneSet, pod: Pod) -> bool:
    owner = pod.controller
    return owner is not None and owner.uid == cloneset.metadata.uid


def gate_patch(
    pod: Pod, *, opened: bool, sequence: int, now: datetime, reason: str = "", drain_after: int = 0
) -> Json:
    """Return a strategic merge patch of `pods/status` that only applies to the pod as it was read.

    `reason`: of a change without a command. `drain_after` in seconds. Closing the gate of a pod that reports its
    connections begins its draining.
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
