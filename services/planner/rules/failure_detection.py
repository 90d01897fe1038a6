"""Detect the failure of a batch. Only its new pods count: an old pod that is not healthy fails nothing."""

from __future__ import annotations

from typing import Final, NamedTuple

from services.planner.model.state import Batch, Flow, Instance, Pod, Step
from services.planner.rules.clocks import (
    Clock,
    end_of,
    has_expired,
    limit_seconds,
    pod_startup_end,
    pod_startup_start,
)
from services.planner.rules.cloneset_warnings import describe_warning
from services.planner.rules.deletions import explain_held_pods
from services.planner.rules.pod_failures import (
    NAMED,
    describe_delay,
    describe_failure,
    describe_flaps,
)
from shared.domain.deployflow import BatchPhase, FailureReason, PodPhase


class Failure(NamedTuple):
    """A failure of the open batch.

    `phase`: the new phase of the batch; None where it is baked, and stays so. `pull_out`: the pods to take out of
    traffic.
    """

    phase: BatchPhase | None
    reason: str
    message: str
    replicas: int
    pull_out: tuple[str, ...]


def find_failure(instance: Instance, flow: Flow, now: int) -> Failure | None:
    """Return the failure of the open batch; None while it has none."""
    batch = flow.open_batch
    if batch is None or flow.resync or flow.scaled_to_zero:
        return None
    found = None
    if batch.surge and _is_smoking(flow):
        found = _find_smoke_failure(instance, flow, batch, now)
    elif batch.surge and flow.step == Step.PULL_IN:
        found = _find_bake_failure(instance, flow, batch, now)
    return found or _find_exceeded_limit(instance, flow, batch, now)


def find_tolerated_failures(instance: Instance, flow: Flow, now: int) -> tuple[str, ...]:
    """Return the failed pods that `failureThreshold` tolerates: the open batch continues without them."""
    batch = flow.open_batch
    none = flow.strategy.failure_threshold in {0, "0%"}
    if none or batch is None or not batch.surge or flow.resync or flow.paused:
        return ()
    if _is_smoking(flow):
        pods = instance.live_pods_of(batch)
        bad = _pods_failing_smoke(flow, batch, pods, now)[0]
        ready = sum(1 for pod in pods.values() if pod.containers_ready)
        return tuple(bad) if ready + len(bad) >= batch.surge else ()
    if flow.step == Step.PULL_IN:
        return tuple(_pods_failing_bake(flow, batch, instance.live_pods_of(batch), now)[0])
    return ()


_BATCH_LIMITS: Final = {Clock.PROGRESS: (FailureReason.PROGRESS_DEADLINE_EXCEEDED, "without progress for")}
"""The clocks whose end fails the batch as a whole: the reason, and the words before the seconds."""


def _find_exceeded_limit(instance: Instance, flow: Flow, batch: Batch, now: int) -> Failure | None:
    for clock, (reason, words) in _BATCH_LIMITS.items():
        if has_expired(clock, flow, now):
            text = (
                f"batch {batch.number} is {batch.phase} ({flow.step}) {words} {limit_seconds(clock, flow)} s"
            )
            held = explain_held_pods(instance, flow)
            phase = None if held else _PHASE_WHERE_EXCEEDED.get(flow.step)
            return Failure(phase, reason, f"{text}; {held[1]}" if held else text, 0, ())
    return None


_PHASE_WHERE_EXCEEDED: Final = {
    Step.SURGE: BatchPhase.SMOKE_FAILED,
    Step.SMOKED: BatchPhase.SMOKE_FAILED,
    Step.PULL_IN: BatchPhase.BAKE_FAILED,
}
"""The phase of a batch that exceeds a limit at a step; at the others it is baked, and stays so."""


def _is_smoking(flow: Flow) -> bool:
    return flow.step == Step.SMOKED or (flow.step == Step.SURGE and (flow.issued or flow.failed))


def _count_tolerated(flow: Flow, batch: Batch) -> int:
    """Return how many pods of a batch may fail: never all, and none of a batch that replaces failed pods."""
    threshold = flow.strategy.failure_threshold
    size = batch.surge + batch.failed_replicas
    if batch.number > flow.planned:
        return 0
    allowed = threshold if isinstance(threshold, int) else size * int(threshold.removesuffix("%")) // 100
    return min(allowed, size - 1)


def _exceeds_threshold(flow: Flow, batch: Batch, bad: dict[str, str]) -> bool:
    """Return whether more pods failed than the batch tolerates; in a failed batch every further one counts."""
    return bool(bad) and (flow.failed or len(bad) + batch.failed_replicas > _count_tolerated(flow, batch))


