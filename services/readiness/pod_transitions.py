"""Derives the transitions of a pod between two states, for the log: each once, in order, with its duration. Pure.

Kubernetes truncates its times to seconds. The time of the observation is more precise, if it lies within that second.
Ids are made of values that every replica reads alike: published again after a take-over, a transition has the same id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.readiness.gate_decisions import CLOSED
from services.readiness.pod_facts import FAILED_WAITING, LONGEST_NAME, phase_of, shortened
from shared.domain.deployflow import READINESS_GATE, PodPhase
from shared.domain.messages import Gate, PodTransition, Transition
from shared.kube.pods import Pod, PodMeta
from shared.kube.reflector import milliseconds

RECENT_MS: Final = 2 * 3600 * 1000
"""The oldest transition that is published of a pod observed for the first time: others published what is older."""
NORMAL: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons of a waiting container that every pod passes through."""

_NOTHING: Final = Pod(metadata=PodMeta())
"""The state before the first observation."""

Times = Mapping[str, int]
"""The times of the transitions of a pod that were published, in ms, by the names of `PodTransition`."""


def transitions_between(old: Pod | None, new: Pod, seen: int, known: Times) -> list[Transition]:
    """Return the transitions from `old` (None: first observation) to `new`, observed at `seen` in ms."""
    found = _TransitionList(old, new, seen, known)
    before = old or _NOTHING
    if old is None:
        found.add(PodTransition.CREATED, "", milliseconds(new.metadata.creation_timestamp))
    if new.is_true("PodScheduled") and not before.is_true("PodScheduled"):
        found.add(PodTransition.SCHEDULED, "", _since(new, "PodScheduled"), PodTransition.CREATED)
    if _is_running(new) and not _is_running(before):
        found.add(PodTransition.STARTED, "", _started_at(new), PodTransition.SCHEDULED)
    if (restarts := _restarts(new)) > _restarts(before):
        at, *why = _last_exit(new)
        found.add(PodTransition.RESTARTED, restarts, at, why=(why[0], why[1]))
    # a pod that took traffic before becomes Ready again, which says enough
    if new.containers_ready and not before.containers_ready and PodTransition.UNREADY not in known:
        at = _since(new, "ContainersReady")
        found.add(PodTransition.CONTAINERS_READY, at, at, PodTransition.STARTED)
    _add_gate_transitions(found, before, new)
    if not new.deleting:
        _add_troubles(found, before, new, restarts)
    if new.deleting and not before.deleting:
        found.add(PodTransition.TERMINATING, "", deletion_began_at(new))
    return found.items


def has_left(old: Pod, new: Pod) -> bool:
    """Return whether a pod that still exists has left the instance that it belonged to."""
    return bool(old.key.instance) and not old.ended and (new.ended or new.key != old.key)


def departure_of(pod: Pod, seen: int) -> Transition:
    """Return the transition of a pod that has left its instance, observed at `seen` in ms."""
    why = pod.status.reason or pod.status.phase, pod.status.message
    if not pod.ended:
        why = "Released", "somebody changed its labels or its owner, so that its CloneSet gave it up"
    return Transition(
        name=PodTransition.LEFT,
        id=PodTransition.LEFT,
        at=seen,
        age=max(seen - milliseconds(pod.metadata.creation_timestamp), 0),
        reason=why[0][:LONGEST_NAME],
        message=shortened(why[1]),
    )


def deletion_began_at(pod: Pod) -> int:
    """Return when the deletion of a pod began, in ms; 0 if it did not."""
    grace = pod.metadata.deletion_grace_period_seconds or 0
    at = milliseconds(pod.metadata.deletion_timestamp)
    return at - grace * 1000 if at else 0


class _TransitionList:
    """Collects transitions; none gets a time before that of an earlier one."""

    def __init__(self, old: Pod | None, new: Pod, seen: int, known: Times) -> None:
        self.items: list[Transition] = []
        self._times = dict(known)
        self._pod = old or new
        self._seen = seen
        self._first = old is None
        self._since = seen - RECENT_MS if old is None else 0

    def knows(self, name: PodTransition) -> bool:
        return name in self._times

    def add(
        self, name: PodTransition, n: object, at: int, after: str = "", why: tuple[str, str] = ("", "")
    ) -> None:
        """Add a transition.

        `n`: unique among those of that name. `at`: its time by Kubernetes in ms, 0 if it has none. `after`: the
        transition from which its duration counts.
        """
        latest = max(self._times.values(), default=0)
        # without a time of Kubernetes it has just happened, or, at the first observation, some time before
        seen = latest or self._seen if self._first and not at else self._seen
        at = max(estimated_time(at, seen), latest)
        since = self._times.get(after) or (_reached_at(self._pod, after) if after else 0)
        self._times[name] = at
        if at >= self._since:
            made = self._times.get(PodTransition.CREATED) or _reached_at(self._pod, PodTransition.CREATED)
            self.items.append(
                Transition(
                    name=name,
                    id=f"{name}:{n}" if n else str(name),
                    at=at,
                    since=min(since, at),
                    age=max(at - made, 0),
                    reason=why[0][:LONGEST_NAME],
                    message=shortened(why[1]),
                )
            )


