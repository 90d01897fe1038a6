"""The life of a release: from what is known to the next move, one step at a time.

Every batch is the same short road: surge → smoked → pull in → baked → pull out → retire. `next_move` looks
only at values and the time given; after every fact it is asked until there is nothing more to do. Whatever
the release waits for then, `deadlines.deadline` tells when to look again.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from services.planner import commands as give
from services.planner.gates import may_reach, may_start
from services.planner.moves import Move, again, carried_out, give_command, gone, mine, set_batch, set_flow
from services.planner.out_of_traffic import closed, still_serving
from services.planner.plan import (
    Counts,
    after,
    batch_count,
    canary_of,
    canary_warning,
    next_batch,
    remaining,
    retire_after,
)
from services.planner.state import EARLIER, UNTOLD, Batch, Flow, Instance, Step
from services.planner.turns import activate, cancel, close, drop_waiting, end, ending_of
from services.planner.verdict import Failure, failure
from services.planner.victims import choose_victims, retires
from shared.deployflow import BatchPhase, FlowPhase, count_of


def next_move(i: Instance, now: int, *, resend_ms: int) -> Move | None:
    """The one thing to do next; None when there is nothing to do now."""
    if (kept := drop_waiting(i, now)) is not i:
        return Move(kept)
    f = i.active
    if f is None:
        return activate(i, now)
    if f.step == Step.DONE:
        return Move(close(i, f, now))
    if i.given is not None and i.given.kind == "refused":
        return _refused(i, f, now)
    if f.resync:
        return _resync(i, f, now, resend_ms)
    if (told := _tell_pods(i, f)) is not i:
        return Move(told)
    if (ending := ending_of(i, f)) is not None:
        return end(i, f, ending, now)
    if (found := failure(i, f, now)) is not None:
        if not f.failed:
            return _fail(i, f, found, now)
        if f.batches[-1].failed_replicas < found.replicas:
            return Move(_count_failed(i, f, found))
        if uids := still_serving(i, found):
            return give_command(i, give.pull_out, now, uids=uids)
    if f.failed and (pulled_out := closed(i)) is not i:
        return Move(pulled_out)
    if f.paused and not f.halted and f.step in {Step.SURGE, Step.RETIRE} and f.issued:
        return give_command(set_flow(i, f, halted=True, issued=False), give.halt, now)
    if f.halted and not f.paused:
        return Move(set_flow(i, f, halted=False))
    if (seen := _gates_seen(i)) is not i:
        return Move(seen)
    if strays := _strays(i, f):
        return _ask_in(i, now, strays)
    return _STEPS[f.step](i, f, now) or again(i, f, now, resend_ms)


def _size(f: Flow) -> int:
    return count_of(f.strategy.batch_size, f.wanted)


def _finish(i: Instance, f: Flow, now: int) -> Move | None:
    if not f.issued:
        return give_command(set_flow(i, f, issued=True), give.finish, now)
    if carried_out(i, "finish"):
        warnings = "; ".join(f.warnings)
        return Move(set_flow(i, f, step=Step.DONE, outcome=FlowPhase.SUCCESS, reason="", message=warnings))
    return None


# --- what goes wrong -------------------------------------------------------------------------------------


def _resync(i: Instance, f: Flow, now: int, resend_ms: int) -> Move | None:
    if i.given is not None and i.given.kind == "observe":
        return again(i, replace(f, strategy=replace(f.strategy, paused=False), failed=False), now, resend_ms)
    return give_command(i, give.observe, now)


def _refused(i: Instance, f: Flow, now: int) -> Move:
    i = replace(i, given=None)
    if f.step == Step.CANCEL or (f.reason == "NotFound" and f.batches):
        outcome = f.outcome or FlowPhase.FAILED
        return Move(set_flow(i, f, step=Step.DONE, outcome=outcome))
    batch = f.open_batch
    if batch is None or (batch.number == 1 and not i.cloneset.exists):
        # nothing has moved yet
        return Move(set_flow(i, f, step=Step.DONE, outcome=FlowPhase.FAILED))
    phase = BatchPhase.BAKE_FAILED if batch.baked else BatchPhase.SMOKE_FAILED
    return _fail(i, f, Failure(phase, f.reason, f.message, 0, ()), now)


def _fail(i: Instance, f: Flow, found: Failure, now: int) -> Move:
    """The release stops here; the pods that fail stay, or go, without traffic."""
    batch = f.batch
    assert batch is not None
    failed = replace(
        batch, phase=found.phase, reason=found.reason, message=found.message, failed_replicas=found.replicas
    )
    i = set_batch(i, f, failed, failed=True, reason=found.phase, message=found.message, updated_at=now)
    if found.pull_out:
        assert i.active is not None
        return give_command(set_flow(i, i.active, halted=True), give.pull_out, now, uids=found.pull_out)
    return Move(i)


def _count_failed(i: Instance, f: Flow, found: Failure) -> Instance:
    """More pods of the failed batch have failed meanwhile."""
    batch = replace(f.batches[-1], failed_replicas=found.replicas, message=found.message)
    return set_batch(i, f, batch, message=found.message)


# --- the road --------------------------------------------------------------------------------------------


def _observe(i: Instance, f: Flow, now: int) -> Move | None:
    """The first look: what there is decides on the plan."""
    if not carried_out(i, "observe"):
        return None
    if not i.cloneset.exists and f.action != "create":
        message = f"CloneSet {i.name} does not exist: create the instance first (action create)"
        return Move(
            set_flow(
                i, f, step=Step.DONE, outcome=FlowPhase.FAILED, reason="InstanceNotFound", message=message
            )
        )
    revisions = {pod.revision for pod in i.pods.values() if not pod.deleting}
    if not f.target_revision and (len(revisions) > 1 or f.wanted == 0):
        # some of these pods may have the target template: its revision is known once it is written
        return give_command(set_flow(i, f, step=Step.PREPARE), give.prepare, now) if not f.paused else None
    return Move(replace(i, active=planned(f)))


def _prepare(i: Instance, f: Flow, now: int) -> Move | None:
    if f.paused:
        return None
    if i.given is None:
        return give_command(i, give.prepare, now)
    if not carried_out(i, "surge"):
        return None
    target = i.cloneset.update_revision
    updated = sum(1 for pod in i.pods.values() if pod.revision == target and not pod.deleting)
    updated = min(updated, i.cloneset.replicas)
    f = replace(f, target_revision=target, updated=updated, others=i.cloneset.replicas - updated)
    return Move(replace(i, active=planned(f)))


def _take_over(i: Instance, f: Flow, now: int) -> Move | None:
    """What Triton 0.1.x began becomes ours by one write; then it goes on from where it stood."""
    if not f.issued and f.outcome is not None:
        left = set_flow(i, f, step=Step.CANCEL, victims=(), issued=True)
        keep = i.cloneset.replicas
        return give_command(
            left, give.cancel, now, keep=keep, baked=keep - f.others, drop=(), restore_template=f.others > 0
        )
    if not f.issued:
        return give_command(set_flow(i, f, issued=True), give.claim, now)
    batch = f.open_batch
    if not carried_out(i, "surge" if batch else "retire"):
        return None
    f = replace(f, issued=False, named={})
    i = replace(i, given=None)
    if batch is not None:
        return Move(replace(i, active=replace(f, phase=FlowPhase.BATCH_STARTED, step=_STEP_AT[batch.phase])))
    if f.batches:
        return Move(replace(i, active=replace(f, phase=FlowPhase.BATCH_FINISHED, step=Step.BETWEEN)))
    return Move(replace(i, active=replace(planned(f), phase=FlowPhase.INITIALIZING)))


_STEP_AT = {
    BatchPhase.SMOKING: Step.SURGE,
    BatchPhase.SMOKED: Step.SMOKED,
    BatchPhase.BAKING: Step.PULL_IN,
    BatchPhase.BAKED: Step.PULL_OUT,
    BatchPhase.SMOKE_FAILED: Step.SURGE,
    BatchPhase.BAKE_FAILED: Step.PULL_IN,
}


def planned(f: Flow) -> Flow:
    """The release with the plan that its counts lead to."""
    counts = Counts(f.updated, f.others)
    to_process = remaining(f.wanted, counts)
    canary = canary_of(f.strategy.canary, to_process) if counts.updated < f.wanted else 0
    warnings = f.warnings
    if f.strategy.canary and not canary and to_process:
        warnings = (*warnings, canary_warning(f.strategy.canary, to_process))
    return replace(
        f,
        step=Step.BETWEEN,
        to_process=to_process,
        total=batch_count(to_process, canary, _size(f)),
        warnings=warnings,
    )


def first_size(f: Flow) -> tuple[int, bool]:
    """How many pods the next batch of a planned release makes or removes, and whether they are its canary."""
    left = remaining(f.wanted, Counts(f.updated, f.others))
    canary = canary_of(f.strategy.canary, left) if not f.batches and f.updated < f.wanted else 0
    return min(canary or _size(f), left), bool(canary)


def interval_end(f: Flow) -> int:
    """When the next batch may start by `batchIntervalSeconds`; there is no wait after the canary."""
    last = f.batch
    if last is None or last.canary:
        return 0
    return last.finished_at + f.strategy.interval * 1000


def _may_begin(f: Flow, now: int) -> bool:
    return not f.paused and may_start(f, len(f.batches) + 1) and now >= interval_end(f)


def _between(i: Instance, f: Flow, now: int) -> Move | None:
    if not remaining(f.wanted, Counts(f.updated, f.others)):
        return None if f.paused else Move(set_flow(i, f, step=Step.FINISH, issued=False))
    if not _may_begin(f, now):
        return None
    return _begin(i, f, now)


def _begin(i: Instance, f: Flow, now: int, retiring: tuple[str, ...] = ()) -> Move:
    """The next batch; the last one's old pods, if they are still there, go in the same write."""
    counts = Counts(f.updated, f.others)
    number = len(f.batches) + 1
    left = remaining(f.wanted, counts)
    canary = canary_of(f.strategy.canary, left) if number == 1 and counts.updated < f.wanted else 0
    surge, retire = next_batch(f.wanted, counts, canary or _size(f))
    batch = Batch(number, surge, retire, bool(canary), started_at=now, surged_at=now)
    beyond = max(left - batch.size, 0)
    f = replace(
        f,
        phase=FlowPhase.BATCH_STARTED,
        batches=(*f.batches, batch),
        total=number + batch_count(beyond, 0, _size(f)),
        victims=retiring,
        issued=True,
        step=Step.SURGE,
    )
    i = replace(i, active=f)
    if not surge:
        return Move(set_batch(i, f, batch, step=Step.PULL_IN, issued=False))
    return give_command(i, give.surge, now)


