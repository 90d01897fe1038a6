"""The `.status` of a DeployFlow, made from the planner's state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from services.planner.model.state import Batch, Flow, Instance, Pod, Requester, Step
from services.planner.rules import freeze_hold
from services.planner.rules.approvals import explain_scale, may_reach, may_start
from services.planner.rules.clocks import Clock, end_of, interval_end
from services.planner.rules.cloneset_warnings import describe_warning
from services.planner.rules.deletions import (
    CLONESET_TERMINATING,
    describe_deletion,
    describe_held,
    explain_held_pods,
)
from services.planner.rules.draining import explain_draining
from services.planner.rules.missing_labels import missing_labels
from services.planner.rules.pod_failures import NAMED, failed_pull_in, failure_details
from services.planner.rules.surplus import count_surplus
from shared.domain.deploy_commands import CHANGE
from shared.domain.deployflow import (
    BatchPhase,
    Condition,
    DeployFlowStatus,
    FlowPhase,
    ImageChange,
    LastCommand,
    PodPhase,
    PodStatus,
    PullInStatus,
    keys_of,
)
from shared.domain.json_types import Json
from shared.domain.requesters import via_of
from shared.kube.ownership import LABELS_MISSING

WAITING: Final = "WaitingForNext"
"""The reason of a release that waits for a person."""
SCALED: Final = "Scaled"
"""The reason where nothing else explains a release whose count somebody else has set."""
SCALED_TO_ZERO: Final = "ScaledToZero"
"""The reason of a release that waits until somebody scales its instance up again."""
# a dict by names that are looked up once: pydantic's own dump would cost more than the decision
_STATUS: Final = keys_of(DeployFlowStatus)
_BATCH: Final = keys_of(Condition)
_COMMAND: Final = keys_of(LastCommand)
_POD: Final = keys_of(PodStatus)
_IMAGE: Final = keys_of(ImageChange)


def status_of(instance: Instance, flow: Flow) -> Json:
    """Return the whole `.status`. A finished release shows the pods that it ended with."""
    pods = instance.pods if flow is instance.active else flow.pods
    live = {uid: pod for uid, pod in pods.items() if not pod.deleting}
    by_batch: dict[int, dict[str, Pod]] = {}
    for uid, pod in live.items():
        by_batch.setdefault(pod.batch, {})[uid] = pod
    new = [pod for uid, pod in live.items() if flow.target_revision and flow.keeps_pod(uid, pod.revision)]
    reason, message = explain(instance, flow)
    return {
        _STATUS.replicas: len(live),
        _STATUS.available_replicas: sum(1 for pod in live.values() if pod.ready),
        _STATUS.updated_replicas: len(new),
        _STATUS.updated_ready_replicas: sum(1 for pod in new if pod.ready),
        _STATUS.pods: sorted(pod.name for pod in live.values()),
        _STATUS.replicas_to_process: flow.to_process,
        _STATUS.update_revision: flow.target_revision,
        _STATUS.conditions: [_condition(batch, by_batch.get(batch.number, {})) for batch in flow.batches],
        _STATUS.paused: flow.paused and not flow.phase.finished,
        _STATUS.phase: flow.phase,
        _STATUS.finished: flow.phase.finished,
        _STATUS.batches: flow.total,
        _STATUS.finished_batches: flow.finished_batches,
        _STATUS.finished_replicas: flow.finished_replicas,
        _STATUS.failed_replicas: sum(batch.failed_replicas for batch in flow.batches),
        _STATUS.started_at: _time(flow.started_at),
        _STATUS.updated_at: _time(flow.updated_at),
        _STATUS.finished_at: _time(flow.finished_at),
        _STATUS.reason: reason,
        _STATUS.message: message,
        _STATUS.requested_by: flow.requested_by,
        _STATUS.requested_by_claimed: flow.requested_by_claimed,
        _STATUS.requested_via: via_of(flow.requested_by, flow.requested_via),
        _STATUS.last_command: _last_command(flow.last_command),
        _STATUS.requested_strategy: flow.requested_strategy,
        _STATUS.images: [
            {
                _IMAGE.container: one.container,
                _IMAGE.from_image: one.from_image,
                _IMAGE.to_image: one.to_image,
            }
            for one in flow.images
        ],
        _STATUS.freeze_override: flow.overridden,
        _STATUS.sequence: instance.sequence,
        _STATUS.version: instance.version,
        _STATUS.observed_generation: flow.generation,
    }


def _time(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def _last_command(last: Requester | None) -> Json | None:
    if last is None:
        return None
    return {
        _COMMAND.command: last.command or CHANGE,
        _COMMAND.requested_by: last.requested_by,
        _COMMAND.requested_by_claimed: last.requested_by_claimed,
        _COMMAND.requested_via: via_of(last.requested_by, last.requested_via),
    }


def _condition(batch: Batch, pods: dict[str, Pod]) -> Json:
    failures = failure_details(batch, pods.items())
    return {
        _BATCH.batch: batch.number,
        _BATCH.batch_size: batch.size,
        _BATCH.canary: batch.canary,
        _BATCH.phase: batch.phase,
        _BATCH.failed_replicas: batch.failed_replicas,
        _BATCH.pods: [
            _pod(uid, pod, batch, failures.get(uid, {}))
            for uid, pod in sorted(pods.items(), key=lambda item: item[1].name)
        ],
        _BATCH.reason: batch.reason,
        _BATCH.message: batch.message,
        _BATCH.started_at: _time(batch.started_at),
        _BATCH.pulled_in_at: _time(batch.pulled_in_at),
        _BATCH.finished_at: _time(batch.finished_at),
    }


def _pod(uid: str, pod: Pod, batch: Batch, detail: Json) -> Json:
    pull_in = PullInStatus.NONE
    if failed_pull_in(batch, pod):
        pull_in = PullInStatus.FAILED
    elif pod.gate == "open" and pod.ready:
        pull_in = PullInStatus.SUCCEEDED
    return {
        _POD.name: pod.name,
        _POD.ip: pod.ip,
        _POD.port: pod.port,
        _POD.phase: pod.phase,
        _POD.pull_in_status: pull_in,
        _POD.uid: uid,
        _POD.reason: pod.reason if pod.phase == PodPhase.FAILED else "",
        **detail,
    }


def waits_for_person(instance: Instance, flow: Flow) -> str:
    """Return what an unfinished release requires of a person; empty where it waits for nobody."""
    reason, text = _explain(instance, flow)
    return text if reason == WAITING else ""


def explain(instance: Instance, flow: Flow) -> tuple[str, str]:
    """Return why the release does not move, as a reason and a message; both empty while it moves.

    The message also names the count that somebody else has set during the release.
    """
    reason, message = _explain(instance, flow)
    if flow.phase.finished or reason == SCALED_TO_ZERO:
        return reason, message
    words = explain_scale(flow)
    return (reason or SCALED if words else reason), "; ".join((*filter(None, [message]), *words))


def _explain(instance: Instance, flow: Flow) -> tuple[str, str]:
    if not flow.phase.finished and (text := missing_labels(flow)) is not None:
        return LABELS_MISSING, text
    if flow.phase.finished or flow.failed:
        return flow.reason, flow.message
    if flow.step == Step.QUEUED:
        if flow.held_back:
            return freeze_hold.explain_freeze(flow)
        ahead = instance.active or instance.waiting[0]
        if ahead is flow and flow.inherits:
            return "Inheriting", "reads the template of the last successful release"
        return "WaitingItsTurn", f"waits until {ahead.name} is finished: one release at a time per instance"
    if flow.step == Step.CANCEL:
        held = describe_held(instance, flow, flow.victims)
        awaited = _retrying(instance, flow) or _unanswered(instance) or _remaining(instance, flow)
        words = f"waits until these pods are gone: {held}" if held else awaited[1] if awaited else ""
        return flow.reason, f"ending: {flow.message}" + (f"; {words}" if words else "")
    if flow.scaled_to_zero and flow.step != Step.FINISH:
        text = (
            "scaled to 0 by somebody else: waits until the instance is scaled up, or the release is canceled"
        )
        return SCALED_TO_ZERO, text
    if flow.strategy.paused:
        return "Paused", "paused: resume it to continue"
    return (
        _awaited_deletion(instance, flow)
        or _retrying(instance, flow)
        # nothing else is decided before that
        or (_unanswered(instance) if flow.resync else None)
        or _unmade(instance, flow)
        or _incomplete(instance, flow)
        or _approval(flow)
        or explain_draining(instance, flow)
        or explain_held_pods(instance, flow)
        or _unanswered(instance)
        or _remaining(instance, flow)
        or _warnings(flow)
    )


def _awaited_deletion(instance: Instance, flow: Flow) -> tuple[str, str] | None:
    """Name the CloneSet whose end the release waits for: a create begins with it, a delete is successful."""
    if not instance.cloneset.deleting or flow.step not in {Step.OBSERVE, Step.FINISH}:
        return None
    return CLONESET_TERMINATING, flow.message or f"{describe_deletion(instance)}: waits until it is gone"


def _retrying(instance: Instance, flow: Flow) -> tuple[str, str] | None:
    """Name the next attempt of a command that was rejected more than once."""
    if instance.pending is not None or flow.rejections < 2 or flow.retry_at <= flow.updated_at:
        return None
    return (
        "Retrying",
        f"rejected {flow.rejections} times, next attempt at {_time(flow.retry_at)}: {flow.rejected}",
    )


def _unanswered(instance: Instance) -> tuple[str, str] | None:
    """Name the service whose answer is missing, once a command had to be sent again."""
    pending = instance.pending
    if pending is None or not pending.late_since or pending.carried_out:
        return None
    what = f"{pending.kind} (command {pending.sequence}, sent at {_time(pending.late_since)})"
    if pending.kind in {"pull_in", "pull_out"}:
        return "Unanswered", f"readiness has not changed the gates for {what}: check its log"
    if pending.answered:
        return "Unanswered", f"OpenKruise has not carried out {what}: check the log of its manager"
    return "Unanswered", f"the executor has not answered {what}: check its log"


def _unmade(instance: Instance, flow: Flow) -> tuple[str, str] | None:
    """Say that OpenKruise fails to make pods of a batch, and when the batch fails for that."""
    batch = flow.open_batch
    if batch is None or flow.step != Step.SURGE:
        return None
    warning, end = describe_warning(instance, flow), end_of(Clock.STARTUP, flow)
    missing = batch.surge - len(instance.live_pods_of(batch))
    if not warning or not end or missing <= 0:
        return None
    text = f"{missing} of {batch.surge} pods of batch {batch.number} are not made"
    return "PodsNotMade", f"{text}: it fails at {_time(end)} if they are not made by then{warning}"


def _incomplete(instance: Instance, flow: Flow) -> tuple[str, str] | None:
    """Say that a batch that was Smoked is not complete any more, and when it fails for that."""
    batch = flow.open_batch
    if batch is None or flow.step != Step.SMOKED or not batch.unready_since:
        return None
    started = sum(1 for pod in instance.live_pods_of(batch).values() if pod.containers_ready)
    end = _time(end_of(Clock.STARTUP, flow) or 0)
    text = f"{started} of {batch.surge} pods of batch {batch.number} have their containers ready"
    return "PodsNotReady", f"{text}: it fails at {end} if it is not complete by then"


def _remaining(instance: Instance, flow: Flow) -> tuple[str, str] | None:
    """Name the pods that are to be deleted and remain."""
    pending = instance.pending
    if flow.step not in {Step.RETIRE, Step.CANCEL} or pending is None or not pending.carried_out:
        return None
    uids = (*flow.victims, *flow.dropped)
    names = sorted(pod.name for uid in uids if (pod := instance.pods.get(uid)) is not None)
    if not names and flow.step == Step.CANCEL and (surplus := count_surplus(instance)):
        return "PodsRemain", f"waits for the deletion of {surplus} pods beyond the count"
    if not names:
        return None
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    named = f"{', '.join(names[:NAMED])}{more}"
    return "PodsRemain", f"waits for the deletion of {named}"


def _warnings(flow: Flow) -> tuple[str, str]:
    return ("Warning", "; ".join(flow.warnings)) if flow.warnings else ("", "")


def _approval(flow: Flow) -> tuple[str, str] | None:
    batch = flow.open_batch
    if flow.step == Step.BETWEEN and flow.phase in {FlowPhase.BATCH_FINISHED, FlowPhase.INITIALIZING}:
        number = len(flow.batches) + 1
        if number > flow.total:
            return None
        if not may_start(flow, number):
            return WAITING, f"batch {number} of {flow.total} can start: press next to start it"
        if (end := interval_end(flow)) and flow.strategy.interval:
            return "BatchInterval", f"batch {number} of {flow.total} starts at {_time(end)}"
    if batch is None:
        return None
    if batch.phase == BatchPhase.SMOKED and not may_reach(flow, batch.number, BatchPhase.BAKING):
        return WAITING, f"batch {batch.number} is Smoked, without traffic: press next to send it traffic"
    if (
        batch.phase == BatchPhase.BAKING
        and batch.ready_since
        and not may_reach(flow, batch.number, BatchPhase.BAKED)
    ):
        return WAITING, f"batch {batch.number} is Baking, with traffic: press next to accept it"
    return None
