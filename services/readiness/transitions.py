"""What a pod has come to between two states of it, for the log: each thing once, in order, with how long it took. Pure.

Kubernetes cuts its times to seconds; what has just been seen is nearer to the truth than that, as long as it was
seen within the second. Ids are made of what every replica reads alike: told again after a take-over it is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.readiness.facts import FAILED_WAITING, phase_of, shortened
from services.readiness.gates import CLOSED
from shared.domain.deployflow import READINESS_GATE, PodPhase
from shared.domain.messages import Gate, PodTransition, Transition
from shared.kube.pods import Pod, PodMeta
from shared.kube.reflector import milliseconds

RECENT_MS: Final = 2 * 3600 * 1000
"""Of a pod that is seen for the first time only so much is told: before that somebody else was there to tell."""
NORMAL: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons of a waiting container that every pod passes through."""

_NOTHING: Final = Pod(metadata=PodMeta())
"""Of which nothing is true yet."""

Times = Mapping[str, int]
"""When a pod has come to what was told of it, by the names of `PodTransition`, in ms."""


def transitions(old: Pod | None, new: Pod, seen: int, known: Times) -> list[Transition]:
    """`old` is None for a pod that is seen for the first time, at `seen` in ms."""
    come = _Come(old, new, seen, known)
    was = old or _NOTHING
    if old is None:
        come.to(PodTransition.CREATED, "", milliseconds(new.metadata.creation_timestamp))
    if new.is_true("PodScheduled") and not was.is_true("PodScheduled"):
        come.to(PodTransition.SCHEDULED, "", _since(new, "PodScheduled"), PodTransition.CREATED)
    if _runs(new) and not _runs(was):
        come.to(PodTransition.STARTED, "", _started(new), PodTransition.SCHEDULED)
    if (restarts := _restarts(new)) > _restarts(was):
        at, *why = _ended(new)
        come.to(PodTransition.RESTARTED, restarts, at, why=(why[0], why[1]))
    # of one that was in traffic before, that it is Ready again says it
    if new.containers_ready and not was.containers_ready and PodTransition.UNREADY not in known:
        at = _since(new, "ContainersReady")
        come.to(PodTransition.CONTAINERS_READY, at, at, PodTransition.STARTED)
    _gates(come, was, new)
    if not new.deleting:
        _troubles(come, was, new, restarts)
    if new.deleting and not was.deleting:
        come.to(PodTransition.TERMINATING, "", ending(new))
    return come.told


def ending(pod: Pod) -> int:
    """When the deletion of a pod began; 0 where it did not."""
    grace = pod.metadata.deletion_grace_period_seconds or 0
    at = milliseconds(pod.metadata.deletion_timestamp)
    return at - grace * 1000 if at else 0


class _Come:
    """Gathers the transitions; none stands before one that was told before it."""

    def __init__(self, old: Pod | None, new: Pod, seen: int, known: Times) -> None:
        self.told: list[Transition] = []
        self._times = dict(known)
        self._pod = old or new
        self._seen = seen
        self._first = old is None
        self._since = seen - RECENT_MS if old is None else 0

    def knows(self, name: PodTransition) -> bool:
        return name in self._times

    def to(
        self, name: PodTransition, n: object, at: int, after: str = "", why: tuple[str, str] = ("", "")
    ) -> None:
        """`n` tells it from others of that name; `at` by Kubernetes, 0 where it does not say; `after`: what it took its
        time from.
        """
        latest = max(self._times.values(), default=0)
        # what nobody dates has just been seen, or, of a pod that is seen for the first time, is older than that
        seen = latest or self._seen if self._first and not at else self._seen
        at = max(happened(at, seen), latest)
        since = self._times.get(after) or (_when(self._pod, after) if after else 0)
        self._times[name] = at
        if at >= self._since:
            made = self._times.get(PodTransition.CREATED) or _when(self._pod, PodTransition.CREATED)
            self.told.append(
                Transition(
                    name=name,
                    id=f"{name}:{n}" if n else str(name),
                    at=at,
                    since=min(since, at),
                    age=max(at - made, 0),
                    reason=why[0],
                    message=shortened(why[1]),
                )
            )