def _tell_pods(i: Instance, f: Flow) -> Instance:
    """Pods that were not there before the surge and have the target revision are the batch's."""
    untold = [uid for uid, pod in i.pods.items() if pod.batch == UNTOLD]
    batch = f.open_batch
    if not untold or f.step in {Step.OBSERVE, Step.PREPARE, Step.TAKE_OVER}:
        return i
    if f.step == Step.SURGE and batch is not None and not batch.told:
        return i
    target = f.target_revision or i.cloneset.update_revision
    claiming = batch.number if batch and not batch.baked else EARLIER
    pods = dict(i.pods)
    for uid in untold:
        pods[uid] = replace(pods[uid], batch=claiming if pods[uid].revision == target else EARLIER)
    return replace(i, pods=pods)


def _surge(i: Instance, f: Flow, now: int) -> Move | None:
    batch = f.open_batch
    assert batch is not None
    if not batch.told and carried_out(i, "surge"):
        told = replace(batch, told=True)
        return Move(set_batch(i, f, told, target_revision=i.cloneset.update_revision))
    if batch.told and sum(1 for _, pod in mine(i, batch) if pod.containers_ready) >= batch.surge:
        smoked = replace(batch, phase=BatchPhase.SMOKED, smoked_at=now)
        return Move(set_batch(i, f, smoked, step=Step.SMOKED, victims=()))
    if f.issued or f.paused:
        return None
    # given once more: of the others, those beyond the count are still to go
    others = sum(1 for p in i.pods.values() if p.revision != f.target_revision and not p.deleting)
    victims = choose_victims(i, f, max(others - f.others, 0)) if f.target_revision else ()
    return give_command(set_flow(i, f, issued=True, victims=victims), give.surge, now)


