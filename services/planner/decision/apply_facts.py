"""Apply facts to the state: each message changes what the planner knows, and decides nothing."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from services.planner.decision.foreign_counts import is_foreign, note_count, recount, take_count
from services.planner.model.batch_plan import Counts
from services.planner.model.state import (
    PRE_EXISTING,
    UNASSIGNED,
    Batch,
    CloneSet,
    Flow,
    ImageChange,
    Instance,
    PendingCommand,
    Pod,
    Requester,
    Resync,
    Step,
    StepCommand,
    Strategy,
)
from services.planner.model.strategy import strategy_of
from services.planner.recovery.legacy_takeover import inherit_release, is_begun_by_legacy, take_over
from services.planner.recovery.rebuild import assign_pods, settle_rebuilt
from services.planner.rules.clocks import restart_on_resume
from services.planner.rules.missing_labels import missing_labels
from services.planner.rules.pod_failures import read_trouble
from services.planner.rules.retry_backoff import count_rejection, note_success
from shared.domain import messages as m
from shared.domain.deploy_commands import requested_strategy_of
from shared.domain.deployflow import (
    PASSING_ON,
    SCALING,
    STORED,
    DeployFlowSpec,
    DeployFlowStatus,
    FlowPhase,
    PodPhase,
    containers_of,
    problems,
)
from shared.domain.requesters import KUBECTL_NAME, Via, show_requester
from shared.kube.ownership import LABELS_MISSING

KEPT_FIELDS = ("batch", "ip", "port", "reason", "message", "event", "log", "since", "pull_in_sequence")
"""The fields of a pod from `.status` that a list of pods does not have."""
REMEMBERED = 20
"""How many finished releases of an instance are remembered by uid, in case an old record is read again."""


class CannotInherit(m.Message):
    """The update that is the next to begin does not fit what it inherits: why. Never on Kafka."""

    flow: m.FlowRef
    message: str


Fact = (
    CannotInherit
    | m.SpecObserved
    | m.SpecGone
    | m.Due
    | m.Done
    | m.CloneSetSeen
    | m.Superseded
    | m.VictimsGone
    | m.ReplicasChanged
    | m.Refused
    | m.PodsSeen
)


def apply_fact(instance: Instance, fact: Fact, now: int) -> Instance:
    """Return the instance with `fact` applied; the same object when the fact is not new."""
    match fact:
        case m.SpecObserved():
            return _apply_spec(instance, fact, now)
        case m.SpecGone():
            return _update_flow(instance, fact.flow.uid, lambda flow: replace(flow, deleting=True))
        case m.PodsSeen():
            return _apply_pods(instance, fact)
        case m.Due():
            return instance
        case CannotInherit():
            end = {"outcome": FlowPhase.FAILED, "reason": "NotPossible", "message": fact.message}
            return _update_flow(instance, fact.flow.uid, lambda flow: replace(flow, **end))
    if isinstance(fact, m.CloneSetSeen) and fact.cloneset.exists:
        instance = _observe_labeled(instance, now)
    pending = instance.pending
    if instance.active is None:
        return instance
    if pending is None:
        seen = isinstance(fact, m.CloneSetSeen) and is_foreign(instance.cloneset, fact.cloneset)
        return (
            _note_seen_count(instance, fact, now)
            if seen and isinstance(fact, m.CloneSetSeen)
            else _apply_deletion(instance, fact, now)
        )
    match fact:
        case m.Superseded() if fact.current > instance.sequence or fact.sequence == pending.sequence:
            again = replace(instance, sequence=max(instance.sequence, fact.current))
            words = f"{pending.kind}: a higher command ({fact.current}) has been written"
            return _require_resync(again, Resync.OBSERVE, now, words)
        case m.CloneSetSeen() if not fact.cloneset.exists and _needs_cloneset(pending):
            # a watch may be behind: the observation says whether another CloneSet has taken its place
            return _require_resync(instance, Resync.OBSERVE, now, "the CloneSet was deleted")
        case m.CloneSetSeen() if fact.cloneset.deleting and not instance.cloneset.deleting:
            return _require_resync(instance, Resync.OBSERVE, now, "the CloneSet is being deleted")
        case m.CloneSetSeen() if pending.kind == "remove" and not fact.cloneset.exists:
            done = replace(pending, answered=True, seen=True)
            return replace(_store_cloneset(instance, fact.cloneset), pending=done)
        case m.CloneSetSeen() if is_foreign(instance.cloneset, fact.cloneset):
            return _note_seen_count(instance, fact, now)
        case _ if fact.sequence != pending.sequence:
            return instance
        case m.Done():
            return _apply_done(instance, pending, fact, now)
        case m.CloneSetSeen():
            facts = fact.cloneset
            if facts.replicas_set is None:
                # it is not known whose count it is: the next write is answered ReplicasChanged if it is not ours
                facts = facts.model_copy(update={"replicas": instance.cloneset.replicas})
            caught_up = replace(_store_cloneset(instance, facts), pending=_mark_seen(pending, fact.cloneset))
            return _acknowledge_surge(caught_up, pending, fact.cloneset)
        case m.VictimsGone() if pending.kind in _NAMES_PODS:
            pods = {uid: pod for uid, pod in instance.pods.items() if uid not in set(fact.gone)}
            dropped = tuple(uid for uid in instance.active.dropped if uid in pods)
            rejected = count_rejection(instance.active, now, f"{pending.kind}: pods that it names are gone")
            return _update_active(
                replace(instance, pods=pods, pending=None, active=rejected),
                step_command=_to_reissue(rejected),
                victims=(),
                dropped=dropped,
                batches=_with_rewrite_due(rejected),
            )
        case m.ReplicasChanged() if pending.kind == "remove":
            return note_count(instance, fact.replicas, now)
        case m.ReplicasChanged() if pending.kind in {*_SETS_REPLICAS, "halt"}:
            # the CloneSet has its sequence: another count with that one was written later, also one that was ours
            known = replace(instance.cloneset, sequence=fact.sequence)
            return note_count(replace(instance, cloneset=known), fact.replicas, now)
        case m.Refused() if fact.reason == LABELS_MISSING and _waits_for_labels(instance.active):
            return _require_resync(instance, Resync.OBSERVE, now, f"{fact.reason}: {fact.message}")
        case m.Refused():
            refused = replace(instance, pending=replace(pending, answered=True, seen=True, kind="refused"))
            if instance.active.step == Step.CANCEL or (instance.active.failed and instance.active.resync):
                # the end, or the batch, keeps the words that it has; those of the refusal are kept as `rejected`
                return _update_active(refused, rejected=f"{fact.reason}: {fact.message}")
            return _update_active(refused, reason=fact.reason, message=fact.message)
    return instance


def _note_seen_count(instance: Instance, fact: m.CloneSetSeen, now: int) -> Instance:
    facts = fact.cloneset
    pending = instance.pending
    on_its_way = pending is not None and not pending.answered and fact.sequence < pending.sequence
    if on_its_way and pending is not None and pending.kind in _SETS_REPLICAS:
        # the command finds the count, and is answered with it
        return instance
    instance = replace(instance, cloneset=replace(instance.cloneset, sequence=facts.sequence))
    noted = note_count(instance, facts.replicas, now)
    if noted.pending is None or noted.pending.sequence != fact.sequence:
        return noted
    # the command stays under way, and its controller has caught up with it
    return replace(noted, pending=_mark_seen(noted.pending, facts))


def _apply_deletion(instance: Instance, fact: Fact, now: int) -> Instance:
    """Make the next attempt due of a release that waits for the end of a CloneSet that is being deleted."""
    if not isinstance(fact, m.CloneSetSeen) or fact.cloneset.exists or not instance.cloneset.deleting:
        return instance
    gone = _store_cloneset(instance, fact.cloneset)
    assert gone.active is not None
    return _update_active(gone, retry_at=min(gone.active.retry_at, now))


_ANSWERED_WITHOUT_CLONESET = {"remove", "observe", "cancel", "finish"}
"""Commands whose own answer says that the CloneSet does not exist."""
_NAMES_PODS = {"surge", "retire"}
_SETS_REPLICAS = {"surge", "retire", "remove"}


def _needs_cloneset(pending: PendingCommand) -> bool:
    """Return whether a command can't be carried out any more once the CloneSet is deleted.

    One that was written before is never caught up with: the controller leaves a CloneSet alone that is being deleted.
    """
    written = pending.answered and not pending.seen and pending.kind in {"cancel", "finish"}
    return written or pending.kind not in _ANSWERED_WITHOUT_CLONESET


def _with_rewrite_due(flow: Flow) -> tuple[Batch, ...]:
    """Return the batches of a release whose command was not written: a surge that was written again is due once more."""
    batch = flow.open_batch
    if batch is None or not batch.surge_acknowledged or batch.baked:
        return flow.batches
    return (*flow.batches[:-1], replace(batch, rewrite_due=True))


def _acknowledge_surge(instance: Instance, pending: PendingCommand, facts: m.CloneSetFacts) -> Instance:
    """Acknowledge the surge where a pause came before its answer: the hold says that it was written."""
    flow = instance.active
    batch = flow.open_batch if flow is not None else None
    hold = facts.hold
    if pending.kind != "halt" or flow is None or batch is None or batch.surge_acknowledged or hold is None:
        return instance
    if not facts.settled or (hold.flow, hold.batch) != (flow.uid, batch.number):
        return instance
    batches = (*flow.batches[:-1], replace(batch, surge_acknowledged=True))
    return _update_active(instance, batches=batches, target_revision=facts.update_revision)


def _update_active(instance: Instance, **fields: Any) -> Instance:
    assert instance.active is not None
    return replace(instance, active=replace(instance.active, **fields))


def _require_resync(instance: Instance, resync: Resync, now: int, words: str, **fields: Any) -> Instance:
    """Have the cluster observed before anything else; what has to be found out already stays required."""
    flow = instance.active
    assert flow is not None
    return _update_active(
        replace(instance, pending=None, active=count_rejection(flow, now, words)),
        resync=max(flow.resync, resync),
        step_command=_to_reissue(flow),
        **fields,
    )


def _to_reissue(flow: Flow) -> StepCommand:
    """Return the state in which the step issues its command again; a halt stays in force until the release resumes."""
    return StepCommand.HALTED if flow.halted else StepCommand.DUE


def _waits_for_labels(flow: Flow) -> bool:
    """Return whether the release continues once its CloneSet has its label again.

    One that has not begun fails instead. The cancel of one that is being ended is tried a few times.
    """
    return flow.step != Step.CANCEL and not (flow.step == Step.OBSERVE and not flow.batches)


def _observe_labeled(instance: Instance, now: int) -> Instance:
    """Have the next attempt made at once where a label was missing: only a CloneSet that has it is watched."""
    flow = instance.active
    if flow is None or flow.retry_at <= now or missing_labels(flow) is None:
        return instance
    return _update_active(instance, retry_at=now)


def _update_flow(instance: Instance, uid: str, change: Any) -> Instance:
    if instance.active is not None and instance.active.uid == uid:
        return replace(instance, active=change(instance.active))
    if any(flow.uid == uid for flow in instance.waiting):
        return replace(instance, waiting=tuple(change(f) if f.uid == uid else f for f in instance.waiting))
    return (
        replace(instance, finished=kept)
        if len(kept := tuple(f for f in instance.finished if f.uid != uid)) < len(instance.finished)
        else instance
    )


# --- the spec --------------------------------------------------------------------------------------------


def _apply_spec(instance: Instance, fact: m.SpecObserved, now: int) -> Instance:
    uid = fact.flow.uid
    if fact.status.get("finished"):
        # its last status has reached the API server: only its uid has to be remembered here
        unwritten = tuple(flow for flow in instance.finished if flow.uid != uid)
        recorded_uids = (*instance.recorded_uids, uid)[-REMEMBERED:]
        return (
            replace(instance, finished=unwritten, recorded_uids=recorded_uids)
            if len(unwritten) < len(instance.finished)
            else instance
        )
    if uid in instance.recorded_uids:
        return instance
    known = next((flow for flow in instance.flows if flow.uid == uid), None)
    if known is None:
        if instance.active is None and is_begun_by_legacy(fact.status):
            status = DeployFlowStatus.model_validate(fact.status, extra="ignore")
            return replace(
                instance, active=inherit_release(make_flow(fact, now), status, now), pods={}, pending=None
            )
        waiting = sorted(
            [*instance.waiting, make_flow(fact, now)], key=lambda flow: (flow.created_at, flow.name)
        )
        return replace(instance, waiting=tuple(waiting))
    if known.phase.finished:
        return instance
    if fact.generation <= known.generation and fact.deleting == known.deleting:
        return _apply_override(instance, known, fact)

    def change(flow: Flow) -> Flow:
        spec = _spec_of(fact)
        if isinstance(spec, str):
            return replace(flow, generation=fact.generation, deleting=fact.deleting, warnings=(spec,))
        strategy = strategy_of(spec)
        if not flow.updating:
            strategy = replace(strategy, no_pull_in=flow.strategy.no_pull_in)
        # a cancel is for good, also where the manifest is applied again before the cancel could be issued
        strategy = replace(strategy, canceled=strategy.canceled or flow.strategy.canceled)
        if flow.strategy.paused and not strategy.paused:
            flow = restart_on_resume(flow, now)
        # the planner has written what it inherits: that is no request
        filled_in = flow.inherits and spec.inherits is None and fact.request == flow.request
        return replace(
            flow,
            generation=fact.generation,
            deleting=fact.deleting,
            inherits=spec.inherits is not None,
            last_command=flow.last_command if filled_in else _changed_by(fact, flow.request),
            request=fact.request,
            strategy=strategy,
            # lowered, the next increase is a request again
            retries=min(flow.retries, strategy.retries),
            warnings=(),
            # what a person changes may be what the next attempt needs
            retry_at=min(flow.retry_at, now),
            **_override_fields(fact, flow),
        )

    return _update_flow(instance, uid, change)


def _apply_override(instance: Instance, known: Flow, fact: m.SpecObserved) -> Instance:
    """Apply the override of freeze windows: an annotation makes no new generation of the spec."""
    if (
        fact.generation < known.generation
        or known not in instance.waiting
        or not (new := _override_fields(fact, known))
    ):
        return instance
    by = _changed_by(fact, known.request)
    return _update_flow(
        instance, known.uid, lambda flow: replace(flow, request=fact.request, last_command=by, **new)
    )


def _override_fields(fact: m.SpecObserved, known: Flow | None = None) -> dict[str, Any]:
    """Return the changed fields of a freeze override that is set or withdrawn; none if it is unchanged."""
    if fact.freeze_override == (known.override if known else ""):
        return {}
    if not fact.freeze_override:
        return {"override": "", "overridden_by": ""}
    by = _changed_by(fact, known.request) if known else _made_by(fact)
    shown = show_requester(by.requested_by, claimed=by.requested_by_claimed, via=by.requested_via)
    return {"override": fact.freeze_override, "overridden_by": shown}


_BY_KUBECTL: Final = Requester(KUBECTL_NAME)


def _made_by(fact: m.SpecObserved) -> Requester:
    """Return who requested the release; one that no request names did not come through Triton."""
    name = fact.requested_by
    if not name and fact.requested_via in {"", Via.KUBECTL}:
        return _BY_KUBECTL
    return Requester(name, fact.requested_by_claimed, fact.requested_via)


def _changed_by(fact: m.SpecObserved, last_request: str) -> Requester:
    """Return who made a change; one that kept the annotation of the last request did not come through Triton."""
    if fact.request == last_request:
        return _BY_KUBECTL
    last = fact.last_command
    if last is None:
        # older versions write the requester of a change in place of the release's
        return Requester(fact.requested_by, fact.requested_by_claimed) if fact.requested_by else _BY_KUBECTL
    return _requester_of(last)


def _requester_of(last: m.LastCommand) -> Requester:
    return Requester(last.requested_by, last.requested_by_claimed, last.requested_via, last.command)


def _spec_of(fact: m.SpecObserved) -> DeployFlowSpec | str:
    """Return the spec, or what is wrong with it."""
    if fact.fault:
        return fact.fault
    try:
        return DeployFlowSpec.model_validate(fact.spec, context=STORED)
    except ValueError as error:
        return problems(error, "spec")


def make_flow(fact: m.SpecObserved, now: int) -> Flow:
    """Return a release that is new to the planner; one that can't be carried out is failed from the start."""
    application = fact.spec.get("application") or {}
    by = _made_by(fact)
    common: dict[str, Any] = {
        "name": fact.flow.name,
        "uid": fact.flow.uid,
        "generation": fact.generation,
        "created_at": fact.created_at,
        "requested_by": by.requested_by,
        "requested_by_claimed": by.requested_by_claimed,
        "requested_via": by.requested_via,
        "last_command": _requester_of(fact.last_command) if fact.last_command else None,
        "request": fact.request,
        "deleting": fact.deleting,
        "updated_at": now,
        **_override_fields(fact),
    }
    spec = _spec_of(fact)
    if isinstance(spec, str):
        return Flow(
            **common,
            action=str(fact.spec.get("action", "")),
            app_id=0,
            group_id=0,
            app_name=str(application.get("appName", "")),
            wanted=0,
            strategy=Strategy(),
            outcome=FlowPhase.FAILED,
            reason="InvalidSpec",
            message=spec,
        )
    flow = Flow(
        **common,
        action=str(spec.action),
        app_id=spec.application.app_id,
        group_id=spec.application.group_id,
        app_name=spec.application.app_name,
        wanted=spec.application.replicas,
        keeps_replicas=spec.updating and fact.keeps_replicas,
        either_direction=spec.action in SCALING and fact.either_direction,
        inherits=spec.inherits is not None,
        strategy=strategy_of(spec),
        requested_strategy=_requested_strategy(fact) if spec.action in PASSING_ON else None,
    )
    if spec.updating and not containers_of(spec.application.template):
        text = "spec.application.template: a pod template with at least one container is needed"
        return replace(flow, outcome=FlowPhase.FAILED, reason="InvalidSpec", message=text)
    if not spec.updating and is_begun_by_legacy(fact.status):
        text = f"spec.action: {spec.action} is not continued"
        return replace(flow, outcome=FlowPhase.FAILED, reason="NotSupported", message=text)
    # the retries that the spec begins with are not requests to retry a failed batch
    return replace(flow, retries=flow.strategy.retries)