def happened(at: int, seen: int) -> int:
    """When something came true, in ms, of which Kubernetes says `at` (0: nothing), to the second mostly."""
    if not at:
        return seen
    return min(seen, at + 999 if at % 1000 == 0 else at)


def _gates(come: _Come, was: Pod, new: Pod) -> None:
    gate = new.condition(READINESS_GATE)
    if gate is not None and new.gate != was.gate:
        at = _since(new, READINESS_GATE)
        n = f"{new.sequence}.{at}"
        if new.gate == Gate.OPEN:
            come.to(PodTransition.PULLED_IN, n, at, PodTransition.CONTAINERS_READY)
        elif was.gate == Gate.OPEN or gate.reason == CLOSED:
            come.to(PodTransition.PULLED_OUT, n, at, PodTransition.PULLED_IN)
    if new.deleting or new.ready == was.ready:
        return
    at = _since(new, "Ready")
    if new.ready:
        after = PodTransition.CONTAINERS_READY if new.gate == Gate.NONE else PodTransition.PULLED_IN
        if come.knows(PodTransition.UNREADY):
            after = PodTransition.UNREADY
        come.to(PodTransition.READY, at, at, after, phase_of(new)[1:])
    elif was is not _NOTHING and new.gate != Gate.CLOSED:
        come.to(PodTransition.UNREADY, at, at, PodTransition.READY, phase_of(new)[1:])


def _troubles(come: _Come, was: Pod, new: Pod, restarts: int) -> None:
    phase, reason, message = phase_of(new)
    before = phase_of(was)
    if phase == PodPhase.FAILED:
        if before[:2] != (phase, reason) or restarts > _restarts(was):
            n = f"{reason}.{restarts}"
            come.to(PodTransition.FAILED, n, 0, PodTransition.CREATED, (reason, message))
        return
    stuck = _stuck(new)
    if stuck[0] and stuck[0] != _stuck(was)[0]:
        come.to(PodTransition.WAITING, stuck[0], 0, PodTransition.CREATED, stuck)


def _stuck(pod: Pod) -> tuple[str, str]:
    """Why a pod does not start, where that is not how every pod begins and not a failure either."""
    scheduled = pod.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return scheduled.reason, scheduled.message
    for container in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = container.state.waiting
        if waiting is not None and waiting.reason not in NORMAL | FAILED_WAITING:
            return waiting.reason, waiting.message
    return "", ""


def _ended(pod: Pod) -> tuple[int, str, str]:
    """When and why a container ended that was started again last."""
    ends = [
        (milliseconds(end.finished_at), end.reason, f"container {container.name}, exit code {end.exit_code}")
        for container in pod.status.container_statuses
        if container.restart_count and (end := container.last_state.terminated)
    ]
    return max(ends, default=(0, "", ""))


def _runs(pod: Pod) -> bool:
    return pod.status.phase == "Running"


def _restarts(pod: Pod) -> int:
    return sum(container.restart_count for container in pod.status.container_statuses)


def _since(pod: Pod, condition: str) -> int:
    found = pod.condition(condition)
    return milliseconds(found.last_transition_time) if found is not None else 0


def _started(pod: Pod) -> int:
    starts = [c.state.running.started_at for c in pod.status.container_statuses if c.state.running]
    return max((milliseconds(start) for start in starts), default=0)


def _when(pod: Pod, name: str) -> int:
    """When a pod came to something that is still true of it, by its own words."""
    match name:
        case PodTransition.CREATED:
            return milliseconds(pod.metadata.creation_timestamp)
        case PodTransition.SCHEDULED:
            return _since(pod, "PodScheduled")
        case PodTransition.STARTED:
            return _started(pod)
        case PodTransition.CONTAINERS_READY:
            return _since(pod, "ContainersReady")
        case PodTransition.PULLED_IN:
            return _since(pod, READINESS_GATE)
        case PodTransition.READY:
            return _since(pod, "Ready")
        case _:
            return 0
