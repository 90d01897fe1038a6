"""Take over a release that Triton 0.1.x began: find its step from its `.status` and the observed pods.

Version 0.1.x wrote neither version nor sequence nor hold, and named pods without their uid. Its claim on the CloneSet
is an owner reference, which keeps the batch's gates closed until our first write puts a hold in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from services.planner.model.flow_plan import plan_batches, plan_next_batch
from services.planner.model.state import PRE_EXISTING, Batch, Flow, Instance, Resync, Step, StepCommand
from services.planner.recovery.status_reader import read_batch, to_milliseconds
from shared.domain import messages as m
from shared.domain.deployflow import BatchPhase, Condition, DeployFlowStatus, FlowPhase


def is_under_way(status: Mapping[str, Any]) -> bool:
    """Return whether the release has begun and not ended."""
    return not status.get("finished") and status.get("phase") not in {None, "", FlowPhase.PENDING}


def is_begun_by_legacy(status: Mapping[str, Any]) -> bool:
    """Return whether Triton 0.1.x has begun the release and this version has not written its status yet."""
    return is_under_way(status) and not status.get("version")


def inherit_release(flow: Flow, status: DeployFlowStatus, now: int) -> Flow:
    """Return the release as 0.1.x left it; its pods and counts are observed before anything else."""
    message = flow.message
    if flow.outcome is not None:
        message += (
            "; Triton 0.1.x had begun it: it is left as it stands and the pods keep serving; "
            "make an update with the wanted template and replicas"
        )
    return replace(
        flow,
        phase=status.phase,
        step=Step.TAKE_OVER,
        message=message,
        target_revision=status.update_revision,
        to_process=status.replicas_to_process,
        batches=tuple(
            _inherit_batch(condition, status.finished_batches, now) for condition in status.conditions
        ),
        named={pod.name: c.batch for c in status.conditions for pod in c.pods},
        total=status.batches,
        started_at=to_milliseconds(status.started_at) or now,
        resync=Resync.REBUILD,
    )


def _inherit_batch(condition: Condition, finished_batches: int, now: int) -> Batch:
    """Return a batch from the status of 0.1.x. A failed one is judged again: 0.1.x counted any restart as a failure."""
    batch = read_batch(condition, finished_batches, now)
    return replace(
        batch,
        phase=BatchPhase.BAKED if batch.finished_at else batch.phase,
        surge_acknowledged=True,
        failed_replicas=batch.failed_replicas if batch.finished_at else 0,
        reason="",
        message="",
    )


def take_over(instance: Instance, flow: Flow, fact: m.Done) -> Instance:
    """Return the instance with its release at the step that the CloneSet and its pods show."""
    live = fact.cloneset
    flow = replace(flow, step=Step.TAKE_OVER, resync=Resync.NONE, step_command=StepCommand.DUE)
    if not live.exists:
        step = Step.OBSERVE if flow.outcome is None else Step.DONE
        return replace(instance, active=replace(flow, step=step, batches=(), named={}, target_revision=""))
    if flow.outcome is None and flow.target_revision not in {"", live.update_revision}:
        message = (
            f"the CloneSet has another template since ({live.update_revision}, not {flow.target_revision}): "
            "what Triton 0.1.x had begun is not continued; the pods keep serving"
        )
        flow = replace(flow, outcome=FlowPhase.ABORTED, reason="Replaced", message=message)
    new = [ref for ref in fact.pods if ref.revision == live.update_revision]
    places = {ref.uid: _batch_of_pod(instance, flow, ref) for ref in new}
    flow = replace(flow, target_revision=live.update_revision, keeps_template=True)
    flow, own = _find_open_batch(flow, new, places)
    batch = flow.open_batch
    if batch is not None:
        places |= dict.fromkeys(own, batch.number)
    old = len(fact.pods) - len(new)
    updated = len(new) - len(own)
    if flow.action != "create":
        # a pod that is just being replaced counts as well
        old = max(old, live.replicas - updated - (batch.surge if batch else 0))
    pods = {uid: replace(pod, batch=places.get(uid, PRE_EXISTING)) for uid, pod in instance.pods.items()}
    return replace(instance, active=replace(flow, updated=updated, others=old), pods=pods)


def _batch_of_pod(instance: Instance, flow: Flow, ref: m.PodRef) -> int:
    """Return the number of the batch that made a pod, as far as it is recorded."""
    known = instance.pods.get(ref.uid)
    return flow.named.get(ref.name, max(known.batch, PRE_EXISTING) if known else PRE_EXISTING)


def _find_open_batch(
    flow: Flow, new: Sequence[m.PodRef], places: Mapping[str, int]
) -> tuple[Flow, list[str]]:
    """Return the release with its open batch, and the uids of the pods of that batch."""
    batch = flow.open_batch
    unnamed = [ref for ref in new if places[ref.uid] == PRE_EXISTING]
    if batch is not None and batch.phase != BatchPhase.PENDING:
        # pods that the status does not name yet: those without traffic first, then the youngest
        later = [ref for ref in unnamed if ref.created_at >= batch.started_at // 1000 * 1000]
        later.sort(key=lambda ref: (ref.gate == m.Gate.OPEN, -ref.created_at))
        own = [ref.uid for ref in new if places[ref.uid] == batch.number]
        return flow, [*own, *(ref.uid for ref in later)][: batch.surge]
    # a batch that is only announced: it had begun if pods wait for it
    flow = replace(flow, batches=flow.batches[:-1]) if batch is not None else flow
    waiting = [ref.uid for ref in unnamed if ref.gate == m.Gate.CLOSED and not ref.ready]
    if not waiting or (batch is None and flow.batches):
        return flow, []
    if batch is None:
        done = replace(flow, updated=len(new) - len(waiting))
        flow = plan_batches(done)
        size, canary = plan_next_batch(flow)
        batch = Batch(1, size, canary=canary, started_at=flow.started_at, surged_at=flow.updated_at)
    # where there are more than its size (0.1.x made all pods of a create at once), its surge is issued again
    acknowledged = len(waiting) <= batch.surge
    started = batch.started_at or flow.updated_at
    batch = replace(batch, phase=BatchPhase.SMOKING, started_at=started, surge_acknowledged=acknowledged)
    return replace(flow, step=Step.TAKE_OVER, batches=(*flow.batches, batch)), waiting