def _requested_strategy(fact: m.SpecObserved) -> dict[str, Any]:
    """Return the strategy as it was requested: by its record, else as it is now."""
    own = fact.requested_strategy
    spec = fact.spec if own is None else {"updateStrategy": own}
    return requested_strategy_of({"metadata": {}, "spec": spec, "status": fact.status})


# --- pods ------------------------------------------------------------------------------------------------


def _apply_pods(instance: Instance, fact: m.PodsSeen) -> Instance:
    if instance.active is None:
        return instance
    pods = dict(instance.pods)
    for seen in fact.pods:
        known = pods.get(seen.uid)
        if known is not None and 0 < seen.version < known.version:
            continue  # from a replica of readiness that has lost the partition
        pods[seen.uid] = Pod(
            name=seen.name,
            revision=seen.revision,
            phase=seen.phase,
            ready=seen.ready,
            containers_ready=seen.containers_ready,
            gate=str(seen.gate),
            sequence=seen.sequence,
            deleting=seen.deleting,
            drained=seen.drained,
            ip=seen.ip,
            port=seen.port,
            **read_trouble(seen, known),
            created_at=seen.created_at,
            batch=known.batch if known else UNASSIGNED,
            pull_in_sequence=known.pull_in_sequence if known else 0,
            held=seen.held,
            version=seen.version,
            flaps=_count_flaps(known, seen),
        )
    for pod in fact.gone:
        pods.pop(pod.uid, None)
    if fact.complete:
        present = {seen.uid for seen in fact.pods}
        pods = {uid: pod for uid, pod in pods.items() if uid in present}
    instance = replace(instance, pods=pods) if pods != instance.pods else instance
    pending = instance.pending
    if pending is None or pending.answered:
        return instance
    gone = tuple(pod.uid for pod in fact.gone if pod.uid not in pending.gone)
    return replace(instance, pending=replace(pending, gone=pending.gone + gone)) if gone else instance


