"""What goes wrong in a release, and how it goes on from there: a refusal, a failed batch, pods that it goes on without."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.decision import command_factory as give
from services.planner.decision.scheduling import leave_unbaked
from services.planner.decision.transitions import Move, again, give_command, mine, set_batch, set_flow
from services.planner.model.state import EARLIER, Flow, Instance, Step
from services.planner.rules.failure_detection import Failure
from shared.domain.deployflow import Action, BatchPhase, FlowPhase


def resync(i: Instance, f: Flow, now: int, resend_ms: int) -> Move | None:
    if i.given is not None and i.given.kind == "observe":
        return again(i, f, now, resend_ms, anyway=True)
    return give_command(i, give.observe, now)


def lost(i: Instance, f: Flow) -> bool:
    """Whether somebody has deleted the CloneSet in the middle of the release."""
    began = f.batches and (f.action != Action.CREATE or f.batches[0].told)
    return bool(began) and not i.cloneset.exists and f.step not in _WITHOUT


_WITHOUT = {Step.OBSERVE, Step.PREPARE, Step.TAKE_OVER, Step.CANCEL, Step.FINISH, Step.DONE}
"""Steps that begin without a CloneSet, or learn by their own command that it is gone."""


def give_up(i: Instance, f: Flow) -> Move:
    """Nothing of the instance is left to release."""
    text = f"CloneSet {i.key} does not exist"
    return Move(set_flow(i, f, step=Step.DONE, outcome=_without_it(f), reason="NotFound", message=text))


def _without_it(f: Flow) -> FlowPhase:
    """What a release comes to whose CloneSet is gone."""
    return FlowPhase.SUCCESS if f.action == Action.DELETE else FlowPhase.FAILED


def refused(i: Instance, f: Flow, now: int) -> Move:
    i = replace(i, given=None)
    if f.step == Step.CANCEL and not f.issued:
        # it was a look at the pods
        return leave_unbaked(i, f, now)
    if f.step == Step.CANCEL or (f.reason == "NotFound" and f.batches):
        return Move(set_flow(i, f, step=Step.DONE, outcome=f.outcome or _without_it(f)))
    batch = f.open_batch
    if batch is None or (batch.number == 1 and not i.cloneset.exists):
        # nothing has moved yet
        return Move(set_flow(i, f, step=Step.DONE, outcome=FlowPhase.FAILED))
    phase = BatchPhase.BAKE_FAILED if batch.baked else BatchPhase.SMOKE_FAILED
    return fail(i, f, Failure(phase, f.reason, f.message, 0, ()), now)


def fail(i: Instance, f: Flow, found: Failure, now: int) -> Move:
    """The release stops here; the pods that fail stay, or go, without traffic."""
    batch = f.batch
    assert batch is not None
    if found.phase is None:
        return Move(set_flow(i, f, failed=True, reason=found.reason, message=found.message))
    count = batch.failed_replicas + found.replicas
    failed = replace(
        batch, phase=found.phase, reason=found.reason, message=found.message, failed_replicas=count
    )
    i = set_batch(i, f, failed, failed=True, reason=found.phase, message=found.message, updated_at=now)
    if found.pull_out:
        assert i.active is not None
        return give_command(set_flow(i, i.active, halted=True), give.pull_out, now, uids=found.pull_out)
    return Move(i)


def count_failed(i: Instance, f: Flow, found: Failure) -> Instance:
    """More pods of the failed batch have failed meanwhile."""
    batch = replace(f.batches[-1], failed_replicas=found.replicas, message=found.message)
    return set_batch(i, f, batch, message=found.message)


def spare(i: Instance, f: Flow, bad: tuple[str, ...], now: int) -> Move:
    """The batch goes on without these pods, which are not many: they go with the old ones, and are made anew later."""
    batch = f.open_batch
    assert batch is not None
    names = ", ".join(sorted(i.pods[uid].name for uid in bad))
    warning = f"batch {batch.number} goes on without {len(bad)} failed pods, within failureThreshold: {names}"
    opened = tuple(uid for uid in bad if i.pods[uid].gate == "open")
    pods = {uid: replace(pod, batch=EARLIER) if uid in bad else pod for uid, pod in i.pods.items()}
    smaller = replace(batch, surge=batch.surge - len(bad), failed_replicas=batch.failed_replicas + len(bad))
    i = set_batch(
        replace(i, pods=pods),
        f,
        smaller,
        dropped=(*f.dropped, *bad),
        warnings=(*f.warnings, warning),
    )
    return give_command(i, give.pull_out, now, uids=opened) if opened else Move(i)


def retry(i: Instance, f: Flow, now: int) -> Move:
    """The failed batch anew: its pods that do not serve go, fresh ones take their place. Else there is no effect."""
    noted = replace(f, retries=f.strategy.retries)
    batch = f.open_batch
    if not f.failed or batch is None or f.outcome is not None:
        return Move(replace(i, active=noted))
    anew = replace(noted, failed=False, halted=False, reason="", message="", issued=False)
    if batch.baked:
        # all that is left of it is that its old pods go
        return Move(set_batch(replace(i, given=None), anew, replace(batch, baked_at=now)))
    serves = batch.phase == BatchPhase.BAKE_FAILED
    dropped = tuple(uid for uid, pod in mine(i, batch) if not (serves and pod.ready))
    pods = {uid: replace(pod, batch=EARLIER) if uid in dropped else pod for uid, pod in i.pods.items()}
    fresh = replace(
        batch,
        phase=BatchPhase.SMOKING,
        told=False,
        failed_replicas=0,
        reason="",
        message="",
        surged_at=now,
        smoked_at=0,
        pulled_in_at=0,
        ready_since=0,
        unready_since=0,
    )
    i = set_batch(
        replace(i, pods=pods),
        anew,
        fresh,
        step=Step.SURGE,
        issued=True,
        dropped=(*f.dropped, *dropped),
        phase=FlowPhase.BATCH_STARTED,
    )
    return give_command(i, give.surge, now)
