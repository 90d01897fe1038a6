"""Whose turn it is: releases that wait, the beginning of one, and the ways in which one ends before its time."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner import commands as give
from services.planner.moves import Move, ask_in, carried_out, give_command, gone, mine, set_flow
from services.planner.state import EARLIER, Flow, Instance, Step
from services.planner.victims import choose_victims, retires
from shared.deployflow import Action, FlowPhase, OnFailure
from shared.messages import Cancel


def drop_waiting(i: Instance, now: int) -> Instance:
    """Releases that end before their turn: canceled, deleted, impossible, or replaced by a newer one."""
    if not i.waiting:
        return i
    newest = next((f for f in reversed(i.waiting) if f.updating and f.outcome is None), None)
    ended: list[Flow] = []
    kept: list[Flow] = []
    for f in i.waiting:
        if f.outcome is not None:
            ended.append(_over(f, f.outcome, now, f.reason, f.message))
        elif f.strategy.canceled or f.deleting:
            ended.append(_over(f, FlowPhase.CANCELED, now, "Canceled", "canceled before it began"))
        elif newest is not None and f is not newest and f.updating:
            ended.append(_over(f, FlowPhase.ABORTED, now, "Replaced", f"{newest.name} takes its place"))
        else:
            kept.append(f)
    return replace(i, waiting=tuple(kept), finished=(*i.finished, *ended)) if ended else i


def _over(f: Flow, phase: FlowPhase, now: int, reason: str, message: str) -> Flow:
    return replace(
        f, phase=phase, step=Step.DONE, reason=reason, message=message, finished_at=now, updated_at=now
    )


def activate(i: Instance, now: int) -> Move | None:
    if not i.waiting:
        # an instance at rest remembers no pods
        return Move(replace(i, pods={}, given=None)) if i.pods or i.given else None
    f = replace(
        i.waiting[0], phase=FlowPhase.INITIALIZING, step=Step.OBSERVE, started_at=now, reason="", message=""
    )
    i = replace(i, active=f, waiting=i.waiting[1:], pods={}, given=None)
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
    if f.paused and any(newcomer.updating for newcomer in i.waiting):
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


def end(i: Instance, f: Flow, outcome: FlowPhase, now: int) -> Move:
    reason, message = _ENDED[outcome]
    if f.message and f.failed:
        message = f"{message}: {f.message}"
    if not f.batches and f.step not in {Step.PREPARE, Step.TAKE_OVER}:
        return Move(set_flow(i, f, step=Step.DONE, outcome=outcome, reason=reason, message=message))
    batch = f.open_batch
    others = f.others
    drop: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    baked = f.updated
    if batch is not None and batch.baked:
        baked += batch.surge
        if f.step == Step.RETIRE and f.issued:
            # of those that go, some or all are gone already: nobody goes in their place
            drop, others = f.victims, others - batch.retire
        elif not batch.surge:
            # nothing is made in the place of those that were to go: they stay, with their traffic
            # (also where the pull-out is still on its way)
            there = (uid for uid in f.victims if not gone(i, (uid,)))
            back = tuple(uid for uid in there if f.step == Step.PULL_OUT or i.pods[uid].gate == "closed")
        else:
            others -= len(drop := f.victims or choose_victims(i, f, retires(f, batch)))
    elif batch is not None:
        # with what the batch before it replaced, should that not be gone yet
        drop = (*(uid for uid, _ in mine(i, batch)), *(uid for uid in f.victims if not gone(i, (uid,))))
    drop = tuple(dict.fromkeys((*drop, *f.dropped)))
    if f.updating and baked and others > 0:
        names = [
            pod.name
            for uid, pod in sorted(i.pods.items())
            if pod.batch > EARLIER and pod.gate == "open" and uid not in drop
        ]
        message += f"; {baked} pods of {f.target_revision} go on serving: {', '.join(names[:20])}"
    canceled = set_flow(
        i,
        f,
        step=Step.CANCEL,
        outcome=outcome,
        reason=reason,
        message=message,
        victims=drop,
        issued=True,
    )
    if back:
        return ask_in(canceled, now, back)
    if not f.updating:
        return give_command(
            canceled,
            give.cancel,
            now,
            keep=baked + others,
            baked=baked + others,
            drop=drop,
            restore_template=False,
        )
    return give_command(
        canceled, give.cancel, now, keep=baked + others, baked=baked, drop=drop, restore_template=others > 0
    )


def cancel(i: Instance, f: Flow, now: int) -> Move | None:
    if carried_out(i, "pull_in"):
        keep = f.updated + f.others
        return give_command(
            i, give.cancel, now, keep=keep, baked=keep, drop=f.victims, restore_template=False
        )
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
    return any(pod.revision != i.cloneset.update_revision for pod in i.pods.values() if not pod.deleting)