def _count_flaps(known: Pod | None, seen: m.PodFact) -> int:
    if known is None or known.batch <= PRE_EXISTING:
        return 0
    return known.flaps + (known.ready and not seen.ready and not seen.deleting)


# --- answers ---------------------------------------------------------------------------------------------


def _mark_seen(pending: PendingCommand, facts: m.CloneSetFacts) -> PendingCommand:
    caught_up = facts.settled and facts.sequence >= pending.sequence
    removed = pending.kind == "remove" and not facts.exists
    return replace(pending, seen=True) if (caught_up or removed) and not pending.seen else pending


def _store_cloneset(instance: Instance, facts: m.CloneSetFacts) -> Instance:
    # the answers of the executor have no Events
    latest = facts if facts.warned_at >= instance.cloneset.warned_at else instance.cloneset
    known = CloneSet(
        replicas=facts.replicas,
        exists=facts.exists,
        update_revision=facts.update_revision,
        stopped=facts.stopped,
        no_pull_in=facts.no_pull_in,
        no_good_template=facts.no_good_template,
        sequence=facts.sequence,
        deleting=facts.deleting,
        finalizers=tuple(facts.finalizers),
        warning=latest.warning,
        warned_at=latest.warned_at,
    )
    return instance if known == instance.cloneset else replace(instance, cloneset=known)