def estimated_time(at: int, seen: int) -> int:
    """Return the best estimate, in ms, of a time that Kubernetes gives as `at` (0: unknown), mostly to the second."""
    if not at:
        return seen
    return min(seen, at + 999 if at % 1000 == 0 else at)


def _add_gate_transitions(found: _TransitionList, before: Pod, new: Pod) -> None:
    gate = new.condition(READINESS_GATE)
    if gate is not None and new.gate != before.gate:
        at = _since(new, READINESS_GATE)
        n = f"{new.sequence}.{at}"
        if new.gate == Gate.OPEN:
            found.add(PodTransition.PULLED_IN, n, at, PodTransition.CONTAINERS_READY)
        elif before.gate == Gate.OPEN or gate.reason == CLOSED:
            found.add(PodTransition.PULLED_OUT, n, at, PodTransition.PULLED_IN)
    if new.deleting or new.ready == before.ready:
        return
    at = _since(new, "Ready")
    if new.ready:
        after = PodTransition.CONTAINERS_READY if new.gate == Gate.NONE else PodTransition.PULLED_IN
        if found.knows(PodTransition.UNREADY):
            after = PodTransition.UNREADY
        found.add(PodTransition.READY, at, at, after, phase_of(new)[1:])
    elif before is not _NOTHING and new.gate != Gate.CLOSED:
        found.add(PodTransition.UNREADY, at, at, PodTransition.READY, phase_of(new)[1:])


def _add_troubles(found: _TransitionList, before: Pod, new: Pod, restarts: int) -> None:
    phase, reason, message = phase_of(new)
    phase_before = phase_of(before)
    if phase == PodPhase.FAILED:
        if phase_before[:2] != (phase, reason) or restarts > _restarts(before):
            n = f"{reason[:LONGEST_NAME]}.{restarts}"
            found.add(PodTransition.FAILED, n, 0, PodTransition.CREATED, (reason, message))
        return
    stuck = _stuck_reason(new)
    if stuck[0] and stuck[0] != _stuck_reason(before)[0]:
        found.add(PodTransition.WAITING, stuck[0][:LONGEST_NAME], 0, PodTransition.CREATED, stuck)


def _stuck_reason(pod: Pod) -> tuple[str, str]:
    """Return why a pod does not start, without the reasons that every pod passes through and without failures."""
    scheduled = pod.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return scheduled.reason, scheduled.message
    for container in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = container.state.waiting
        if waiting is not None and waiting.reason not in NORMAL | FAILED_WAITING:
            return waiting.reason, waiting.message
    return "", ""


def _last_exit(pod: Pod) -> tuple[int, str, str]:
    """Return when and why the container that restarted last had ended."""
    ends = [
        (milliseconds(end.finished_at), end.reason, f"container {container.name}, exit code {end.exit_code}")
        for container in pod.status.container_statuses
        if container.restart_count and (end := container.last_state.terminated)
    ]
    return max(ends, default=(0, "", ""))


def _is_running(pod: Pod) -> bool:
    return pod.status.phase == "Running"


def _restarts(pod: Pod) -> int:
    return sum(container.restart_count for container in pod.status.container_statuses)


def _since(pod: Pod, condition: str) -> int:
    found = pod.condition(condition)
    return milliseconds(found.last_transition_time) if found is not None else 0


def _started_at(pod: Pod) -> int:
    starts = [c.state.running.started_at for c in pod.status.container_statuses if c.state.running]
    return max((milliseconds(start) for start in starts), default=0)


def _reached_at(pod: Pod, name: str) -> int:
    """Return when a pod reached a state that still holds, by its own conditions, in ms."""
    match name:
        case PodTransition.CREATED:
            return milliseconds(pod.metadata.creation_timestamp)
        case PodTransition.SCHEDULED:
            return _since(pod, "PodScheduled")
        case PodTransition.STARTED:
            return _started_at(pod)
        case PodTransition.CONTAINERS_READY:
            return _since(pod, "ContainersReady")
        case PodTransition.PULLED_IN:
            return _since(pod, READINESS_GATE)
        case PodTransition.READY:
            return _since(pod, "Ready")
        case _:
            return 0
