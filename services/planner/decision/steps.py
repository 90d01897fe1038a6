"""Decide the move of each step in the normal course of a release.

Every batch has the same steps: surge → smoked → pull in → baked → pull out → retire. `guards.next_move` comes here
only where no guard has a move. What a step waits for is a message, or a time that `deadlines.next_deadline` knows.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from services.planner.decision import command_factory
from services.planner.decision.foreign_counts import has_surplus, write_surge
from services.planner.decision.scheduling import (
    await_cancel,
)
from services.planner.decision.transitions import (
    Move,
    all_gone,
    is_carried_out,
    issue_command,
    request_pull_in,
    set_batch,
    set_flow,
)
from services.planner.model.batch_plan import (
    Counts,
    Current,
    count_batches,
    count_remaining,
    count_retired,
    counts_after,
    find_goal,
    size_next_batch,
)
from services.planner.model.flow_plan import batch_size_of, plan_batches, plan_next_batch
from services.planner.model.state import STEP_OF, Batch, Flow, Instance, Step, StepCommand
from services.planner.rules.approvals import explain_scale, may_reach, may_start
from services.planner.rules.clocks import Clock, has_expired, interval_end
from services.planner.rules.deletions import CLONESET_TERMINATING, describe_deletion, find_remaining
from services.planner.rules.draining import count_undrained
from services.planner.rules.pod_selection import choose_victims, count_to_retire
from services.planner.rules.predecessors import explain_existing
from services.planner.rules.retry_backoff import count_rejection
from shared.domain.deployflow import KEEPING, Action, BatchPhase, FlowPhase
from shared.releases.history import NO_GOOD_TEMPLATE, explain_no_good_template


def _finish(instance: Instance, flow: Flow, now: int) -> Move | None:
    removing = flow.action == Action.DELETE
    stays = not instance.cloneset.deleting
    if (
        removing
        and stays
        and not flow.issued
        and count_remaining(flow.wanted, Counts(flow.updated, flow.others))
    ):
        # somebody has scaled it up since
        return Move(set_flow(instance, flow, step=Step.BETWEEN))
    if not flow.issued:
        return issue_command(
            set_flow(instance, flow, step_command=StepCommand.ISSUED),
            command_factory.remove if removing else command_factory.finish,
            now,
        )
    if is_carried_out(instance, "remove" if removing else "finish"):
        words = "; ".join((*flow.warnings, *explain_scale(flow)))
        return Move(
            set_flow(instance, flow, step=Step.DONE, outcome=FlowPhase.SUCCESS, reason="", message=words)
        )
    return None


# --- the steps --------------------------------------------------------------------------------------------


def _observe(instance: Instance, flow: Flow, now: int) -> Move | None:
    """Plan the release from the first observation."""
    if instance.pending is None:
        return issue_command(instance, command_factory.observe, now)
    if not is_carried_out(instance, "observe"):
        return None
    if instance.cloneset.deleting:
        return _await_deletion(instance, flow, now)
    flow = replace(flow, reason="", message="")
    if not instance.cloneset.exists and flow.action != "create":
        message = f"CloneSet {instance.name} does not exist: create the instance first (action create)"
        return Move(_fail_before_begin(instance, flow, "InstanceNotFound", message))
    flow = flow.scaled_from(instance.cloneset.replicas)
    if flow.action == Action.CREATE and (message := explain_existing(instance, flow)):
        return Move(_fail_before_begin(instance, flow, "AlreadyExists", message))
    if flow.action in KEEPING and instance.cloneset.no_good_template:
        message = explain_no_good_template(instance.name)
        return Move(_fail_before_begin(instance, flow, NO_GOOD_TEMPLATE, message))
    if not flow.updating:
        return _set_goal(instance, flow)
    revisions = {pod.revision for pod in instance.pods.values() if not pod.deleting}
    if not flow.target_revision and (len(revisions) > 1 or flow.wanted == 0):
        # some of these pods may have the target template: its revision is known only after it is written
        return (
            issue_command(set_flow(instance, flow, step=Step.PREPARE), command_factory.prepare, now)
            if not flow.paused
            else None
        )
    return Move(replace(instance, active=plan_batches(flow)))


def _await_deletion(instance: Instance, flow: Flow, now: int) -> Move:
    """Wait for the end of a CloneSet that is being deleted where the release can use that; else fail it."""
    text = describe_deletion(instance)
    if flow.action == Action.DELETE:
        return Move(set_flow(instance, flow, step=Step.FINISH, step_command=StepCommand.DUE))
    if flow.action != Action.CREATE:
        words = f"{text}: create the instance again when it is gone"
        return Move(_fail_before_begin(instance, flow, CLONESET_TERMINATING, words))
    words = f"{text}: the create begins when it is gone"
    waiting = replace(count_rejection(flow, now, text), reason=CLONESET_TERMINATING, message=words)
    return Move(replace(instance, active=waiting, pending=None))


def _set_goal(instance: Instance, flow: Flow) -> Move:
    """Set the counts that an action without a new template aims for, from the observed pods."""
    uids = {pod.name: uid for uid, pod in instance.pods.items() if not pod.deleting}
    named = flow.strategy.pods_to_delete
    replicas = instance.cloneset.replicas
    current = Current(exists=True, replicas=replicas, updated=replicas, stopped=instance.cloneset.stopped)
    aim = find_goal(flow.action, flow.wanted, current, len(named))
    if unknown := [name for name in named if name not in uids]:
        text = f"podsToDelete: {instance.name} has no pod {', '.join(unknown)}"
        return Move(_fail_before_begin(instance, flow, "PodNotFound", text))
    if isinstance(aim, str):
        return Move(_fail_before_begin(instance, flow, "NotPossible", aim))
    everyone = flow.action == Action.RESTART and not named
    leaving = frozenset(uids.values() if everyone else (uids[name] for name in named))
    others = min(len(leaving), replicas)
    flow = replace(
        flow,
        wanted=aim.wanted,
        leaving=leaving,
        updated=replicas - others,
        others=others,
        target_revision=instance.cloneset.update_revision,
        stopped=replicas if flow.action == Action.STOP else 0,
        # the gates stay with whoever opened them before
        strategy=replace(flow.strategy, no_pull_in=instance.cloneset.no_pull_in),
    )
    return Move(replace(instance, active=plan_batches(flow)))


def _fail_before_begin(instance: Instance, flow: Flow, reason: str, message: str) -> Instance:
    return set_flow(instance, flow, step=Step.DONE, outcome=FlowPhase.FAILED, reason=reason, message=message)


def _prepare(instance: Instance, flow: Flow, now: int) -> Move | None:
    if flow.paused:
        return None
    if instance.pending is None or is_carried_out(instance, "observe"):
        return issue_command(instance, command_factory.prepare, now)
    if not is_carried_out(instance, "surge"):
        return None
    target = instance.cloneset.update_revision
    updated = sum(1 for pod in instance.pods.values() if pod.revision == target and not pod.deleting)
    updated = min(updated, instance.cloneset.replicas)
    flow = replace(flow, target_revision=target, updated=updated, others=instance.cloneset.replicas - updated)
    return Move(replace(instance, active=plan_batches(flow)))


def _take_over(instance: Instance, flow: Flow, now: int) -> Move | None:
    """Take over by one write what Triton 0.1.x began; then continue from where it stood."""
    if not flow.issued and flow.outcome is not None:
        left = set_flow(instance, flow, step=Step.CANCEL, victims=(), step_command=StepCommand.ISSUED)
        keep = instance.cloneset.replicas
        return issue_command(
            left,
            command_factory.cancel,
            now,
            keep=keep,
            baked=keep - flow.others,
            drop=(),
            restore_template=flow.others > 0,
        )
    if not flow.issued:
        return issue_command(
            set_flow(instance, flow, step_command=StepCommand.ISSUED), command_factory.claim, now
        )
    batch = flow.open_batch
    if not is_carried_out(instance, "surge" if batch else "retire"):
        return None
    flow = replace(flow, step_command=StepCommand.DUE, named={})
    instance = replace(instance, pending=None)
    if batch is not None:
        return Move(
            replace(instance, active=replace(flow, phase=FlowPhase.BATCH_STARTED, step=STEP_OF[batch.phase]))
        )
    if flow.batches:
        return Move(
            replace(instance, active=replace(flow, phase=FlowPhase.BATCH_FINISHED, step=Step.BETWEEN))
        )
    return Move(replace(instance, active=replace(plan_batches(flow), phase=FlowPhase.INITIALIZING)))


def _may_begin(flow: Flow, now: int) -> bool:
    if flow.unfinished_before:
        return False
    return not flow.paused and may_start(flow, len(flow.batches) + 1) and now >= interval_end(flow)


def _between(instance: Instance, flow: Flow, now: int) -> Move | None:
    if flow.unfinished_before:
        return None
    if not count_remaining(flow.wanted, Counts(flow.updated, flow.others)):
        return (
            None
            if flow.paused
            else Move(set_flow(instance, flow, step=Step.FINISH, step_command=StepCommand.DUE))
        )
    if not _may_begin(flow, now):
        return None
    return _begin_batch(instance, flow, now)


def _begin_batch(instance: Instance, flow: Flow, now: int, retiring: tuple[str, ...] = ()) -> Move:
    """Begin the next batch; old pods of the last one that are still there are removed in the same write."""
    counts = Counts(flow.updated, flow.others)
    number = len(flow.batches) + 1
    left = count_remaining(flow.wanted, counts)
    size, canary = plan_next_batch(flow)
    surge, retire = size_next_batch(flow.wanted, counts, size)
    batch = Batch(number, surge, retire, canary, started_at=now, surged_at=now)
    beyond = max(left - batch.size, 0)
    flow = replace(
        flow,
        phase=FlowPhase.BATCH_STARTED,
        batches=(*flow.batches, batch),
        total=number + count_batches(beyond, 0, batch_size_of(flow)),
        victims=retiring,
        step_command=StepCommand.ISSUED,
        step=Step.SURGE,
    )
    instance = replace(instance, active=flow)
    if not surge:
        return Move(set_batch(instance, flow, batch, step=Step.PULL_IN, step_command=StepCommand.DUE))
    return issue_command(instance, command_factory.surge, now)


def _surge(instance: Instance, flow: Flow, now: int) -> Move | None:
    batch = flow.open_batch
    assert batch is not None
    if not batch.surge_acknowledged and is_carried_out(instance, "surge"):
        acknowledged = replace(batch, surge_acknowledged=True)
        return Move(
            set_batch(instance, flow, acknowledged, target_revision=instance.cloneset.update_revision)
        )
    if (
        batch.surge_acknowledged
        and sum(1 for pod in instance.live_pods_of(batch).values() if pod.containers_ready) >= batch.surge
    ):
        smoked = replace(batch, phase=BatchPhase.SMOKED, smoked_at=now)
        dropped = tuple(uid for uid in flow.dropped if not all_gone(instance, (uid,)))
        return Move(set_batch(instance, flow, smoked, step=Step.SMOKED, victims=(), dropped=dropped))
    if flow.issued or flow.paused:
        return None
    # issued again: pods beyond the counts are still to be removed
    return write_surge(instance, flow, now, step_command=StepCommand.ISSUED)


def _is_rewriting(instance: Instance, flow: Flow, batch: Batch) -> bool:
    """Return whether the surge is being written again: no other command may take its place, no surplus get traffic."""
    pending = instance.pending
    written = pending is not None and pending.kind == "surge" and not pending.carried_out
    # a batch that makes no pods has no surge to write again: what is too much goes with its retire
    return written or (bool(batch.surge) and has_surplus(instance, flow, batch))


def _smoked(instance: Instance, flow: Flow, now: int) -> Move | None:
    batch = flow.open_batch
    assert batch is not None
    started = sum(1 for pod in instance.live_pods_of(batch).values() if pod.containers_ready) >= batch.surge
    if started == bool(batch.unready_since):
        return Move(set_batch(instance, flow, replace(batch, unready_since=0 if started else now)))
    if not started or _is_rewriting(instance, flow, batch):
        return None
    if flow.paused or not may_reach(flow, batch.number, BatchPhase.BAKING):
        return None
    baking = replace(batch, phase=BatchPhase.BAKING, unready_since=now, baking_since=now)
    return Move(set_batch(instance, flow, baking, step=Step.PULL_IN, step_command=StepCommand.DUE))


def _pull_in(instance: Instance, flow: Flow, now: int) -> Move | None:
    batch = flow.open_batch
    assert batch is not None
    if _is_rewriting(instance, flow, batch):
        return None
    pods = instance.live_pods_of(batch)
    opens = not flow.strategy.no_pull_in
    closed = [uid for uid, pod in pods.items() if pod.containers_ready and pod.gate == "closed"]
    if opens and not flow.paused and any(not instance.pods[uid].pull_in_sequence for uid in closed):
        return request_pull_in(instance, now, tuple(uid for uid, pod in pods.items() if pod.containers_ready))
    skip_traffic = flow.strategy.no_pull_in and not count_retired(
        flow.wanted, Counts(flow.updated, flow.others), batch.surge
    )
    ready = sum(pod.ready for pod in pods.values()) >= batch.surge or skip_traffic
    if ready != bool(batch.ready_since):
        pulled_in_at = batch.pulled_in_at or (now if ready else 0)
        since = (
            {"ready_since": now, "unready_since": 0} if ready else {"ready_since": 0, "unready_since": now}
        )
        # a bake that was long enough waited for a person: the next one has its full time
        again = not batch.baking_since or (not ready and has_expired(Clock.BAKE, flow, now))
        since["baking_since"] = now if again else batch.baking_since
        return Move(
            set_batch(instance, flow, replace(batch, pulled_in_at=pulled_in_at, **since), updated_at=now)
        )
    if not ready or not has_expired(Clock.BAKE, flow, now):
        return None
    if flow.paused or not may_reach(flow, batch.number, BatchPhase.BAKED):
        return None
    baked = replace(batch, phase=BatchPhase.BAKED, baked_at=now)
    return Move(set_batch(instance, flow, baked, step=Step.PULL_OUT, step_command=StepCommand.DUE))


def _pull_out(instance: Instance, flow: Flow, now: int) -> Move | None:
    """Choose the old pods that the baked batch replaces and, where a wait is set, take them out of traffic."""
    batch = flow.open_batch
    assert batch is not None
    if flow.paused:
        return None
    if not flow.issued:
        retire = count_to_retire(flow, batch)
        victims = choose_victims(instance, flow, retire)
        if spared := _find_spared(instance, flow, victims):
            return request_pull_in(set_flow(instance, flow, victims=victims), now, spared)
        instance = set_batch(
            instance, flow, replace(batch, retire=retire), victims=victims, step_command=StepCommand.ISSUED
        )
        if not (flow.strategy.pull_out or count_undrained(instance, victims)) or not victims:
            return _retire_now(instance, now)
        return issue_command(instance, command_factory.pull_out, now, uids=victims)
    if not batch.pulled_out_at:
        live = [
            pod for uid in flow.victims if (pod := instance.pods.get(uid)) is not None and not pod.deleting
        ]
        if any(pod.gate == "open" for pod in live):
            return None
        pending = replace(instance.pending, answered=True, seen=True) if instance.pending else None
        return Move(set_batch(replace(instance, pending=pending), flow, replace(batch, pulled_out_at=now)))
    if not has_expired(Clock.PULL_OUT, flow, now) or count_undrained(instance, flow.victims):
        return None
    return _retire_now(instance, now)


def _find_spared(instance: Instance, flow: Flow, victims: tuple[str, ...]) -> tuple[str, ...]:
    """Return the pods that were to be removed and stay after all, since somebody else has scaled: they may be closed."""
    return tuple(
        uid
        for uid in flow.victims
        if uid not in victims and (pod := instance.pods.get(uid)) is not None and not pod.deleting
    )


def _retire_now(instance: Instance, now: int) -> Move:
    """Remove the replaced pods, in one write with the next surge where that may follow at once."""
    flow = instance.active
    assert flow is not None
    batch = flow.open_batch
    assert batch is not None
    if batch.surge:
        finished = _finish_batch(flow, batch, now)
        more = count_remaining(finished.wanted, Counts(finished.updated, finished.others))
        if more and finished.updated < finished.wanted and _may_begin(finished, now):
            removing = replace(finished.batches[-1], removing=flow.victims)
            if flow.victims:
                removing = replace(removing, finished_at=0)
            finished = replace(finished, batches=(*finished.batches[:-1], removing))
            return _begin_batch(replace(instance, active=finished), finished, now, flow.victims)
    return issue_command(
        set_flow(instance, flow, step=Step.RETIRE, step_command=StepCommand.ISSUED),
        command_factory.retire,
        now,
    )


def _finish_batch(flow: Flow, batch: Batch, now: int) -> Flow:
    counts = counts_after(Counts(flow.updated, flow.others), batch.surge, batch.retire)
    return replace(
        flow,
        phase=FlowPhase.BATCH_FINISHED,
        batches=(*flow.batches[:-1], replace(batch, phase=BatchPhase.BAKED, finished_at=now)),
        updated=counts.updated,
        others=counts.others,
        step=Step.BETWEEN,
        step_command=StepCommand.DUE,
    )


def _retire(instance: Instance, flow: Flow, now: int) -> Move | None:
    batch = flow.open_batch
    assert batch is not None
    if flow.paused and not flow.issued:
        return None
    if not flow.issued:
        retire = count_to_retire(flow, batch)
        batch = replace(batch, retire=retire)
        # a retire that was written before may have removed some of them
        live = [
            (uid, pod) for uid, pod in instance.pods.items() if not pod.deleting and uid not in flow.dropped
        ]
        if flow.updating and batch.surge:
            present = sum(1 for uid, pod in live if not flow.keeps_pod(uid, pod.revision))
            count = max(present - (flow.others - retire), 0)
        else:
            count = max(len(live) - (flow.updated + flow.others + batch.surge - retire), 0)
        victims = choose_victims(instance, flow, count)
        if spared := _find_spared(instance, flow, victims):
            return request_pull_in(set_flow(instance, flow, victims=victims), now, spared)
        flow = replace(flow, victims=victims, step_command=StepCommand.ISSUED)
        return issue_command(set_batch(instance, flow, batch), command_factory.retire, now)
    if not is_carried_out(instance, "retire"):
        return None
    if find_remaining(instance, (*flow.victims, *flow.dropped)):
        return None
    finished = replace(_finish_batch(flow, batch, now), victims=(), dropped=())
    return Move(replace(instance, active=finished))


STEPS: dict[Step, Callable[[Instance, Flow, int], Move | None]] = {
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
    Step.CANCEL: await_cancel,
}