def _smoked(i: Instance, f: Flow, now: int) -> Move | None:
    batch = f.open_batch
    assert batch is not None
    if f.paused or not may_reach(f, batch.number, BatchPhase.BAKING):
        return None
    if sum(1 for _, pod in mine(i, batch) if pod.containers_ready) < batch.surge:
        return None
    baking = replace(batch, phase=BatchPhase.BAKING, unready_since=now)
    return Move(set_batch(i, f, baking, step=Step.PULL_IN, issued=False))


def _pull_in(i: Instance, f: Flow, now: int) -> Move | None:
    batch = f.open_batch
    assert batch is not None
    pods = mine(i, batch)
    opens = not f.strategy.no_pull_in
    closed = [uid for uid, p in pods if p.containers_ready and p.gate == "closed"]
    if opens and not f.paused and any(not i.pods[uid].asked for uid in closed):
        return _ask_in(i, now, tuple(uid for uid, pod in pods if pod.containers_ready))
    skip_traffic = f.strategy.no_pull_in and not retire_after(
        f.wanted, Counts(f.updated, f.others), batch.surge
    )
    ready = sum(1 for _, p in pods if p.ready) >= batch.surge or skip_traffic
    if ready != bool(batch.ready_since):
        pulled_in_at = batch.pulled_in_at or (now if ready else 0)
        since = (
            {"ready_since": now, "unready_since": 0} if ready else {"ready_since": 0, "unready_since": now}
        )
        return Move(set_batch(i, f, replace(batch, pulled_in_at=pulled_in_at, **since), updated_at=now))
    if not ready or now < batch.ready_since + f.strategy.bake * 1000:
        return None
    if f.paused or not may_reach(f, batch.number, BatchPhase.BAKED):
        return None
    baked = replace(batch, phase=BatchPhase.BAKED, baked_at=now)
    return Move(set_batch(i, f, baked, step=Step.PULL_OUT, issued=False))