def _apply_done(instance: Instance, pending: PendingCommand, fact: m.Done, now: int) -> Instance:
    flow = instance.active
    assert flow is not None
    rebuilt = flow.resync == Resync.REBUILD
    taking = flow.step == Step.TAKE_OVER or (rebuilt and fact.cloneset.owner == flow.uid)
    if (rebuilt or (flow.resync and taking)) and fact.cloneset.exists and not fact.cloneset.settled:
        # pods can't be assigned to batches before the controller has caught up: observe again
        return instance
    facts = fact.cloneset
    if pending.seen and not facts.settled:
        # the watch was faster: it has reported the revision that the controller made of the command's template since
        facts = facts.model_copy(update={"update_revision": instance.cloneset.update_revision})
    # the answer to a write has the count that was written
    may_differ = pending.kind == "observe" or fact.cloneset.replicas != fact.cloneset.replicas_set
    foreign = (may_differ and is_foreign(instance.cloneset, fact.cloneset)) or (
        # somebody scaled it up again before it was prepared for 0
        pending.kind == "cancel" and flow.standing_by and fact.cloneset.replicas > 0
    )
    instance = replace(
        _store_cloneset(instance, facts), sequence=max(instance.sequence, fact.cloneset.sequence)
    )
    answered = pending.answered
    pending = replace(_mark_seen(pending, fact.cloneset), answered=True)
    if answered:
        instance = replace(instance, pending=pending)
        # carried out twice, an observation may find a count that nobody has reported
        return note_count(instance, fact.cloneset.replicas, now) if foreign else instance
    # a surge, and an observation between batches, list pre-existing pods; others may list the batch's own pods too
    listed = PRE_EXISTING if pending.kind == "surge" or rebuilt or flow.open_batch is None else UNASSIGNED
    pods = dict(instance.pods)
    for ref in fact.pods:
        known = pods.get(ref.uid)
        if ref.uid in pending.gone:
            continue
        if known is None:
            pods[ref.uid] = _listed_pod(ref, listed)
        elif not known.created_at:
            # rebuilt from `.status`, and no fact of it since
            live = _listed_pod(ref, listed)
            kept = {name: getattr(known, name) for name in KEPT_FIELDS}
            pods[ref.uid] = replace(live, phase=live.phase if live.containers_ready else known.phase, **kept)
        elif known.batch == UNASSIGNED:
            pods[ref.uid] = replace(known, batch=listed)
    instance = replace(instance, pending=pending, pods=pods)
    if pending.kind != "observe":
        instance = replace(instance, active=note_success(flow, now))
        return note_count(instance, fact.cloneset.replicas, now) if foreign else instance
    if missing_labels(flow) is not None:
        # nothing was done while the label was missing: the time does not count
        flow = restart_on_resume(flow, now)
        instance = replace(instance, active=flow)
    instance = replace(instance, pending=replace(pending, seen=True))
    if taking:
        return take_over(instance, flow, fact)
    if rebuilt:
        made = {uid for uid, pod in instance.pods.items() if pod.batch > PRE_EXISTING}
        flow = settle_rebuilt(flow, fact, made, now)
        instance = replace(instance, active=flow, pods=assign_pods(instance, flow, fact))
        if flow.batches:
            # the count of the annotation is the one before, where somebody has written another since
            since = facts.replicas_set is not None and facts.replicas != facts.replicas_set
            return _recount(instance, fact, now, foreign=True) if foreign or since else instance
    if flow.step == Step.OBSERVE and not flow.batches:
        counts = _count_at_rest(fact)
        return _update_active(
            instance,
            updated=counts.updated,
            others=counts.others,
            target_revision=_target_revision(fact),
            resync=Resync.NONE,
            wanted=_wanted_at_begin(flow, fact),
            images=_image_changes(fact) or flow.images,
        )
    if foreign or flow.resync == Resync.RECOUNT:
        return _recount(instance, fact, now, foreign=foreign)
    return _update_active(instance, resync=Resync.NONE, step_command=_to_reissue(flow))