def _pods_failing_smoke(
    flow: Flow, batch: Batch, pods: dict[str, Pod], now: int
) -> tuple[dict[str, str], str]:
    """Return the failed pods with the text of each, and the reason of the first."""
    bad = {uid: describe_failure(pod) for uid, pod in pods.items() if pod.phase == PodPhase.FAILED}
    reason = next((pods[uid].reason for uid in bad), "")
    if not bad and end_of(Clock.STARTUP, flow) is not None:
        bad = {
            uid: describe_delay(
                f"not ContainersReady within {flow.strategy.startup_timeout} s",
                pod,
                pod_startup_start(batch, pod),
            )
            for uid, pod in pods.items()
            if not pod.containers_ready and now >= pod_startup_end(flow, batch, pod)
        }
        reason = FailureReason.STARTUP_TIMEOUT
    return bad, reason


def _find_smoke_failure(instance: Instance, flow: Flow, batch: Batch, now: int) -> Failure | None:
    pods = instance.live_pods_of(batch)
    bad, reason = _pods_failing_smoke(flow, batch, pods, now)
    if _exceeds_threshold(flow, batch, bad):
        return _make_failure(BatchPhase.SMOKE_FAILED, batch, pods, bad, reason)
    missing = batch.surge - len(pods)
    if missing > 0 and has_expired(Clock.STARTUP, flow, now):
        seconds = flow.strategy.startup_timeout
        text = f"{missing} of {batch.surge} pods were not made within {seconds} s"
        if flow.step == Step.SMOKED:
            text = f"{missing} of {batch.surge} pods are gone, and no others were made within {seconds} s"
        text += f"; {_describe_pods(batch, pods, bad)}" if bad else ""
        text += describe_warning(instance, flow)
        failed = missing + len(bad)
        return Failure(BatchPhase.SMOKE_FAILED, FailureReason.STARTUP_TIMEOUT, text, failed, ())
    return None


def _pods_failing_bake(
    flow: Flow, batch: Batch, pods: dict[str, Pod], now: int
) -> tuple[dict[str, str], str]:
    """Return the same for pods in traffic."""
    bad = {uid: describe_failure(pod) for uid, pod in pods.items() if pod.phase == PodPhase.FAILED}
    reason = next((pods[uid].reason for uid in bad), "")
    if not bad and has_expired(Clock.PULL_IN, flow, now):
        reason = FailureReason.PULL_IN_FAILED
        bad = {
            uid: describe_delay(
                f"not Ready within {flow.strategy.pull_in_timeout} s", pod, batch.unready_since
            )
            for uid, pod in pods.items()
            if not pod.ready
        }
    elif not bad and has_expired(Clock.FLAPPING, flow, now):
        reason = FailureReason.FLAPPING
        bad = {uid: describe_flaps(pod) for uid, pod in pods.items() if pod.flaps}
    return bad, reason


def _find_bake_failure(instance: Instance, flow: Flow, batch: Batch, now: int) -> Failure | None:
    pods = instance.live_pods_of(batch)
    bad, reason = _pods_failing_bake(flow, batch, pods, now)
    if _exceeds_threshold(flow, batch, bad):
        failure = _make_failure(BatchPhase.BAKE_FAILED, batch, pods, bad, reason)
        if reason == FailureReason.FLAPPING:
            failure = failure._replace(message=f"{_describe_flapping(flow)}: {failure.message}")
        return failure._replace(pull_out=tuple(bad))
    if reason == FailureReason.FLAPPING and not bad:
        text = f"batch {batch.number} was {_describe_flapping(flow)}"
        return Failure(BatchPhase.BAKE_FAILED, reason, text, max(batch.surge - len(pods), 0), ())
    overdue = has_expired(Clock.PULL_IN, flow, now)
    if overdue and not bad:
        missing = batch.surge - len(pods)
        text = f"{missing} of {batch.surge} pods of batch {batch.number} are gone"
        return Failure(BatchPhase.BAKE_FAILED, FailureReason.PODS_MISSING, text, missing, ())
    return None


def _describe_flapping(flow: Flow) -> str:
    limit = limit_seconds(Clock.FLAPPING, flow)
    return f"not Ready for {flow.strategy.bake} s at a stretch within {limit} s"


def _make_failure(
    phase: BatchPhase, batch: Batch, pods: dict[str, Pod], bad: dict[str, str], reason: str
) -> Failure:
    return Failure(phase, reason or FailureReason.PODS_FAILED, _describe_pods(batch, pods, bad), len(bad), ())


def _describe_pods(batch: Batch, pods: dict[str, Pod], bad: dict[str, str]) -> str:
    named = [f"{pods[uid].name} ({text})" for uid, text in list(bad.items())[:NAMED]]
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return f"{len(bad)} of {batch.surge} pods of batch {batch.number} failed: {', '.join(named)}{more}"