def _ask_in(i: Instance, now: int, uids: tuple[str, ...]) -> Move:
    pods = dict(i.pods)
    for uid in uids:
        pods[uid] = replace(pods[uid], asked=i.sequence + 1)
    return give_command(replace(i, pods=pods), give.pull_in, now, uids=uids)


def _gates_seen(i: Instance) -> Instance:
    """With its pull_in done once no gate that was asked for is closed."""
    if i.given is None or i.given.kind != "pull_in" or i.given.seen:
        return i
    live = (pod for pod in i.pods.values() if not pod.deleting)
    if any(pod.asked and pod.containers_ready and pod.gate == "closed" for pod in live):
        return i
    return replace(i, given=replace(i.given, answered=True, seen=True))


def _strays(i: Instance, f: Flow) -> tuple[str, ...]:
    """Pods that take the place of ones of a batch that is over: they wait behind the hold, and no batch claims them."""
    idle = i.given is None or (i.given.answered and i.given.seen)
    if f.step not in {Step.SURGE, Step.SMOKED, Step.PULL_IN, Step.PULL_OUT} or not idle:
        return ()
    batch = f.open_batch
    if f.paused or f.strategy.no_pull_in or batch is None or (f.step == Step.SURGE and not batch.told):
        return ()
    return tuple(
        uid
        for uid, pod in i.pods.items()
        if pod.batch != batch.number
        and pod.revision == f.target_revision
        and pod.containers_ready
        and pod.gate == "closed"
        and not (pod.asked or pod.deleting or uid in f.victims)
    )


