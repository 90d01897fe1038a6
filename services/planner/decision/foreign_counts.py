"""Follow a count that somebody else writes to the CloneSet in the middle of a release: a person, an HPA, KEDA.

The number that they write is the number they want in the end, whatever surge is under way. So it becomes the wanted
count of the release at once, in every step. A batch under way keeps its new pods: the pods beside them follow the
number, and the surge is written again on top of it. OpenKruise may have taken or made pods for the number before, so
the cluster is observed first. `stop` and `delete` end with no pod, whatever is written.
"""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.decision import command_factory
from services.planner.decision.transitions import Move, all_gone, issue_command, resend, set_batch, set_flow
from services.planner.model.flow_plan import plan_remaining
from services.planner.model.state import (
    PRE_EXISTING,
    Batch,
    CloneSet,
    Flow,
    Instance,
    Resync,
    Step,
    StepCommand,
)
from services.planner.rules.approvals import may_reach, waits_within
from services.planner.rules.pod_selection import choose_surplus, choose_victims
from services.planner.rules.retry_backoff import count_rejection
from shared.domain import messages as m
from shared.domain.deployflow import Action, BatchPhase, FlowPhase

FIGHT_MS = 3000
"""Two counts of somebody else within this time are a fight, in which Triton's writes wait; an HPA writes every 15 s."""
_AFTER_ITS_COUNT = {Step.CANCEL, Step.FINISH, Step.DONE}
"""Steps whose commands leave the live count as it is, or do not depend on it."""
_SURGED = {Step.SURGE, Step.SMOKED, Step.PULL_IN}


def is_foreign(known: CloneSet, seen: m.CloneSetFacts) -> bool:
    """Return whether somebody else has set a count that the planner does not know yet."""
    if not seen.exists or seen.sequence < known.sequence or seen.replicas == known.replicas:
        return False
    if known.exists and seen.sequence == known.sequence:
        # nothing of ours was written since
        return True
    return seen.replicas_set is not None and seen.replicas != seen.replicas_set


def take_count(instance: Instance, count: int) -> Instance:
    """Make the count that somebody else has set the wanted one of the release."""
    flow = instance.active
    assert flow is not None
    instance = replace(instance, cloneset=replace(instance.cloneset, replicas=count))
    if flow.step == Step.OBSERVE:
        # the plan is not made yet
        return instance
    if flow.action in {Action.STOP, Action.DELETE}:
        return set_flow(instance, flow, wanted=0)
    return set_flow(instance, flow, wanted=count, scaled_to=count)


def note_count(instance: Instance, count: int, now: int) -> Instance:
    """Take in the count that somebody else has set; what follows from it is found out by an observation."""
    instance = take_count(instance, count)
    flow = instance.active
    assert flow is not None
    removing = flow.step == Step.FINISH and flow.action == Action.DELETE
    if flow.step == Step.OBSERVE or (flow.step in _AFTER_ITS_COUNT and not removing):
        return instance
    flow = count_rejection(flow, now, f"somebody else has scaled to {count}", in_a_row_ms=FIGHT_MS)
    resync = max(flow.resync, Resync.RECOUNT)
    return set_flow(replace(instance, pending=None), flow, resync=resync, step_command=_command_due(flow))


def _command_due(flow: Flow) -> StepCommand:
    return StepCommand.HALTED if flow.halted else StepCommand.DUE


