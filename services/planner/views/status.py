"""What the DeployFlow's `.status` says of a release, made from the planner's state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from services.planner.model.state import Batch, Flow, Instance, Pod, Step
from services.planner.rules import freeze_hold
from services.planner.rules.approvals import may_reach, may_start
from services.planner.rules.batch_interval import interval_end
from services.planner.rules.draining import draining
from services.planner.rules.pod_failures import details, not_pulled_in
from shared.domain.deployflow import BatchPhase, FlowPhase, PodPhase, PullInStatus

Json = dict[str, Any]
WAITING: Final = "WaitingForNext"
"""The reason of a release that waits for a person."""


def status_of(i: Instance, f: Flow) -> Json:
    """The whole `.status`. A finished release keeps the pods that it ended with."""
    pods = i.pods if f is i.active else f.pods
    live = {uid: pod for uid, pod in pods.items() if not pod.deleting}
    new = [pod for uid, pod in live.items() if f.target_revision and f.stays(uid, pod.revision)]
    reason, message = explain(i, f)
    return {
        "replicas": len(live),
        "availableReplicas": sum(1 for pod in live.values() if pod.ready),
        "updatedReplicas": len(new),
        "updatedReadyReplicas": sum(1 for pod in new if pod.ready),
        "pods": sorted(pod.name for pod in live.values()),
        "replicasToProcess": f.to_process,
        "updateRevision": f.target_revision,
        "conditions": [_condition(batch, live) for batch in f.batches],
        "paused": f.paused and not f.phase.finished,
        "phase": f.phase,
        "finished": f.phase.finished,
        "batches": f.total,
        "finishedBatches": f.finished_batches,
        "finishedReplicas": f.finished_replicas,
        "failedReplicas": sum(batch.failed_replicas for batch in f.batches),
        "startedAt": _time(f.started_at),
        "updatedAt": _time(f.updated_at),
        "finishedAt": _time(f.finished_at),
        "reason": reason,
        "message": message,
        "requestedBy": f.requested_by,
        "freezeOverride": f.overridden,
        "sequence": i.sequence,
        "version": i.version,
        "observedGeneration": f.generation,
    }


def _time(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def _condition(batch: Batch, live: dict[str, Pod]) -> Json:
    pods = {uid: pod for uid, pod in live.items() if pod.batch == batch.number}
    of_failed = details(batch, pods.items())
    return {
        "batch": batch.number,
        "batchSize": batch.size,
        "canary": batch.canary,
        "phase": batch.phase,
        "failedReplicas": batch.failed_replicas,
        "pods": [
            _pod(uid, pod, batch, of_failed.get(uid, {}))
            for uid, pod in sorted(pods.items(), key=lambda item: item[1].name)
        ],
        "reason": batch.reason,
        "message": batch.message,
        "startedAt": _time(batch.started_at),
        "pulledInAt": _time(batch.pulled_in_at),
        "finishedAt": _time(batch.finished_at),
    }


def _pod(uid: str, pod: Pod, batch: Batch, detail: Json) -> Json:
    pull_in = PullInStatus.NONE
    if not_pulled_in(batch, pod):
        pull_in = PullInStatus.FAILED
    elif pod.gate == "open" and pod.ready:
        pull_in = PullInStatus.SUCCEEDED
    return {
        "name": pod.name,
        "ip": pod.ip,
        "port": pod.port,
        "phase": pod.phase,
        "pullInStatus": pull_in,
        "uid": uid,
        "reason": pod.reason if pod.phase == PodPhase.FAILED else "",
        **detail,
    }


def waits_for_person(i: Instance, f: Flow) -> str:
    """What an unfinished release waits for somebody's go-ahead for; empty where it does not."""
    reason, text = explain(i, f)
    return text if reason == WAITING else ""


def explain(i: Instance, f: Flow) -> tuple[str, str]:
    """Why the release stands where it stands, in one word and in one sentence; empty while it moves."""
    if f.phase.finished or f.failed:
        return f.reason, f.message
    if f.step == Step.QUEUED:
        if f.held_back:
            return freeze_hold.explain(f)
        ahead = i.active or i.waiting[0]
        return "WaitingItsTurn", f"waits behind {ahead.name}: one release at a time per instance"
    if f.step == Step.CANCEL:
        return f.reason, f"ending: {f.message}"
    if f.strategy.paused:
        return "Paused", "paused: resume to go on"
    return _gate(f) or draining(i, f) or _late(i) or _noted(f)


def _late(i: Instance) -> tuple[str, str] | None:
    """Whose answer the release waits for, once a command had to be given again."""
    given = i.given
    if given is None or not given.late_since or (given.answered and given.seen):
        return None
    what = f"{given.kind} (command {given.sequence}, given at {_time(given.late_since)})"
    if given.kind in {"pull_in", "pull_out"}:
        return "Unanswered", f"the gates of {what} have not moved: see the log of readiness"
    if given.answered:
        return "Unanswered", f"OpenKruise has not caught up with {what}: see the log of its manager"
    return "Unanswered", f"no answer to {what}: see the log of the executor"


def _noted(f: Flow) -> tuple[str, str]:
    return ("Warning", "; ".join(f.warnings)) if f.warnings else ("", "")


def _gate(f: Flow) -> tuple[str, str] | None:
    batch = f.open_batch
    if f.step == Step.BETWEEN and f.phase in {FlowPhase.BATCH_FINISHED, FlowPhase.INITIALIZING}:
        number = len(f.batches) + 1
        if number > f.total:
            return None
        if not may_start(f, number):
            return WAITING, f"batch {number} of {f.total} waits for next"
        if (end := interval_end(f)) and f.strategy.interval:
            return "BatchInterval", f"batch {number} of {f.total} starts at {_time(end)}"
    if batch is None:
        return None
    if batch.phase == BatchPhase.SMOKED and not may_reach(f, batch.number, BatchPhase.BAKING):
        return WAITING, f"batch {batch.number} is Smoked, without traffic: next pulls it in"
    if (
        batch.phase == BatchPhase.BAKING
        and batch.ready_since
        and not may_reach(f, batch.number, BatchPhase.BAKED)
    ):
        return WAITING, f"batch {batch.number} is Baking, with traffic: next counts it as baked"
    return None
