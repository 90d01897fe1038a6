"""When a batch has failed. New pods are judged by themselves: a sick old pod fails nothing."""

from __future__ import annotations

from typing import NamedTuple

from services.planner.failed import NAMED, late, why
from services.planner.state import Batch, Flow, Instance, Pod, Step
from shared.deployflow import BatchPhase, PodPhase, PullInStatus


class Failure(NamedTuple):
    """`pull_out`: pods that shall lose their traffic."""

    phase: BatchPhase
    reason: str
    message: str
    replicas: int
    pull_out: tuple[str, ...]


def failure(i: Instance, f: Flow, now: int) -> Failure | None:
    """What is wrong with the batch under way; None while nothing is."""
    batch = f.open_batch
    if batch is None or not batch.surge or f.resync:
        return None
    if f.step in {Step.SURGE, Step.SMOKED} and (f.issued or f.failed or f.step == Step.SMOKED):
        return _smoke_failure(i, f, batch, now)
    if f.step == Step.PULL_IN:
        return _bake_failure(i, f, batch, now)
    return None


def _pods(i: Instance, batch: Batch) -> dict[str, Pod]:
    return {uid: pod for uid, pod in i.pods.items() if pod.batch == batch.number and not pod.deleting}


def _smoke_failure(i: Instance, f: Flow, batch: Batch, now: int) -> Failure | None:
    pods = _pods(i, batch)
    limit = f.strategy.startup_timeout * 1000
    bad = {uid: why(pod) for uid, pod in pods.items() if pod.phase == PodPhase.FAILED}
    reason = next((pods[uid].reason for uid in bad), "")
    if not bad and not f.paused:
        bad = {
            uid: late(
                f"not ContainersReady within {f.strategy.startup_timeout} s",
                pod,
                max(pod.created_at, batch.surged_at),
            )
            for uid, pod in pods.items()
            if not pod.containers_ready and now >= max(pod.created_at, batch.surged_at) + limit
        }
        reason = "StartupTimeout"
        if not bad and len(pods) < batch.surge and f.step == Step.SURGE and now >= batch.surged_at + limit:
            missing = batch.surge - len(pods)
            text = f"{missing} of {batch.surge} pods were not made within {f.strategy.startup_timeout} s"
            return Failure(BatchPhase.SMOKE_FAILED, reason, text, missing, ())
    if not bad:
        return None
    text = _told(batch, pods, bad)
    return Failure(BatchPhase.SMOKE_FAILED, reason or "PodsFailed", text, len(bad), ())


def _bake_failure(i: Instance, f: Flow, batch: Batch, now: int) -> Failure | None:
    pods = _pods(i, batch)
    bad = {uid: why(pod) for uid, pod in pods.items() if pod.phase == PodPhase.FAILED}
    reason = next((pods[uid].reason for uid in bad), "")
    overdue = batch.unready_since and now >= batch.unready_since + f.strategy.pull_in_timeout * 1000
    if not bad and overdue and not f.paused:
        reason = str(PullInStatus.FAILED)
        bad = {
            uid: late(f"not Ready within {f.strategy.pull_in_timeout} s", pod, batch.unready_since)
            for uid, pod in pods.items()
            if not pod.ready
        }
        if not bad:
            missing = batch.surge - len(pods)
            text = f"{missing} of {batch.surge} pods of batch {batch.number} are gone"
            return Failure(BatchPhase.BAKE_FAILED, "PodsMissing", text, missing, ())
    if not bad:
        return None
    text = _told(batch, pods, bad)
    return Failure(BatchPhase.BAKE_FAILED, reason or "PodsFailed", text, len(bad), tuple(bad))


def _told(batch: Batch, pods: dict[str, Pod], bad: dict[str, str]) -> str:
    named = [f"{pods[uid].name} ({text})" for uid, text in list(bad.items())[:NAMED]]
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return f"{len(bad)} of {batch.surge} pods of batch {batch.number} failed: {', '.join(named)}{more}"
