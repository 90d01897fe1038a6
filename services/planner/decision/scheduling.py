"""Whose turn it is: releases that wait, the beginning of one, and the ways in which one ends before its time."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.decision import command_factory as give
from services.planner.decision.transitions import (
    Move,
    again,
    carried_out,
    give_command,
    gone,
    mine,
    request_pull_in,
    set_flow,
)
from services.planner.model.state import PRE_EXISTING, Flow, Instance, Step
from services.planner.rules import freeze_hold
from services.planner.rules.pod_selection import choose_victims, retires
from shared.domain.deployflow import Action, FlowPhase, OnFailure
from shared.domain.messages import Cancel


def drop_waiting(instance: Instance, now: int) -> Instance:
    """Releases that end before their turn: canceled, deleted, impossible, or replaced by a newer one."""
    if not instance.waiting:
        return instance
    ended: list[Flow] = []
    kept: list[Flow] = []
    for flow in instance.waiting:
        if flow.outcome is not None:
            ended.append(_over(flow, flow.outcome, now, flow.reason, flow.message))
        elif flow.strategy.canceled or flow.deleting:
            ended.append(_over(flow, FlowPhase.CANCELED, now, "Canceled", "canceled before it began"))
        elif flow.updating and (newer := freeze_hold.successor(instance.waiting, flow)) is not None:
            ended.append(_over(flow, FlowPhase.ABORTED, now, "Replaced", f"{newer.name} takes its place"))
        else:
            kept.append(flow)
    return (
        replace(instance, waiting=tuple(kept), finished=(*instance.finished, *ended)) if ended else instance
    )


def _over(flow: Flow, phase: FlowPhase, now: int, reason: str, message: str) -> Flow:
    return replace(
        flow, phase=phase, step=Step.DONE, reason=reason, message=message, finished_at=now, updated_at=now
    )


def activate(instance: Instance, now: int) -> Move | None:
    first = next((flow for flow in instance.waiting if not flow.held_back), None)
    if first is None:
        # an instance at rest remembers no pods
        return Move(replace(instance, pods={}, given=None)) if instance.pods or instance.given else None
    flow = replace(
        freeze_hold.let_go(first),
        phase=FlowPhase.INITIALIZING,
        step=Step.OBSERVE,
        started_at=now,
        reason="",
        message="",
    )
    waiting = tuple(other for other in instance.waiting if other is not first)
    instance = replace(instance, active=flow, waiting=waiting, pods={}, given=None)
    return give_command(instance, give.observe, now)


def close(instance: Instance, flow: Flow, now: int) -> Instance:
    phase = flow.outcome or FlowPhase.SUCCESS
    live = {uid: pod for uid, pod in instance.pods.items() if not pod.deleting}
    ended = replace(flow, phase=phase, finished_at=now, updated_at=now, outcome=phase, pods=live)
    return replace(instance, active=None, finished=(*instance.finished, ended), given=None)


def ending_of(instance: Instance, flow: Flow) -> FlowPhase | None:
    """How the release ends before its time, if it shall."""
    if flow.step in {Step.CANCEL, Step.FINISH, Step.DONE} or flow.outcome is not None:
        return None
    if flow.strategy.canceled or flow.deleting:
        return FlowPhase.CANCELED
    if flow.failed and flow.strategy.on_failure in {OnFailure.CANCEL, OnFailure.ROLLBACK}:
        return FlowPhase.FAILED
    if flow.paused and any(newcomer.updating and not newcomer.held_back for newcomer in instance.waiting):
        return FlowPhase.ABORTED
    if flow.updating and any(newcomer.action == Action.ROLLBACK for newcomer in instance.waiting):
        # the way back waits for nobody, also in the middle of a batch
        return FlowPhase.ABORTED
    return None


_ENDED = {
    FlowPhase.CANCELED: ("Canceled", "canceled"),
    FlowPhase.FAILED: ("BatchFailed", "canceled by onFailure"),
    FlowPhase.ABORTED: ("Aborted", "another release took over"),
}


def end(instance: Instance, flow: Flow, outcome: FlowPhase, now: int, resend_ms: int) -> Move | None:
    """End it before its time. What is under way is waited for first where it decides on which pods go."""
    reason, message = _ENDED[outcome]
    if flow.message and flow.failed:
        message = f"{message}: {flow.message}"
    ending = replace(flow, step=Step.CANCEL, outcome=outcome, reason=reason, message=message, issued=True)
    if not flow.batches and flow.step not in {Step.PREPARE, Step.TAKE_OVER}:
        return Move(replace(instance, active=replace(ending, step=Step.DONE)))
    batch = flow.open_batch
    if (
        flow.step == Step.SURGE
        and batch is not None
        and not (batch.told and len(mine(instance, batch)) >= batch.surge)
    ):
        if instance.given is not None and not (instance.given.answered and instance.given.seen):
            return again(instance, flow, now, resend_ms, anyway=True)
        # only pods that are known go by name: any other would be OpenKruise's choice
        return give_command(replace(instance, active=replace(ending, issued=False)), give.observe, now)
    baked, others = flow.updated, flow.others
    if batch is None:
        return _leave(instance, ending, baked, others, (), now)
    if not batch.baked:
        return _leave(instance, ending, baked, others, _unbaked(instance, flow), now)
    if flow.step == Step.RETIRE and flow.issued:
        # of those that go, some or all are gone already: nobody goes in their place
        return _leave(instance, ending, baked + batch.surge, others - batch.retire, flow.victims, now)
    if batch.surge:
        drop = flow.victims or choose_victims(instance, flow, retires(flow, batch))
        return _leave(instance, ending, baked + batch.surge, others - len(drop), drop, now)
    # nothing is made in the place of those that were to go: they stay, with their traffic
    kept = tuple(uid for uid in flow.victims if not gone(instance, (uid,)))
    if flow.step == Step.PULL_OUT and any(instance.pods[uid].gate == "open" for uid in kept):
        # what closes their gates is under way: it is waited for, and then taken back
        return again(instance, flow, now, resend_ms, anyway=True)
    back = tuple(uid for uid in kept if instance.pods[uid].gate == "closed")
    if back:
        return request_pull_in(replace(instance, active=replace(ending, victims=())), now, back)
    return _leave(instance, ending, baked, others, (), now)


def leave_unbaked(instance: Instance, flow: Flow, now: int) -> Move:
    """End it without the batch under way, as far as its pods are known."""
    return _leave(instance, flow, flow.updated, flow.others, _unbaked(instance, flow), now)


def _unbaked(instance: Instance, flow: Flow) -> tuple[str, ...]:
    """The pods of the batch, and what the batch before it replaced, should that not be gone yet."""
    batch = flow.open_batch
    made = [uid for uid, _ in mine(instance, batch)] if batch is not None else []
    return (*made, *(uid for uid in flow.victims if not gone(instance, (uid,))))


def _leave(instance: Instance, flow: Flow, baked: int, others: int, drop: tuple[str, ...], now: int) -> Move:
    """Give the command that ends it: so many pods go on serving, these go."""
    drop = tuple(dict.fromkeys((*drop, *flow.dropped)))
    restored = flow.updating and others > 0
    message = flow.message
    if restored and baked:
        names = [
            pod.name
            for uid, pod in sorted(instance.pods.items())
            if pod.batch > PRE_EXISTING and pod.gate == "open" and uid not in drop
        ]
        message += f"; {baked} pods of {flow.target_revision} go on serving: {', '.join(names[:20])}"
    keep = baked + others
    return give_command(
        set_flow(instance, flow, message=message, victims=drop, issued=True),
        give.cancel,
        now,
        keep=keep,
        baked=baked if flow.updating else keep,
        drop=drop,
        restore_template=restored,
    )


def cancel(instance: Instance, flow: Flow, now: int) -> Move | None:
    if carried_out(instance, "observe"):
        return leave_unbaked(instance, flow, now)
    if carried_out(instance, "pull_in"):
        return _leave(instance, flow, flow.updated, flow.others, (), now)
    if carried_out(instance, "finish"):
        return Move(set_flow(instance, flow, step=Step.DONE))
    if carried_out(instance, "cancel") and gone(instance, flow.victims):
        return (
            Move(set_flow(instance, flow, step=Step.DONE))
            if _mixed(instance)
            else give_command(instance, give.finish, now)
        )
    return None


def _mixed(instance: Instance) -> bool:
    """Whether the cancel left pods of two revisions: the owner's strategy would go on updating them."""
    command = give.read(instance.given.body) if instance.given else None
    if isinstance(command, Cancel) and 0 < command.baked < command.keep:
        return True
    return instance.mixed
