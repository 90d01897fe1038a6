"""Rebuild an instance when Redis has lost it, from the DeployFlows' `.status` and one observation of the CloneSet.

`.status` may be behind by a moment. The CloneSet is not: a batch's `hold`, written with its surge, says which batch
was under way and the counts that it began with; without a hold, the batch's retire was written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from msgspec.structs import replace

from services.planner.model.batch_plan import size_canary
from services.planner.model.flow_plan import batch_size_of, plan_batches
from services.planner.model.state import (
    PRE_EXISTING,
    STEP_OF,
    Batch,
    Flow,
    ImageChange,
    Instance,
    Pod,
    Requester,
    Resync,
    Step,
    StepCommand,
)
from services.planner.recovery.legacy_takeover import inherit_release, is_begun_by_legacy
from services.planner.recovery.status_reader import read_batches, to_milliseconds
from services.planner.rules.approvals import may_reach
from services.planner.rules.clocks import restart_on_rebuild
from shared.domain import messages as m
from shared.domain.deployflow import Action, BatchPhase, DeployFlowStatus, FlowPhase, PullInStatus
from shared.domain.topics import Key


def rebuild(
    key: Key,
    specs: Sequence[m.SpecObserved],
    flow_of: Callable[[m.SpecObserved, int], Flow],
    now: int,
) -> Instance:
    """Return the instance as the unfinished DeployFlows have it; the active one is observed before it continues."""
    instance = Instance(namespace=key.namespace, name=key.instance)
    active: Flow | None = None
    waiting: list[Flow] = []
    before = [spec for spec in specs if is_begun_by_legacy(spec.status)]
    # of several, the others were left behind unfinished: the CloneSet has the template of the last
    last = max(before, key=_age_key, default=None)
    for spec in sorted(specs, key=_age_key):
        status = DeployFlowStatus.model_validate(spec.status, extra="ignore")
        instance = replace(
            instance,
            version=max(instance.version, status.version),
            sequence=max(instance.sequence, status.sequence),
        )
        if status.finished:
            continue
        flow = flow_of(spec, now)
        if spec is last and active is None:
            active = inherit_release(flow, status, now)
        elif spec in before:
            message = f"Triton 0.1.x began {last.flow.name if last else 'another'} after it"
            waiting.append(replace(flow, outcome=FlowPhase.ABORTED, reason="Replaced", message=message))
        elif active is None and status.phase != FlowPhase.PENDING and flow.outcome is None:
            active = _restore_active(flow, status, now)
            instance = replace(instance, pods=_restore_pods(status))
        else:
            waiting.append(flow)
    if instance.version:
        # versions that were lost may have been written to `.status` since it was read: what has one of them again would
        # be taken for written. No instance changes more than once a millisecond.
        instance = replace(instance, version=max(instance.version, now))
    return replace(instance, active=active, waiting=tuple(waiting))


def _age_key(spec: m.SpecObserved) -> tuple[int, str]:
    return spec.created_at, spec.flow.name


def _last_command(status: DeployFlowStatus) -> Requester | None:
    last = status.last_command
    if last is None:
        return None
    return Requester(last.requested_by, last.requested_by_claimed, last.requested_via, last.command)


def _restore_active(flow: Flow, status: DeployFlowStatus, now: int) -> Flow:
    batches = read_batches(status, now)
    last = batches[-1] if batches else None
    step = Step.OBSERVE
    if last is not None:
        step = Step.BETWEEN if last.finished_at else STEP_OF[last.phase]
    return replace(
        flow,
        phase=status.phase,
        step=step,
        last_command=_last_command(status) or flow.last_command,
        images=tuple(ImageChange(one.container, one.from_image, one.to_image) for one in status.images),
        failed=bool(last and last.phase in {BatchPhase.SMOKE_FAILED, BatchPhase.BAKE_FAILED}),
        reason=status.reason,
        message=status.message,
        target_revision=status.update_revision,
        to_process=status.replicas_to_process,
        batches=batches,
        total=status.batches,
        planned=status.batches,
        started_at=to_milliseconds(status.started_at),
        overridden=status.freeze_override,
        resync=Resync.REBUILD,
    )


def _restore_pods(status: DeployFlowStatus) -> dict[str, Pod]:
    return {
        pod.uid: Pod(
            name=pod.name,
            revision=status.update_revision,
            phase=pod.phase,
            batch=condition.batch,
            ip=pod.ip,
            port=pod.port,
            reason=pod.reason,
            message=pod.message,
            event=pod.event,
            log=pod.log,
            since=to_milliseconds(pod.since),
            # it was pulled in by a command whose sequence is lost
            pull_in_sequence=1 if pod.pull_in_status == PullInStatus.FAILED else 0,
        )
        for condition in status.conditions
        for pod in condition.pods
        if pod.uid
    }


def settle_rebuilt(flow: Flow, fact: m.Done, made: AbstractSet[str], now: int) -> Flow:
    """Return the rebuilt release with its batch, step and counts from the CloneSet.

    `made`: the uids of the pods that `.status` names as those of its batches.
    """
    batch = flow.open_batch
    if batch is not None:
        # nothing was done before this observation, which may have taken longer than a time-out
        flow = replace(flow, batches=(*flow.batches[:-1], restart_on_rebuild(batch, now)))
    if not flow.updating:
        flow = _restore_goal(flow, fact, made)
    elif flow.keeps_replicas and fact.cloneset.exists and not fact.cloneset.no_good_template:
        begun = fact.cloneset.hold
        own = begun is not None and begun.flow == flow.uid
        flow = replace(flow, wanted=begun.updated + begun.others if own and begun else fact.cloneset.replicas)
    scaled_to = fact.cloneset.scaled_to
    if scaled_to is not None and flow.action not in {Action.STOP, Action.DELETE}:
        flow = replace(flow, wanted=scaled_to, scaled_to=scaled_to)
    target = flow.target_revision or (fact.cloneset.update_revision if fact.same_template else "")
    flow = replace(
        flow,
        resync=Resync.NONE,
        step_command=StepCommand.DUE,
        victims=(),
        target_revision=target,
        # the CloneSet has the target template, in another form than we would write
        keeps_template=bool(target) and target == fact.cloneset.update_revision and not fact.same_template,
    )
    hold = fact.cloneset.hold
    if hold is not None and hold.flow == flow.uid:
        return _restore_guard(_restore_pull_in(_restore_open_batch(flow, hold), fact, hold, now), fact)
    updated = sum(1 for pod in fact.pods if target and flow.keeps_pod(pod.uid, pod.revision))
    at_rest = replace(flow, updated=updated, others=max(fact.cloneset.replicas - updated, 0))
    batch = flow.open_batch
    if batch is None:
        return at_rest
    if flow.shrinking:
        # there is no hold to go by, but the count: a batch that only removes pods is finished once it is lower
        batch = replace(batch, surge=0, retire=batch.size)
        before = flow.wanted + flow.to_process - flow.finished_replicas
        if fact.cloneset.replicas < before:
            return _finish_batch(at_rest, batch)
        return replace(at_rest, batches=(*flow.batches[:-1], batch), step=Step.PULL_IN)
    done = flow.finished_replicas + batch.size
    as_far = updated >= done if flow.updating else at_rest.others <= flow.to_process - done
    if batch.phase in {BatchPhase.SMOKED, BatchPhase.BAKING, BatchPhase.BAKED} or (target and as_far):
        # without a hold its retire was written: the batch is finished
        return _finish_batch(at_rest, batch)
    return replace(at_rest, step=Step.SURGE)


def _restore_pull_in(flow: Flow, fact: m.Done, hold: m.Hold, now: int) -> Flow:
    """Return the release with its batch at Baking where all its pods have traffic: `.status` was behind the pull-in.

    At Smoking a pod that fails in traffic would be awaited for its whole start-up time.
    """
    batch = flow.open_batch
    behind = {BatchPhase.PENDING, BatchPhase.SMOKING, BatchPhase.SMOKED}
    if batch is None or batch.number != hold.batch or batch.phase not in behind:
        return flow
    own = _pods_of_open_batch(flow, fact, hold)
    opened = bool(own) and len(own) >= batch.surge and all(ref.gate == m.Gate.OPEN for ref in own)
    if not opened or not may_reach(flow, batch.number, BatchPhase.BAKING):
        return flow
    baking = restart_on_rebuild(replace(batch, phase=BatchPhase.BAKING), now)
    return replace(flow, batches=(*flow.batches[:-1], baking), step=Step.PULL_IN)


def _restore_guard(flow: Flow, fact: m.Done) -> Flow:
    """Return the release with whether its batch is guarded while it waits: then no pod counts as a new one."""
    batch = flow.open_batch
    if batch is None or batch.phase not in {BatchPhase.SMOKED, BatchPhase.BAKING}:
        return flow
    guarded = fact.cloneset.partition >= fact.cloneset.replicas
    batch = replace(batch, surge_acknowledged=True, guarded=guarded)
    return replace(flow, batches=(*flow.batches[:-1], batch))


def _restore_goal(flow: Flow, fact: m.Done, made: AbstractSet[str]) -> Flow:
    """Return the release with the goal of an action without a new template, which `.status` does not have."""
    live, hold = fact.cloneset, fact.cloneset.hold
    # a batch that makes pods has a hold: then the count is above that from which it goes out
    flow = flow if hold is not None else flow.scaled_from(live.replicas)
    named = flow.strategy.pods_to_delete
    leaving: frozenset[str] = frozenset()
    wanted = flow.wanted
    match flow.action:
        case Action.STOP | Action.DELETE:
            wanted = 0
        case Action.START:
            wanted = live.stopped or wanted
        case Action.RESTART:
            wanted = hold.updated + hold.others if hold is not None else live.replicas
    if named:
        leaving = frozenset(pod.uid for pod in fact.pods if pod.name in named)
    elif flow.action == Action.RESTART:
        begun = flow.started_at // 1000 * 1000
        leaving = frozenset(p.uid for p in fact.pods if p.uid not in made and p.created_at < begun)
    stopped = flow.to_process if flow.action == Action.STOP else 0
    strategy = replace(flow.strategy, no_pull_in=live.no_pull_in)
    return replace(flow, wanted=wanted, leaving=leaving, stopped=stopped, strategy=strategy)


def _restore_open_batch(flow: Flow, hold: m.Hold) -> Flow:
    last = flow.batch
    flow = replace(flow, updated=hold.updated, others=hold.others)
    if hold.batch == 0:
        return flow
    if last is not None and not last.finished_at and last.number < hold.batch:
        flow = _finish_batch(flow, last)
    if last is not None and last.number >= hold.batch:
        return flow
    if last is None:
        flow = plan_batches(flow)
    flow = _fill_in(flow, hold.batch, planned=last is not None)
    at = flow.updated_at
    canary = hold.batch == 1 and hold.surge > 0 and flow.strategy.canary > 0
    batch = Batch(number=hold.batch, surge=hold.surge, canary=canary, started_at=at, surged_at=at)
    return replace(flow, batches=(*flow.batches, batch), step=Step.SURGE, phase=FlowPhase.BATCH_STARTED)


def _fill_in(flow: Flow, number: int, *, planned: bool) -> Flow:
    """Return the release with the batches before `number` that `.status` never had; their sizes are those of the plan.

    `planned`: `.status` had the plan, which is otherwise made from the counts after these batches.
    """
    size = batch_size_of(flow)
    canary = size_canary(flow.strategy.canary, flow.to_process if planned else flow.wanted, size)
    missing = [
        Batch(
            number=at,
            surge=canary if canary and at == 1 else size,
            canary=bool(canary) and at == 1,
            phase=BatchPhase.BAKED,
            finished_at=flow.updated_at or 1,
        )
        for at in range(len(flow.batches) + 1, number)
    ]
    filled = replace(flow, batches=(*flow.batches, *missing))
    if planned or not missing:
        return filled
    return replace(
        filled,
        to_process=flow.to_process + sum(batch.size for batch in missing),
        total=flow.total + len(missing),
        planned=flow.planned + len(missing),
    )


def _finish_batch(flow: Flow, batch: Batch) -> Flow:
    done = replace(batch, phase=BatchPhase.BAKED, finished_at=batch.finished_at or flow.updated_at)
    batches = (*flow.batches[:-1], done)
    return replace(flow, batches=batches, step=Step.BETWEEN, phase=FlowPhase.BATCH_FINISHED)


def assign_pods(instance: Instance, flow: Flow, fact: m.Done) -> dict[str, Pod]:
    """Return the live pods, those of the open batch assigned to it.

    Of pods known from `.status` only, the listed ones live. A pod that readiness has reported meanwhile may be younger
    than the list, and is not reported again.
    """
    listed = {ref.uid: ref for ref in fact.pods}
    pods = {uid: pod for uid, pod in instance.pods.items() if uid in listed or pod.created_at}
    hold = fact.cloneset.hold
    if hold is None or hold.flow != flow.uid:
        return pods
    own = {ref.uid for ref in _pods_of_open_batch(flow, fact, hold)}
    return {
        uid: replace(
            pod, batch=hold.batch if uid in own else (PRE_EXISTING if pod.batch == hold.batch else pod.batch)
        )
        for uid, pod in pods.items()
    }


def _pods_of_open_batch(flow: Flow, fact: m.Done, hold: m.Hold) -> list[m.PodRef]:
    """Return the pods of the target revision beyond the count before the batch: closed gates first, then the youngest."""
    target = fact.cloneset.update_revision
    new = [ref for ref in fact.pods if ref.revision == target and flow.keeps_pod(ref.uid, ref.revision)]
    new.sort(key=lambda ref: (ref.gate == m.Gate.OPEN, -ref.created_at))
    return new[: max(len(new) - hold.updated, 0)]
