"""The life of a release: from what is known to the next move, one step at a time.

Every batch is the same short road: surge → smoked → pull in → baked → pull out → retire. `next_move` looks
only at values and the time given; after every fact it is asked until there is nothing more to do. Whatever
the release waits for then, `deadlines.deadline` tells when to look again.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from services.planner.decision import command_factory as give
from services.planner.decision.failure_handling import (
    count_failed,
    fail,
    give_up,
    lost,
    refused,
    resync,
    retry,
    spare,
)
from services.planner.decision.scheduling import activate, cancel, close, drop_waiting, end, ending_of
from services.planner.decision.traffic_removal import closed, still_serving
from services.planner.decision.transitions import (
    Move,
    again,
    ask_in,
    carried_out,
    give_command,
    gone,
    mine,
    set_batch,
    set_flow,
)
from services.planner.model.batch_plan import (
    Counts,
    Current,
    after,
    batch_count,
    canary_of,
    goal,
    next_batch,
    remaining,
    retire_after,
)
from services.planner.model.flow_plan import batch_size_of, planned
from services.planner.model.state import EARLIER, UNTOLD, Batch, Flow, Instance, Step
from services.planner.rules.approvals import may_reach, may_start
from services.planner.rules.batch_interval import interval_end
from services.planner.rules.draining import have_connections
from services.planner.rules.failure_detection import failure, spared
from services.planner.rules.pod_selection import choose_victims, retires
from shared.domain.deployflow import Action, BatchPhase, FlowPhase


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
        return refused(i, f, now)
    if f.resync:
        return resync(i, f, now, resend_ms)
    if lost(i, f):
        return give_up(i, f)
    if (told := _tell_pods(i, f)) is not i:
        return Move(told)
    if (ending := ending_of(i, f)) is not None:
        return end(i, f, ending, now, resend_ms)
    if f.strategy.retries > f.retries:
        return retry(i, f, now)
    if (found := failure(i, f, now)) is not None:
        if not f.failed:
            return fail(i, f, found, now)
        if f.batches[-1].failed_replicas < found.replicas:
            return Move(count_failed(i, f, found))
        if uids := still_serving(i, found):
            return give_command(i, give.pull_out, now, uids=uids)
    if (f.failed or f.step == Step.PULL_IN) and (pulled_out := closed(i)) is not i:
        return Move(pulled_out)
    if bad := spared(i, f, now):
        return spare(i, f, bad, now)
    if f.paused and not f.halted and f.step in {Step.SURGE, Step.RETIRE} and f.issued:
        return give_command(set_flow(i, f, halted=True, issued=False), give.halt, now)
    if f.halted and not f.paused:
        return Move(set_flow(i, f, halted=False))
    if (seen := _gates_seen(i)) is not i:
        return Move(seen)
    if strays := _strays(i, f):
        return ask_in(i, now, strays)
    return _STEPS[f.step](i, f, now) or again(i, f, now, resend_ms)


def _finish(i: Instance, f: Flow, now: int) -> Move | None:
    removing = f.action == Action.DELETE
    if removing and not f.issued and remaining(f.wanted, Counts(f.updated, f.others)):
        # somebody has scaled it up since
        return Move(set_flow(i, f, step=Step.BETWEEN))
    if not f.issued:
        return give_command(set_flow(i, f, issued=True), give.remove if removing else give.finish, now)
    if carried_out(i, "remove" if removing else "finish"):
        warnings = "; ".join(f.warnings)
        return Move(set_flow(i, f, step=Step.DONE, outcome=FlowPhase.SUCCESS, reason="", message=warnings))
    return None


# --- the road --------------------------------------------------------------------------------------------


def _observe(i: Instance, f: Flow, now: int) -> Move | None:
    """The first look: what there is decides on the plan."""
    if not carried_out(i, "observe"):
        return None
    if not i.cloneset.exists and f.action != "create":
        message = f"CloneSet {i.name} does not exist: create the instance first (action create)"
        return Move(_not_begun(i, f, "InstanceNotFound", message))
    if not f.updating:
        return _aim(i, f)
    revisions = {pod.revision for pod in i.pods.values() if not pod.deleting}
    if not f.target_revision and (len(revisions) > 1 or f.wanted == 0):
        # some of these pods may have the target template: its revision is known once it is written
        return give_command(set_flow(i, f, step=Step.PREPARE), give.prepare, now) if not f.paused else None
    return Move(replace(i, active=planned(f)))


def _aim(i: Instance, f: Flow) -> Move:
    """What an action that keeps the template leads to, from the pods that there are."""
    uids = {pod.name: uid for uid, pod in i.pods.items() if not pod.deleting}
    named = f.strategy.pods_to_delete
    replicas = i.cloneset.replicas
    current = Current(exists=True, replicas=replicas, updated=replicas, stopped=i.cloneset.stopped)
    aim = goal(f.action, f.wanted, current, len(named))
    if unknown := [name for name in named if name not in uids]:
        text = f"podsToDelete: {i.name} has no pod {', '.join(unknown)}"
        return Move(_not_begun(i, f, "PodNotFound", text))
    if isinstance(aim, str):
        return Move(_not_begun(i, f, "NotPossible", aim))
    everyone = f.action == Action.RESTART and not named
    leaving = frozenset(uids.values() if everyone else (uids[name] for name in named))
    others = min(len(leaving), replicas)
    f = replace(
        f,
        wanted=aim.wanted,
        leaving=leaving,
        updated=replicas - others,
        others=others,
        target_revision=i.cloneset.update_revision,
        stopped=replicas if f.action == Action.STOP else 0,
        # whoever opens the gates of its pods goes on doing it
        strategy=replace(f.strategy, no_pull_in=i.cloneset.no_pull_in),
    )
    return Move(replace(i, active=planned(f)))


def _not_begun(i: Instance, f: Flow, reason: str, message: str) -> Instance:
    return set_flow(i, f, step=Step.DONE, outcome=FlowPhase.FAILED, reason=reason, message=message)


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
    surge, retire = next_batch(f.wanted, counts, canary or batch_size_of(f))
    batch = Batch(number, surge, retire, bool(canary), started_at=now, surged_at=now)
    beyond = max(left - batch.size, 0)
    f = replace(
        f,
        phase=FlowPhase.BATCH_STARTED,
        batches=(*f.batches, batch),
        total=number + batch_count(beyond, 0, batch_size_of(f)),
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
        dropped = tuple(uid for uid in f.dropped if not gone(i, (uid,)))
        return Move(set_batch(i, f, smoked, step=Step.SMOKED, victims=(), dropped=dropped))
    if f.issued or f.paused:
        return None
    # given once more: of the others, those beyond the count are still to go
    others = sum(1 for uid, p in i.pods.items() if not f.stays(uid, p.revision) and not p.deleting)
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
        return ask_in(i, now, tuple(uid for uid, pod in pods if pod.containers_ready))
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


def _gates_seen(i: Instance) -> Instance:
    """With its pull_in done once no gate that was asked for is closed."""
    if i.given is None or i.given.kind != "pull_in" or i.given.seen:
        return i
    ending = i.active is not None and i.active.step == Step.CANCEL
    asked = [pod for pod in i.pods.values() if pod.asked and not pod.deleting]
    # one that a batch made waits for its containers; one that a cancel gives its traffic back had it before
    if any(pod.gate == "closed" and (ending or pod.containers_ready) for pod in asked):
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
        and not (pod.asked or pod.deleting or uid in (*f.victims, *f.leaving, *f.dropped))
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
        if not (f.strategy.pull_out or have_connections(i, victims)) or not victims:
            return _retire_now(i, now)
        return give_command(i, give.pull_out, now, uids=victims)
    if not batch.pulled_out_at:
        live = [pod for uid in f.victims if (pod := i.pods.get(uid)) is not None and not pod.deleting]
        if any(pod.gate == "open" for pod in live):
            return None
        given = replace(i.given, answered=True, seen=True) if i.given else None
        return Move(set_batch(replace(i, given=given), f, replace(batch, pulled_out_at=now)))
    if now < batch.pulled_out_at + f.strategy.pull_out * 1000 or have_connections(i, f.victims):
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
        live = [(uid, pod) for uid, pod in i.pods.items() if not pod.deleting and uid not in f.dropped]
        if f.updating and batch.surge:
            present = sum(1 for uid, pod in live if not f.stays(uid, pod.revision))
            count = max(present - (f.others - retire), 0)
        else:
            count = max(len(live) - (f.updated + f.others + batch.surge - retire), 0)
        f = replace(f, victims=choose_victims(i, f, count), issued=True)
        return give_command(set_batch(i, f, batch), give.retire, now)
    if not carried_out(i, "retire") or not gone(i, (*f.victims, *f.dropped)):
        return None
    over = replace(_finished(f, batch, now), victims=(), dropped=())
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
