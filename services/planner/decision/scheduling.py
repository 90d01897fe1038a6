"""Schedule the releases of an instance: which one begins next, and how one is ended early."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.decision import command_factory
from services.planner.decision.transitions import (
    Move,
    all_gone,
    is_carried_out,
    is_late,
    issue_command,
    request_pull_in,
    resend,
    set_flow,
)
from services.planner.model.state import PRE_EXISTING, Flow, Instance, Step, StepCommand
from services.planner.rules import freeze_hold
from services.planner.rules.pod_selection import choose_victims, count_to_retire
from services.planner.rules.retry_backoff import is_waiting
from services.planner.rules.surplus import surplus_end
from shared.domain.deployflow import Action, FlowPhase, OnFailure
from shared.domain.messages import Cancel


def end_waiting(instance: Instance, now: int) -> Instance:
    """End releases that never begin: canceled, deleted, invalid, or replaced by a newer one."""
    if not instance.waiting:
        return instance
    ended: list[Flow] = []
    kept: list[Flow] = []
    for flow in instance.waiting:
        if flow.outcome is not None:
            ended.append(_end_unstarted(flow, flow.outcome, now, flow.reason, flow.message))
        elif flow.canceled:
            ended.append(
                _end_unstarted(flow, FlowPhase.CANCELED, now, "Canceled", "canceled before it began")
            )
        elif flow.updating and (newer := freeze_hold.find_successor(instance.waiting, flow)) is not None:
            ended.append(
                _end_unstarted(flow, FlowPhase.ABORTED, now, "Replaced", f"{newer.name} takes its place")
            )
        else:
            kept.append(flow)
    return (
        replace(instance, waiting=tuple(kept), finished=(*instance.finished, *ended)) if ended else instance
    )


def _end_unstarted(flow: Flow, phase: FlowPhase, now: int, reason: str, message: str) -> Flow:
    return replace(
        flow, phase=phase, step=Step.DONE, reason=reason, message=message, finished_at=now, updated_at=now
    )


def end_with_namespace(instance: Instance, now: int) -> Instance:
    """End every release as it stands, since its namespace is being deleted: that cannot be undone."""
    reason, message = "NamespaceTerminating", f"namespace {instance.namespace} is being deleted"
    ended = tuple(_end_unstarted(flow, FlowPhase.CANCELED, now, reason, message) for flow in instance.waiting)
    if ended:
        instance = replace(instance, waiting=(), finished=(*instance.finished, *ended))
    if instance.active is None or instance.active.step == Step.DONE:
        return instance
    canceled = replace(instance.active, outcome=FlowPhase.CANCELED, reason=reason, message=message)
    return close_release(instance, replace(canceled, step=Step.DONE), now)


def find_inheriting(instance: Instance) -> Flow | None:
    """Return the release that begins as soon as its spec has what it inherits; None where none waits for that."""
    first = _next_to_begin(instance)
    return first if instance.active is None and first is not None and first.inherits else None


def _next_to_begin(instance: Instance) -> Flow | None:
    return next((flow for flow in instance.waiting if not flow.held_back), None)


def begin_next(instance: Instance, now: int) -> Move | None:
    first = _next_to_begin(instance)
    if find_inheriting(instance) is not None:
        return None
    if first is None:
        # an instance without a release keeps no pods
        return Move(replace(instance, pods={}, pending=None)) if instance.pods or instance.pending else None
    flow = replace(
        freeze_hold.record_override(first),
        phase=FlowPhase.INITIALIZING,
        step=Step.OBSERVE,
        started_at=now,
        reason="",
        message="",
    )
    waiting = tuple(other for other in instance.waiting if other is not first)
    instance = replace(instance, active=flow, waiting=waiting, pods={}, pending=None)
    return issue_command(instance, command_factory.observe, now)


def close_release(instance: Instance, flow: Flow, now: int) -> Instance:
    phase = flow.outcome or FlowPhase.SUCCESS
    live = {uid: pod for uid, pod in instance.pods.items() if not pod.deleting}
    ended = replace(flow, phase=phase, finished_at=now, updated_at=now, outcome=phase, pods=live)
    waiting = tuple(_pass_count_on(ended, newcomer) for newcomer in instance.waiting)
    return replace(instance, active=None, waiting=waiting, finished=(*instance.finished, ended), pending=None)


def _pass_count_on(ended: Flow, newcomer: Flow) -> Flow:
    """Pass the count of a release that was replaced before its end on to the waiting ones that keep the count."""
    if not newcomer.keeps_replicas:
        return newcomer
    aborted = ended.phase == FlowPhase.ABORTED
    return replace(newcomer, inherits_replicas=aborted, wanted=ended.wanted if aborted else newcomer.wanted)


def find_ending(instance: Instance, flow: Flow) -> FlowPhase | None:
    """Return the outcome of a release that is to be ended early; None where it is not."""
    if flow.step in {Step.CANCEL, Step.DONE} or flow.outcome is not None:
        return None
    if flow.canceled:
        return FlowPhase.CANCELED
    if flow.failed and flow.strategy.on_failure in {OnFailure.CANCEL, OnFailure.ROLLBACK}:
        return FlowPhase.FAILED
    if flow.paused and any(newcomer.updating and not newcomer.held_back for newcomer in instance.waiting):
        return FlowPhase.ABORTED
    if flow.updating and any(newcomer.action == Action.ROLLBACK for newcomer in instance.waiting):
        # a rollback does not wait, not even for the end of a batch
        return FlowPhase.ABORTED
    return None


def is_finishing(instance: Instance, flow: Flow, now: int, resend_ms: int) -> bool:
    """Return whether the last command of a release is under way: only one that is refused or late is given up."""
    refused = is_waiting(flow, now) or instance.pending is None
    return flow.step == Step.FINISH and not refused and not is_late(instance.pending, now, resend_ms)


_ENDED = {
    FlowPhase.CANCELED: ("Canceled", "canceled"),
    FlowPhase.FAILED: ("BatchFailed", "canceled by onFailure"),
    FlowPhase.ABORTED: ("Aborted", "another release took over"),
}


def end_early(instance: Instance, flow: Flow, outcome: FlowPhase, now: int, resend_ms: int) -> Move | None:
    """End the release early; a command under way is awaited first where it decides which pods are removed."""
    reason, message = _ENDED[outcome]
    if flow.message and flow.failed:
        message = f"{message}: {flow.message}"
    ending = replace(
        flow,
        step=Step.CANCEL,
        outcome=outcome,
        reason=reason,
        message=message,
        step_command=StepCommand.ISSUED,
        # those of the cancel are counted on their own
        rejections=0,
    )
    if not flow.batches and flow.step not in {Step.PREPARE, Step.TAKE_OVER}:
        return Move(replace(instance, active=replace(ending, step=Step.DONE)))
    if flow.step == Step.FINISH:
        return Move(replace(instance, active=_end_unfinished(instance, ending)))
    batch = flow.open_batch
    if (
        flow.step == Step.SURGE
        and batch is not None
        and not (batch.surge_acknowledged and len(instance.live_pods_of(batch)) >= batch.surge)
    ):
        waits = instance.pending is not None and not instance.pending.carried_out
        # with its DeployFlow the template may be gone: the surge can't be sent again, and may never have been sent
        if waits and not (flow.deleting and is_late(instance.pending, now, resend_ms)):
            return resend(instance, flow, now, resend_ms, anyway=True)
        # only known pods can be named; OpenKruise would choose the others
        return issue_command(
            replace(instance, active=replace(ending, step_command=StepCommand.DUE)),
            command_factory.observe,
            now,
        )
    baked, others = flow.updated, flow.others
    if batch is None:
        return _issue_cancel(instance, ending, baked, others, (), now)
    if not batch.baked:
        return _issue_cancel(instance, ending, baked, others, _pods_to_drop(instance, flow), now)
    if flow.step == Step.RETIRE and flow.issued:
        # some of the pods to be removed are gone already: no other pod is removed in their place
        return _issue_cancel(instance, ending, baked + batch.surge, others - batch.retire, flow.victims, now)
    if batch.surge:
        drop = flow.victims or choose_victims(instance, flow, count_to_retire(flow, batch))
        return _issue_cancel(instance, ending, baked + batch.surge, others - len(drop), drop, now)
    # no pods were made to replace those to be removed: they stay, with their traffic
    kept = tuple(uid for uid in flow.victims if not all_gone(instance, (uid,)))
    late = is_late(instance.pending, now, resend_ms)
    if flow.step == Step.PULL_OUT and any(instance.pods[uid].gate == "open" for uid in kept) and not late:
        # the pull_out is under way: it is awaited, and then reverted
        return None
    back = kept if late else tuple(uid for uid in kept if instance.pods[uid].gate == "closed")
    if back:
        return request_pull_in(replace(instance, active=replace(ending, victims=())), now, back)
    return _issue_cancel(instance, ending, baked, others, (), now)


def _end_unfinished(instance: Instance, ending: Flow) -> Flow:
    """Return the release whose batches are finished, ended without the last write to its CloneSet."""
    left = "exists still" if ending.action == Action.DELETE else "keeps the update strategy of the release"
    why = f": {ending.rejected}" if ending.rejected else ""
    message = f"{ending.message} after its last batch; CloneSet {instance.key} {left}{why}"
    return replace(ending, step=Step.DONE, message=message)


def cancel_open_batch(instance: Instance, flow: Flow, now: int) -> Move:
    """End the release without its open batch, as far as the pods of that are known; the pods of a baked one stay."""
    batch = flow.open_batch
    if batch is None or not batch.baked:
        return _issue_cancel(instance, flow, flow.updated, flow.others, _pods_to_drop(instance, flow), now)
    removing = any(uid not in flow.dropped for uid in flow.victims)
    retire = count_to_retire(flow, batch) if batch.surge or removing else 0
    return _issue_cancel(instance, flow, flow.updated + batch.surge, flow.others - retire, flow.victims, now)


def _pods_to_drop(instance: Instance, flow: Flow) -> tuple[str, ...]:
    """Return the pods of the open batch, and the pods that the batch before it replaced and that are not gone yet."""
    batch = flow.open_batch
    made = list(instance.live_pods_of(batch)) if batch is not None else []
    return (*made, *(uid for uid in flow.victims if not all_gone(instance, (uid,))))


def _issue_cancel(
    instance: Instance, flow: Flow, baked: int, others: int, drop: tuple[str, ...], now: int
) -> Move:
    """Issue the cancel: `baked` and `others` pods keep serving, those of `drop` are removed."""
    removing = (uid for batch in flow.unfinished_before for uid in batch.removing)
    drop = tuple(dict.fromkeys((*drop, *flow.dropped, *removing)))
    # where nothing served before, what no batch has baked must not serve later: not by a start or a scale either
    restored = flow.updating and (others > 0 or not baked)
    message = flow.message
    if restored and baked:
        names = [
            pod.name
            for uid, pod in sorted(instance.pods.items())
            if pod.batch > PRE_EXISTING and pod.gate == "open" and uid not in drop
        ]
        kept = f"; {baked} pods of {flow.target_revision} keep serving: {', '.join(names[:20])}"
        # a cancel may be written more than once
        message = message if message.endswith(kept) else message + kept
    keep = baked + others
    if flow.scaled_to is not None:
        # the pods of the canceled revision are the first to go, those of the one that stays are made
        more = flow.scaled_to - keep
        keep = flow.scaled_to
        baked = max(baked + min(more, 0), 0) if restored or more < 0 else baked + more
    return issue_command(
        set_flow(instance, flow, message=message, victims=drop, step_command=StepCommand.ISSUED),
        command_factory.cancel,
        now,
        keep=keep,
        baked=baked if flow.updating else keep,
        drop=drop,
        restore_template=restored,
    )


def await_cancel(instance: Instance, flow: Flow, now: int) -> Move | None:
    if is_carried_out(instance, "observe"):
        return cancel_open_batch(instance, flow, now)
    if is_carried_out(instance, "pull_in"):
        return _issue_cancel(instance, flow, flow.updated, flow.others, (), now)
    if is_carried_out(instance, "finish"):
        return Move(set_flow(instance, flow, step=Step.DONE))
    if (
        is_carried_out(instance, "cancel")
        and all_gone(instance, flow.victims)
        and now >= surplus_end(instance)
    ):
        return (
            Move(set_flow(instance, flow, step=Step.DONE))
            if _leaves_mixed(instance)
            else issue_command(instance, command_factory.finish, now)
        )
    return None


def _leaves_mixed(instance: Instance) -> bool:
    """Return whether the cancel left pods of two revisions, which the owner's strategy would continue to update."""
    command = command_factory.parse_command(instance.pending.body) if instance.pending else None
    if isinstance(command, Cancel) and 0 < command.baked < command.keep:
        return True
    return instance.mixed
