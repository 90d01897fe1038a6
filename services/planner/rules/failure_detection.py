"""When a batch has failed. New pods are judged by themselves: a sick old pod fails nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from services.planner.model.state import Batch, Flow, Instance, Pod, Step
from services.planner.rules.pod_failures import NAMED, describe_delay, describe_failure
from shared.domain.deployflow import BatchPhase, FailureReason, PodPhase


class Failure(NamedTuple):
    """`phase`: of the batch; None where it is baked, and stays so. `pull_out`: pods that shall lose their traffic."""

    phase: BatchPhase | None
    reason: str
    message: str
    replicas: int
    pull_out: tuple[str, ...]


def find_failure(instance: Instance, flow: Flow, now: int) -> Failure | None:
    """What is wrong with the batch under way; None while nothing is."""
    batch = flow.open_batch
    if batch is None or flow.resync:
        return None
    found = None
    if batch.surge and _is_smoking(flow):
        found = _find_smoke_failure(instance, flow, batch, now)
    elif batch.surge and flow.step == Step.PULL_IN:
        found = _find_bake_failure(instance, flow, batch, now)
    return found or _find_exceeded_limit(flow, now)


def find_tolerated_failures(instance: Instance, flow: Flow, now: int) -> tuple[str, ...]:
    """Pods without which the batch under way goes on: they failed, no more of them than `failureThreshold` allows."""
    batch = flow.open_batch
    none = flow.strategy.failure_threshold in {0, "0%"}
    if none or batch is None or not batch.surge or flow.resync or flow.paused:
        return ()
    if flow.step == Step.SURGE and flow.issued:
        pods = _live_pods(instance, batch)
        bad = _pods_failing_smoke(flow, batch, pods, now)[0]
        ready = sum(1 for pod in pods.values() if pod.containers_ready)
        return tuple(bad) if ready + len(bad) >= batch.surge else ()
    if flow.step == Step.PULL_IN:
        return tuple(_pods_failing_bake(flow, batch, _live_pods(instance, batch), now)[0])
    return ()


class TimeLimit(NamedTuple):
    """When the batch fails as a whole if nothing changes until then, in milliseconds since 1970; and what is said."""

    ends_at: int
    reason: FailureReason
    message: str


def time_limits(flow: Flow) -> Iterator[TimeLimit]:
    """Yield the limits that the batch under way has as a whole now: what has to end by when."""
    batch = flow.open_batch
    if batch is None or flow.paused:
        return
    limit = flow.strategy.progress_deadline
    if limit is not None and (since := _step_began(flow, batch)):
        text = f"batch {batch.number} is {batch.phase} ({flow.step}) without progress for {limit} s"
        yield TimeLimit(since + limit * 1000, FailureReason.PROGRESS_DEADLINE_EXCEEDED, text)


def _step_began(flow: Flow, batch: Batch) -> int:
    """When the step that the batch is in began; 0 where waiting does not count."""
    match flow.step:
        case Step.SURGE:
            return batch.surged_at
        case Step.PULL_IN:
            return batch.unready_since
        case Step.PULL_OUT | Step.RETIRE:
            since = max(batch.baked_at, batch.pulled_out_at)
            return since + flow.strategy.pull_out * 1000 if since else 0
        case _:
            return 0


def _find_exceeded_limit(flow: Flow, now: int) -> Failure | None:
    limit = next((limit for limit in time_limits(flow) if now >= limit.ends_at), None)
    if limit is None:
        return None
    return Failure(_PHASE_WHERE_EXCEEDED.get(flow.step), limit.reason, limit.message, 0, ())


_PHASE_WHERE_EXCEEDED: Final = {
    Step.SURGE: BatchPhase.SMOKE_FAILED,
    Step.SMOKED: BatchPhase.SMOKE_FAILED,
    Step.PULL_IN: BatchPhase.BAKE_FAILED,
}
"""What a batch becomes that exceeds a limit at a step; at the others it is baked, and stays so."""


def _is_smoking(flow: Flow) -> bool:
    return flow.step == Step.SMOKED or (flow.step == Step.SURGE and (flow.issued or flow.failed))


def _count_tolerated(flow: Flow, batch: Batch) -> int:
    """How many pods of a batch may fail: never all of them, and none of a batch that makes failed ones anew."""
    threshold = flow.strategy.failure_threshold
    size = batch.surge + batch.failed_replicas
    if batch.number > flow.planned:
        return 0
    allowed = threshold if isinstance(threshold, int) else size * int(threshold.removesuffix("%")) // 100
    return min(allowed, size - 1)


def _exceeds_threshold(flow: Flow, batch: Batch, bad: dict[str, str]) -> bool:
    """Whether more pods have failed than the batch tolerates; of one that has failed each one more counts."""
    return bool(bad) and (flow.failed or len(bad) + batch.failed_replicas > _count_tolerated(flow, batch))


def _live_pods(instance: Instance, batch: Batch) -> dict[str, Pod]:
    return {uid: pod for uid, pod in instance.pods.items() if pod.batch == batch.number and not pod.deleting}


def _pods_failing_smoke(
    flow: Flow, batch: Batch, pods: dict[str, Pod], now: int
) -> tuple[dict[str, str], str]:
    """The pods that have failed, each with why, and the first one's reason."""
    limit = flow.strategy.startup_timeout * 1000
    bad = {uid: describe_failure(pod) for uid, pod in pods.items() if pod.phase == PodPhase.FAILED}
    reason = next((pods[uid].reason for uid in bad), "")
    if not bad and not flow.paused:
        bad = {
            uid: describe_delay(
                f"not ContainersReady within {flow.strategy.startup_timeout} s",
                pod,
                max(pod.created_at, batch.surged_at),
            )
            for uid, pod in pods.items()
            if not pod.containers_ready and now >= max(pod.created_at, batch.surged_at) + limit
        }
        reason = FailureReason.STARTUP_TIMEOUT
    return bad, reason