def _listed_pod(ref: m.PodRef, batch: int) -> Pod:
    phase = PodPhase.READY if ref.ready else PodPhase.CONTAINERS_READY
    return Pod(
        name=ref.name,
        revision=ref.revision,
        phase=phase if ref.containers_ready else PodPhase.RUNNING,
        ready=ref.ready,
        containers_ready=ref.containers_ready,
        gate=str(ref.gate),
        drained=ref.drained,
        created_at=ref.created_at,
        batch=batch,
    )


def _wanted_at_begin(flow: Flow, fact: m.Done) -> int:
    """Return the count that the release leads to: where nobody said it, that of the instance now."""
    live = fact.cloneset
    read_now = flow.keeps_replicas and not flow.inherits_replicas
    if not read_now or not live.exists or live.no_good_template:
        return flow.wanted
    if live.hold is not None and live.replicas == live.replicas_set:
        # the cancel of a release before was refused: the pods of its open batch stand beside those it kept
        return live.hold.updated + live.hold.others or live.replicas
    return live.replicas


def _image_changes(fact: m.Done) -> tuple[ImageChange, ...]:
    return tuple(ImageChange(one.container, one.from_image, one.to_image) for one in fact.images)


def _target_revision(fact: m.Done) -> str:
    return fact.cloneset.update_revision if fact.same_template else ""


def _count_at_rest(fact: m.Done) -> Counts:
    """Return the counts before the first batch; none is updated while the CloneSet does not have the target template."""
    replicas = fact.cloneset.replicas
    if not fact.cloneset.exists or not fact.same_template:
        return Counts(0, replicas)
    revisions = {pod.revision for pod in fact.pods}
    if revisions <= {fact.cloneset.update_revision}:
        updated = replicas - fact.cloneset.partition
    else:
        updated = sum(1 for pod in fact.pods if pod.revision == fact.cloneset.update_revision)
    return Counts(min(max(updated, 0), replicas), replicas - min(max(updated, 0), replicas))


def _recount(instance: Instance, fact: m.Done, now: int, *, foreign: bool) -> Instance:
    """Take in the observed count, which may be another than the one that the observation was for, or still ours."""
    if foreign or fact.cloneset.replicas != fact.cloneset.replicas_set:
        instance = take_count(instance, fact.cloneset.replicas)
    flow = instance.active
    assert flow is not None
    return recount(instance, flow, fact, now)