def recount(instance: Instance, flow: Flow, fact: m.Done, now: int) -> Instance:
    """Return the instance with the counts that follow from a count of somebody else and from the observed pods."""
    batch, live = flow.open_batch, fact.cloneset
    flow = replace(flow, resync=Resync.NONE, step_command=_command_due(flow))
    if flow.scaled_to_zero:
        return replace(instance, active=flow)
    others = sum(1 for p in fact.pods if not flow.keeps_pod(p.uid, p.revision))
    if flow.standing_by and _restores(flow) and others < live.replicas:
        # with the template of the release in place OpenKruise could make none of the old revision any more
        words = f"OpenKruise has made {others} of {live.replicas} pods"
        waiting = count_rejection(replace(flow, resync=Resync.RECOUNT), now, words)
        return replace(instance, active=waiting, pending=None)
    instance = _forget_gone(instance, fact, now)
    flow = replace(flow, standing_by=False)
    held = (
        batch is not None
        and live.hold is not None
        and (live.hold.flow, live.hold.batch) == (flow.uid, batch.number)
    )
    if batch is not None and batch.surge and not batch.baked and held:
        total = live.replicas
        if fact.pods and not others and flow.updating:
            # with its last pod OpenKruise has forgotten the old revision: what does not serve yet belongs to the batch
            own = instance.live_pods_of(batch)
            serving = sum(1 for pod in fact.pods if pod.uid not in own and pod.gate != m.Gate.CLOSED)
            flow, total = replace(flow, updated=min(serving, flow.wanted), others=0), flow.wanted
        flow = _fit_batch(flow, batch, total, len(instance.live_pods_of(batch)), now)
        return replace(instance, active=plan_remaining(flow))
    if flow.updating and not held:
        others = max(others, _count_to_come(flow, live))
    updated = max(live.replicas - min(others, live.replicas), 0)
    if batch is not None and batch.surge and held:
        # the pods of the batch are counted apart; those that were scaled down may still stand
        updated = max(len(fact.pods) - others - batch.surge, 0)
    else:
        others = min(others, live.replicas)
    if batch is not None and not batch.surge:
        batch = replace(batch, retire=min(batch.retire, max(live.replicas - flow.wanted, 0)))
    elif batch is not None and flow.step == Step.SURGE:
        batch = replace(batch, surged_at=now)
    batches = (*flow.batches[:-1], batch) if batch is not None else flow.batches
    return replace(
        instance, active=plan_remaining(replace(flow, updated=updated, others=others, batches=batches))
    )


def _count_to_come(flow: Flow, live: m.CloneSetFacts) -> int:
    """Return how many pods of the old revision there will be at least, once OpenKruise has made what is missing."""
    has_template = bool(flow.target_revision) and flow.target_revision == live.update_revision
    return min(live.partition, live.replicas) if has_template else live.replicas


def _forget_gone(instance: Instance, fact: m.Done, now: int) -> Instance:
    """Forget the pods that OpenKruise has taken for the count: none of them may be counted as there, or be named."""
    listed = {pod.uid for pod in fact.pods}
    long_ago = now - 1000
    pods = {
        uid: pod
        for uid, pod in instance.pods.items()
        # one that is as young as the list may be missing there
        if uid in listed or pod.deleting or pod.created_at > long_ago
    }
    return replace(instance, pods=pods) if len(pods) < len(instance.pods) else instance


def _fit_batch(flow: Flow, batch: Batch, total: int, made: int, now: int) -> Flow:
    """Return the release with the counts of its open batch for the wanted count; `made`: its pods that are there.

    Where there is an old revision, pods of that are made and removed, and the batch keeps its size. Else, and where the
    batch goes on at once, the pods that were added have the revision of the batch and belong to it.
    """
    updated, others, surge = flow.updated, flow.others, batch.surge
    grows = total >= updated + others + surge
    if flow.updating and others and not (grows and not waits_within(flow, batch)):
        updated = min(updated, flow.wanted)
        others = flow.wanted - updated
    elif grows:
        surge = total - updated - others
    else:
        updated = min(updated, flow.wanted)
        others = min(others, flow.wanted - updated)
        if not others:
            surge = max(min(surge, flow.wanted - updated), 1)
    batch = replace(batch, surge=surge, rewrite_due=True)
    if made < surge:
        # pods that are made again have their full time
        batch = replace(batch, surged_at=now, unready_since=now if batch.unready_since else 0)
    return replace(flow, updated=updated, others=others, batches=(*flow.batches[:-1], batch))