def _find_smoke_failure(instance: Instance, flow: Flow, batch: Batch, now: int) -> Failure | None:
    pods = _live_pods(instance, batch)
    bad, reason = _pods_failing_smoke(flow, batch, pods, now)
    if _exceeds_threshold(flow, batch, bad):
        return _make_failure(BatchPhase.SMOKE_FAILED, batch, pods, bad, reason)
    overdue = now >= batch.surged_at + flow.strategy.startup_timeout * 1000
    if overdue and not bad and not flow.paused and len(pods) < batch.surge and flow.step == Step.SURGE:
        missing = batch.surge - len(pods)
        text = f"{missing} of {batch.surge} pods were not made within {flow.strategy.startup_timeout} s"
        return Failure(BatchPhase.SMOKE_FAILED, FailureReason.STARTUP_TIMEOUT, text, missing, ())
    return None


def _pods_failing_bake(
    flow: Flow, batch: Batch, pods: dict[str, Pod], now: int
) -> tuple[dict[str, str], str]:
    """The same of pods that have traffic."""
    bad = {uid: describe_failure(pod) for uid, pod in pods.items() if pod.phase == PodPhase.FAILED}
    reason = next((pods[uid].reason for uid in bad), "")
    overdue = batch.unready_since and now >= batch.unready_since + flow.strategy.pull_in_timeout * 1000
    if not bad and overdue and not flow.paused:
        reason = FailureReason.PULL_IN_FAILED
        bad = {
            uid: describe_delay(
                f"not Ready within {flow.strategy.pull_in_timeout} s", pod, batch.unready_since
            )
            for uid, pod in pods.items()
            if not pod.ready
        }
    return bad, reason


def _find_bake_failure(instance: Instance, flow: Flow, batch: Batch, now: int) -> Failure | None:
    pods = _live_pods(instance, batch)
    bad, reason = _pods_failing_bake(flow, batch, pods, now)
    if _exceeds_threshold(flow, batch, bad):
        return _make_failure(BatchPhase.BAKE_FAILED, batch, pods, bad, reason)._replace(pull_out=tuple(bad))
    overdue = batch.unready_since and now >= batch.unready_since + flow.strategy.pull_in_timeout * 1000
    if overdue and not bad and not flow.paused:
        missing = batch.surge - len(pods)
        text = f"{missing} of {batch.surge} pods of batch {batch.number} are gone"
        return Failure(BatchPhase.BAKE_FAILED, FailureReason.PODS_MISSING, text, missing, ())
    return None


def _make_failure(
    phase: BatchPhase, batch: Batch, pods: dict[str, Pod], bad: dict[str, str], reason: str
) -> Failure:
    return Failure(phase, reason or FailureReason.PODS_FAILED, _describe_pods(batch, pods, bad), len(bad), ())


def _describe_pods(batch: Batch, pods: dict[str, Pod], bad: dict[str, str]) -> str:
    named = [f"{pods[uid].name} ({text})" for uid, text in list(bad.items())[:NAMED]]
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return f"{len(bad)} of {batch.surge} pods of batch {batch.number} failed: {', '.join(named)}{more}"
