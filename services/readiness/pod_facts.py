"""Derives the fact about a pod: its phase, and whether it has failed and why. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from services.readiness.gate_decisions import UNCLAIMED
from shared.domain.deployflow import READINESS_GATE, FailureReason, PodPhase
from shared.domain.messages import Gate, PodFact
from shared.kube.pods import ContainerStatus, Pod
from shared.kube.reflector import milliseconds

FAILED_WAITING: Final = frozenset(
    {
        FailureReason.CRASH_LOOP_BACK_OFF,
        FailureReason.IMAGE_PULL_BACK_OFF,
        FailureReason.INVALID_IMAGE_NAME,
        FailureReason.ERR_IMAGE_NEVER_PULL,
        FailureReason.CREATE_CONTAINER_CONFIG_ERROR,
        FailureReason.CREATE_CONTAINER_ERROR,
        FailureReason.RUN_CONTAINER_ERROR,
    }
)
"""Reasons of a waiting container that count as a failure. Not `ErrImagePull`: that is one failed attempt,
which the kubelet repeats; after the next failure the reason is ImagePullBackOff."""

LIFECYCLE_STATE: Final = "lifecycle.apps.kruise.io/state"
"""The label in which OpenKruise says how far a pod has come with the hooks of its CloneSet."""
PREPARING_DELETE: Final = "PreparingDelete"

LONGEST_MESSAGE: Final = 400
"""Bytes; a termination message has up to 4 KB, and a thousand facts go into one message of less than 1 MB."""


LONGEST_NAME: Final = 253
"""Characters of a reason, a node or an address: no cluster writes more, and every message about the pod has them."""


class Detail(NamedTuple):
    """The last warning event and the log of a pod in trouble; empty while they are not known."""

    event: str = ""
    log: str = ""


NO_DETAIL: Final = Detail()


def fact_of(pod: Pod, detail: Detail = NO_DETAIL) -> PodFact:
    phase, reason, message = phase_of(pod)
    ports = [port.container_port for container in pod.spec.containers for port in container.ports]
    meta = pod.metadata
    return PodFact(
        uid=meta.uid,
        name=meta.name,
        revision=pod.revision,
        phase=phase,
        ready=pod.ready and not pod.deleting,
        containers_ready=pod.containers_ready and not pod.deleting,
        gate=pod.gate,
        sequence=pod.sequence,
        deleting=pod.deleting,
        drained=pod.drained,
        ip=pod.status.pod_ip[:LONGEST_NAME],
        port=ports[0] if ports else 0,
        node=pod.spec.node_name[:LONGEST_NAME],
        image=shortened(pod.spec.containers[0].image) if pod.spec.containers else "",
        restarts=sum(container.restart_count for container in pod.status.container_statuses),
        reason=reason[:LONGEST_NAME],
        message=shortened(message),
        event=detail.event,
        log=detail.log,
        since=_troubled_since(pod, phase),
        created_at=milliseconds(meta.creation_timestamp),
        at=_since(pod, phase),
        held=held_by(pod),
    )


def held_by(pod: Pod) -> str:
    """Return what keeps a pod that is to be deleted from it; empty where nothing is known to."""
    if pod.deleting and pod.metadata.finalizers:
        return shortened(f"finalizer {', '.join(pod.metadata.finalizers)}")
    if pod.metadata.labels.get(LIFECYCLE_STATE) == PREPARING_DELETE:
        return "the preDelete hook of its CloneSet"
    return ""


def shortened(message: str) -> str:
    return message.encode()[:LONGEST_MESSAGE].decode(errors="ignore")


def has_failed(pod: Pod) -> bool:
    return phase_of(pod)[0] == PodPhase.FAILED


def phase_of(pod: Pod) -> tuple[PodPhase, str, str]:
    """Return the phase of a pod, with reason and message if it has failed or makes no progress."""
    status = pod.status
    if status.phase == "Failed":
        return PodPhase.FAILED, status.reason or "Failed", status.message
    for container in (*status.init_container_statuses, *status.container_statuses):
        waiting = container.state.waiting
        if waiting is not None and waiting.reason in FAILED_WAITING:
            return PodPhase.FAILED, waiting.reason, _failure_message(container)
    if pod.ready:
        gate = pod.condition(READINESS_GATE)
        if gate is not None and gate.reason == UNCLAIMED:
            return PodPhase.READY, UNCLAIMED, "no release claims it, so its gate was opened"
        return PodPhase.READY, "", ""
    if pod.containers_ready:
        return PodPhase.CONTAINERS_READY, *_not_ready_reason(pod)
    scheduled = pod.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return PodPhase.PENDING, scheduled.reason, scheduled.message
    waits = next((c.state.waiting for c in status.container_statuses if c.state.waiting), None)
    reason, message = (waits.reason, waits.message) if waits else _not_ready_reason(pod)
    return (PodPhase.RUNNING if status.phase == "Running" else PodPhase.PENDING), reason, message


def _not_ready_reason(pod: Pod) -> tuple[str, str]:
    """Return why a pod is not Ready although our gate is open."""
    if pod.gate != Gate.OPEN:
        return "", ""
    contained = pod.condition("ContainersReady")
    if not pod.containers_ready:
        return (contained.reason, contained.message) if contained else ("", "")
    gates = [gate.condition_type for gate in pod.spec.readiness_gates]
    closed = [gate for gate in gates if not pod.is_true(gate)]
    return (
        ("ReadinessGatesNotReady", f"readiness gate {', '.join(closed)} is not open") if closed else ("", "")
    )


def _failure_message(container: ContainerStatus) -> str:
    waiting = container.state.waiting
    text = f"container {container.name}: {waiting.message}" if waiting else f"container {container.name}"
    ended = container.last_state.terminated
    if ended is not None:
        text += f" (exit code {ended.exit_code}{f', {ended.reason}' if ended.reason else ''})"
        text += f": {ended.message}" if ended.message else ""
    return text


_CONDITION_OF = {
    PodPhase.READY: "Ready",
    PodPhase.CONTAINERS_READY: "ContainersReady",
    PodPhase.FAILED: "ContainersReady",
    PodPhase.RUNNING: "Initialized",
    PodPhase.PENDING: "PodScheduled",
}


def _troubled_since(pod: Pod, phase: PodPhase) -> int:
    """Return since when, in ms, its containers are not ready, or it takes no traffic with an open gate; 0: neither."""
    if phase == PodPhase.FAILED:
        contained = pod.condition("ContainersReady")
        if contained is not None and contained.status != "True" and contained.last_transition_time:
            return milliseconds(contained.last_transition_time)
        ends = [status.last_state.terminated for status in pod.status.container_statuses]
        return max((milliseconds(end.finished_at) for end in ends if end), default=0) or _since(pod, phase)
    if pod.gate != Gate.OPEN or pod.ready or pod.deleting:
        return 0
    conditions = (pod.condition("Ready"), pod.condition(READINESS_GATE))
    return max(milliseconds(condition.last_transition_time) for condition in conditions if condition)


def _since(pod: Pod, phase: PodPhase) -> int:
    """Return when, in ms, it entered its phase or its gate changed; by its conditions, so equal in every replica."""
    if pod.deleting:  # the timestamp is the end of the grace period
        grace = pod.metadata.deletion_grace_period_seconds or 0
        return milliseconds(pod.metadata.deletion_timestamp) - grace * 1000
    conditions = (pod.condition(_CONDITION_OF[phase]), pod.condition(READINESS_GATE))
    times = [milliseconds(condition.last_transition_time) for condition in conditions if condition]
    return max([*times, milliseconds(pod.metadata.creation_timestamp)])