def _pull_out(i: Instance, f: Flow, now: int) -> Move | None:
    """Baked: the old pods that the batch replaces are chosen and, where a wait is set, lose their traffic."""
    batch = f.open_batch
    assert batch is not None
    if f.paused:
        return None
    if not f.issued:
        retire = retires(f, batch)
        victims = choose_victims(i, f, retire)
        i = set_batch(i, f, replace(batch, retire=retire), victims=victims, issued=True)
        if not f.strategy.pull_out or not victims:
            return _retire_now(i, now)
        return give_command(i, give.pull_out, now, uids=victims)
    if not batch.pulled_out_at:
        live = [pod for uid in f.victims if (pod := i.pods.get(uid)) is not None and not pod.deleting]
        if any(pod.gate == "open" for pod in live):
            return None
        given = replace(i.given, answered=True, seen=True) if i.given else None
        return Move(set_batch(replace(i, given=given), f, replace(batch, pulled_out_at=now)))
    if now < batch.pulled_out_at + f.strategy.pull_out * 1000:
        return None
    return _retire_now(i, now)


def _retire_now(i: Instance, now: int) -> Move:
    """Retire; in one write with the surge of the next batch where that may follow at once."""
    f = i.active
    assert f is not None
    batch = f.open_batch
    assert batch is not None
    if batch.surge:
        over = _finished(f, batch, now)
        more = remaining(over.wanted, Counts(over.updated, over.others))
        if more and over.updated < over.wanted and _may_begin(over, now):
            return _begin(replace(i, active=over), over, now, f.victims)
    return give_command(set_flow(i, f, step=Step.RETIRE, issued=True), give.retire, now)


def _finished(f: Flow, batch: Batch, now: int) -> Flow:
    counts = after(Counts(f.updated, f.others), batch.surge, batch.retire)
    return replace(
        f,
        phase=FlowPhase.BATCH_FINISHED,
        batches=(*f.batches[:-1], replace(batch, phase=BatchPhase.BAKED, finished_at=now)),
        updated=counts.updated,
        others=counts.others,
        step=Step.BETWEEN,
        issued=False,
    )


def _retire(i: Instance, f: Flow, now: int) -> Move | None:
    batch = f.open_batch
    assert batch is not None
    if f.paused and not f.issued:
        return None
    if not f.issued:
        retire = retires(f, batch)
        batch = replace(batch, retire=retire)
        # a retire that was written before may have done its part already
        live = [pod for pod in i.pods.values() if not pod.deleting]
        present = [pod for pod in live if not batch.surge or pod.revision != f.target_revision]
        count = max(len(present) - (f.others + (0 if batch.surge else f.updated) - retire), 0)
        f = replace(f, victims=choose_victims(i, f, count), issued=True)
        return give_command(set_batch(i, f, batch), give.retire, now)
    if not carried_out(i, "retire") or not gone(i, f.victims):
        return None
    over = replace(_finished(f, batch, now), victims=())
    return Move(replace(i, active=over))


_STEPS: dict[Step, Callable[[Instance, Flow, int], Move | None]] = {
    Step.OBSERVE: _observe,
    Step.PREPARE: _prepare,
    Step.TAKE_OVER: _take_over,
    Step.BETWEEN: _between,
    Step.SURGE: _surge,
    Step.SMOKED: _smoked,
    Step.PULL_IN: _pull_in,
    Step.PULL_OUT: _pull_out,
    Step.RETIRE: _retire,
    Step.FINISH: _finish,
    Step.CANCEL: cancel,
}