def _restores(flow: Flow) -> bool:
    """Return whether a scale to 0 brings the last successful template back; a create has none."""
    return flow.updating and flow.action != Action.CREATE


def write_surge(instance: Instance, flow: Flow, now: int, **fields: object) -> Move:
    """Issue the surge of the open batch again: pods beyond its counts are removed, those that are missing made."""
    batch = flow.open_batch
    assert batch is not None
    victims: tuple[str, ...] = ()
    if batch.surge_acknowledged:
        surplus = choose_surplus(instance, flow, batch)
        # they are no longer the batch's: those that take their place are
        own = {uid for uid in surplus if instance.pods[uid].batch == batch.number}
        pods = {
            uid: replace(pod, batch=PRE_EXISTING) if uid in own else pod for uid, pod in instance.pods.items()
        }
        instance = replace(instance, pods=pods) if own else instance
        victims = tuple(uid for uid in surplus if uid not in own)
        flow = replace(flow, dropped=(*flow.dropped, *sorted(own)))
    elif flow.target_revision:
        others = sum(
            1 for uid, p in instance.pods.items() if not flow.keeps_pod(uid, p.revision) and not p.deleting
        )
        victims = choose_victims(instance, flow, max(others - flow.others, 0))
    leaving = (*victims, *flow.dropped)
    guarded = _may_guard(instance, flow, batch) and all_gone(instance, leaving)
    written = replace(batch, rewrite_due=False, guarded=guarded)
    # some of those that go with this write may have gone by themselves, and others took their place
    earlier = tuple(
        replace(one, removing=victims) if one in flow.unfinished_before else one for one in flow.batches[:-1]
    )
    flow = replace(flow, batches=(*earlier, flow.batches[-1]))
    instance = set_batch(instance, flow, written, victims=victims, **fields)
    return issue_command(instance, command_factory.surge, now, guard=guarded)


def _may_guard(instance: Instance, flow: Flow, batch: Batch) -> bool:
    """Return whether a batch waits for a person with all its pods; those of other batches are in traffic soon."""
    complete = batch.surge_acknowledged and len(instance.live_pods_of(batch)) >= batch.surge
    return complete and not flow.paused and not may_reach(flow, batch.number, BatchPhase.BAKED)


def rewrite_surge(instance: Instance, flow: Flow, now: int) -> Move | None:
    """Write the surge of a batch again that has its pods, or stands still; None where it is not due."""
    batch = flow.open_batch
    pending = instance.pending
    if batch is None or not batch.surge_acknowledged or batch.baked:
        return None
    if not batch.rewrite_due:
        return _recount_surplus(instance, flow, batch, now) or _guard(instance, flow, batch, now)
    if flow.step not in _SURGED or (flow.step == Step.SURGE and not flow.paused) or now < flow.retry_at:
        return None
    if pending is not None and not pending.carried_out and pending.kind in {"pull_in", "pull_out"}:
        # one command at a time: this one first
        return None
    return write_surge(instance, flow, now)


def _recount_surplus(instance: Instance, flow: Flow, batch: Batch, now: int) -> Move | None:
    """Observe the cluster where OpenKruise made pods in the places of others; the surge is due again then.

    It did so for a count before it saw the partition, or for old pods that went before the write that removes them and
    begins the batch. Not of a batch that failed: its pods stay as they are until somebody has looked at them.
    """
    idle = instance.pending is None or instance.pending.carried_out
    if not idle or flow.failed or flow.step not in _SURGED or not has_surplus(instance, flow, batch):
        return None
    words = "OpenKruise has made pods in the places of others"
    flow = count_rejection(flow, now, words, in_a_row_ms=FIGHT_MS)
    return Move(
        set_flow(
            replace(instance, pending=None),
            flow,
            resync=Resync.RECOUNT,
            step_command=_command_due(flow),
        )
    )


