"""Whose turn it is: releases that wait, the beginning of one, and the ways in which one ends before its time."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.decision import command_factory as give
from services.planner.decision.transitions import (
    Move,
    again,
    ask_in,
    carried_out,
    give_command,
    gone,
    mine,
    set_flow,
)
from services.planner.model.state import EARLIER, Flow, Instance, Step
from services.planner.rules import freeze_hold
from services.planner.rules.pod_selection import choose_victims, retires
from shared.domain.deployflow import Action, FlowPhase, OnFailure
from shared.domain.messages import Cancel


def drop_waiting(i: Instance, now: int) -> Instance:
    """Releases that end before their turn: canceled, deleted, impossible, or replaced by a newer one."""
    if not i.waiting:
        return i
    ended: list[Flow] = []
    kept: list[Flow] = []
    for f in i.waiting:
        if f.outcome is not None:
            ended.append(_over(f, f.outcome, now, f.reason, f.message))
        elif f.strategy.canceled or f.deleting:
            ended.append(_over(f, FlowPhase.CANCELED, now, "Canceled", "canceled before it began"))
        elif f.updating and (newer := freeze_hold.successor(i.waiting, f)) is not None:
            ended.append(_over(f, FlowPhase.ABORTED, now, "Replaced", f"{newer.name} takes its place"))
        else:
            kept.append(f)
    return replace(i, waiting=tuple(kept), finished=(*i.finished, *ended)) if ended else i


def _over(f: Flow, phase: FlowPhase, now: int, reason: str, message: str) -> Flow:
    return replace(
        f, phase=phase, step=Step.DONE, reason=reason, message=message, finished_at=now, updated_at=now
    )


def activate(i: Instance, now: int) -> Move | None:
    first = next((f for f in i.waiting if not f.held_back), None)
    if first is None:
        # an instance at rest remembers no pods
        return Move(replace(i, pods={}, given=None)) if i.pods or i.given else None
    f = replace(
        freeze_hold.let_go(first),
        phase=FlowPhase.INITIALIZING,
        step=Step.OBSERVE,
        started_at=now,
        reason="",
        message="",
    )
    waiting = tuple(other for other in i.waiting if other is not first)
    i = replace(i, active=f, waiting=waiting, pods={}, given=None)
    return give_command(i, give.observe, now)


def close(i: Instance, f: Flow, now: int) -> Instance:
    phase = f.outcome or FlowPhase.SUCCESS
    live = {uid: pod for uid, pod in i.pods.items() if not pod.deleting}
    ended = replace(f, phase=phase, finished_at=now, updated_at=now, outcome=phase, pods=live)
    return replace(i, active=None, finished=(*i.finished, ended), given=None)


def ending_of(i: Instance, f: Flow) -> FlowPhase | None:
    """How the release ends before its time, if it shall."""
    if f.step in {Step.CANCEL, Step.FINISH, Step.DONE} or f.outcome is not None:
        return None
    if f.strategy.canceled or f.deleting:
        return FlowPhase.CANCELED
    if f.failed and f.strategy.on_failure in {OnFailure.CANCEL, OnFailure.ROLLBACK}:
        return FlowPhase.FAILED
    if f.paused and any(newcomer.updating and not newcomer.held_back for newcomer in i.waiting):
        return FlowPhase.ABORTED
    if f.updating and any(newcomer.action == Action.ROLLBACK for newcomer in i.waiting):
        # the way back waits for nobody, also in the middle of a batch
        return FlowPhase.ABORTED
    return None


_ENDED = {
    FlowPhase.CANCELED: ("Canceled", "canceled"),
    FlowPhase.FAILED: ("BatchFailed", "canceled by onFailure"),
    FlowPhase.ABORTED: ("Aborted", "another release took over"),
}


def end(i: Instance, f: Flow, outcome: FlowPhase, now: int, resend_ms: int) -> Move | None:
    """End it before its time. What is under way is waited for first where it decides on which pods go."""
    reason, message = _ENDED[outcome]
    if f.message and f.failed:
        message = f"{message}: {f.message}"
    ending = replace(f, step=Step.CANCEL, outcome=outcome, reason=reason, message=message, issued=True)
    if not f.batches and f.step not in {Step.PREPARE, Step.TAKE_OVER}:
        return Move(replace(i, active=replace(ending, step=Step.DONE)))
    batch = f.open_batch
    if f.step == Step.SURGE and batch is not None and not (batch.told and len(mine(i, batch)) >= batch.surge):
        if i.given is not None and not (i.given.answered and i.given.seen):
            return again(i, f, now, resend_ms, anyway=True)
        # only pods that are known go by name: any other would be OpenKruise's choice
        return give_command(replace(i, active=replace(ending, issued=False)), give.observe, now)
    baked, others = f.updated, f.others
    if batch is None:
        return _leave(i, ending, baked, others, (), now)
    if not batch.baked:
        return _leave(i, ending, baked, others, _unbaked(i, f), now)
    if f.step == Step.RETIRE and f.issued:
        # of those that go, some or all are gone already: nobody goes in their place
        return _leave(i, ending, baked + batch.surge, others - batch.retire, f.victims, now)
    if batch.surge:
        drop = f.victims or choose_victims(i, f, retires(f, batch))
        return _leave(i, ending, baked + batch.surge, others - len(drop), drop, now)
    # nothing is made in the place of those that were to go: they stay, with their traffic
    kept = tuple(uid for uid in f.victims if not gone(i, (uid,)))
    if f.step == Step.PULL_OUT and any(i.pods[uid].gate == "open" for uid in kept):
        # what closes their gates is under way: it is waited for, and then taken back
        return again(i, f, now, resend_ms, anyway=True)
    back = tuple(uid for uid in kept if i.pods[uid].gate == "closed")
    if back:
        return ask_in(replace(i, active=replace(ending, victims=())), now, back)
    return _leave(i, ending, baked, others, (), now)


def leave_unbaked(i: Instance, f: Flow, now: int) -> Move:
    """End it without the batch under way, as far as its pods are known."""
    return _leave(i, f, f.updated, f.others, _unbaked(i, f), now)


def _unbaked(i: Instance, f: Flow) -> tuple[str, ...]:
    """The pods of the batch, and what the batch before it replaced, should that not be gone yet."""
    batch = f.open_batch
    made = [uid for uid, _ in mine(i, batch)] if batch is not None else []
    return (*made, *(uid for uid in f.victims if not gone(i, (uid,))))


def _leave(i: Instance, f: Flow, baked: int, others: int, drop: tuple[str, ...], now: int) -> Move:
    """Give the command that ends it: so many pods go on serving, these go."""
    drop = tuple(dict.fromkeys((*drop, *f.dropped)))
    restored = f.updating and others > 0
    message = f.message
    if restored and baked:
        names = [
            pod.name
            for uid, pod in sorted(i.pods.items())
            if pod.batch > EARLIER and pod.gate == "open" and uid not in drop
        ]
        message += f"; {baked} pods of {f.target_revision} go on serving: {', '.join(names[:20])}"
    keep = baked + others
    return give_command(
        set_flow(i, f, message=message, victims=drop, issued=True),
        give.cancel,
        now,
        keep=keep,
        baked=baked if f.updating else keep,
        drop=drop,
        restore_template=restored,
    )


def cancel(i: Instance, f: Flow, now: int) -> Move | None:
    if carried_out(i, "observe"):
        return leave_unbaked(i, f, now)
    if carried_out(i, "pull_in"):
        return _leave(i, f, f.updated, f.others, (), now)
    if carried_out(i, "finish"):
        return Move(set_flow(i, f, step=Step.DONE))
    if carried_out(i, "cancel") and gone(i, f.victims):
        return Move(set_flow(i, f, step=Step.DONE)) if _mixed(i) else give_command(i, give.finish, now)
    return None


def _mixed(i: Instance) -> bool:
    """Whether the cancel left pods of two revisions: the owner's strategy would go on updating them."""
    command = give.read(i.given.body) if i.given else None
    if isinstance(command, Cancel) and 0 < command.baked < command.keep:
        return True
    return i.mixed