def has_surplus(instance: Instance, flow: Flow, batch: Batch) -> bool:
    """Return whether pods have to be named for removal, since OpenKruise would keep them.

    It counts all pods of the CloneSet: it keeps pods of the batch in the places of old ones, and others in the places of
    the batch's. Under a guard it only marks what is too much.
    """
    own = len(instance.live_pods_of(batch))
    removing = (uid for earlier in flow.unfinished_before for uid in earlier.removing)
    leaving = {*flow.victims, *flow.dropped, *removing}
    beside = [
        (uid, pod)
        for uid, pod in instance.pods.items()
        if not pod.deleting and pod.batch != batch.number and uid not in leaving
    ]
    others = sum(1 for uid, pod in beside if not flow.keeps_pod(uid, pod.revision))
    if own > batch.surge and others < flow.others:
        # other actions make no pods but those of the one revision
        return flow.updating
    too_many = len(beside) - flow.updated - flow.others
    beyond = own + too_many > batch.surge
    if own < batch.surge and too_many > 0 and not beyond:
        return True
    return batch.guarded and beyond and bool(choose_surplus(instance, flow, batch))


def _guard(instance: Instance, flow: Flow, batch: Batch, now: int) -> Move | None:
    """Guard the pods of a batch that waits for a person.

    Of a guarded one, a pod that is lost is replaced by one of the old template: a surplus once it is known.
    """
    idle = instance.pending is None or instance.pending.carried_out
    if not idle or not batch.surge or batch.guarded or flow.paused or flow.step not in _SURGED:
        return None
    if not _may_guard(instance, flow, batch) or not all_gone(instance, (*flow.victims, *flow.dropped)):
        return None
    guarded = set_batch(instance, flow, replace(batch, guarded=True))
    return issue_command(guarded, command_factory.surge, now, guard=True)


def stand_by(instance: Instance, flow: Flow, now: int, resend_ms: int) -> Move | None:
    """Prepare the CloneSet of a release that somebody has scaled to 0; None once that is done.

    OpenKruise forgets the old revision with its last pod. So the template goes back to the last successful one: what
    somebody makes later must not have a template that nobody has accepted.
    """
    if flow.standing_by:
        return resend(instance, flow, now, resend_ms, anyway=True)
    batch = flow.open_batch
    waiting = replace(flow, standing_by=True, victims=(), dropped=())
    if batch is not None and (batch.baked or not batch.surge):
        done = replace(batch, phase=BatchPhase.BAKED, finished_at=now)
        waiting = replace(waiting, batches=(*flow.batches[:-1], done), step=Step.BETWEEN)
        waiting = replace(waiting, phase=FlowPhase.BATCH_FINISHED)
        batch = None
    elif batch is not None:
        fresh = replace(
            batch,
            phase=BatchPhase.SMOKING,
            surge_acknowledged=False,
            rewrite_due=False,
            guarded=False,
            smoked_at=0,
            pulled_in_at=0,
            ready_since=0,
            unready_since=0,
        )
        waiting = replace(waiting, batches=(*flow.batches[:-1], fresh), step=Step.SURGE)
    pods = {uid: replace(pod, batch=PRE_EXISTING) for uid, pod in instance.pods.items()}
    instance = replace(instance, pods=pods)
    everyone = tuple(uid for uid, pod in pods.items() if not pod.deleting)
    if _restores(flow):
        waiting = replace(waiting, updated=0, others=0, step_command=StepCommand.DUE)
        return issue_command(
            replace(instance, active=waiting),
            command_factory.cancel,
            now,
            keep=0,
            baked=0,
            drop=everyone,
            restore_template=True,
        )
    if batch is None:
        return Move(replace(instance, active=replace(waiting, updated=0, others=0)))
    # a create has no template to go back to: its hold stays, and keeps the gates of what is made later closed
    emptied = set_flow(instance, waiting, updated=0, others=0, victims=everyone)
    move = issue_command(emptied, command_factory.surge, now, count=0)
    return Move(
        set_flow(move.instance, waiting, updated=0, others=0, step_command=StepCommand.DUE), move.commands
    )
