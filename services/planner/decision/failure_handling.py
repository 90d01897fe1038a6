"""Handle what goes wrong in a release: a refused command, a lost CloneSet, a failed batch, tolerated failed pods."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from services.planner.decision import command_factory
from services.planner.decision.scheduling import cancel_open_batch, find_ending
from services.planner.decision.transitions import (
    Move,
    is_late,
    issue_command,
    resend,
    set_batch,
    set_flow,
)
from services.planner.model.state import PRE_EXISTING, Batch, Flow, Instance, Resync, Step, StepCommand
from services.planner.rules.clocks import restart_on_retry
from services.planner.rules.deletions import CLONESET_TERMINATING, describe_deletion
from services.planner.rules.failure_detection import Failure
from services.planner.rules.missing_labels import missing_labels
from services.planner.rules.retry_backoff import count_rejection, is_waiting
from shared.domain.deployflow import Action, BatchPhase, FlowPhase
from shared.domain.messages import Observe
from shared.kube.ownership import LABELS_MISSING


def observe_again(instance: Instance, flow: Flow, now: int, resend_ms: int) -> Move | None:
    if instance.pending is not None and instance.pending.kind == "observe":
        return resend(instance, flow, now, resend_ms, anyway=True)
    if is_waiting(flow, now):
        return None
    return issue_command(instance, command_factory.observe, now)


def end_unobserved(instance: Instance, flow: Flow, now: int, resend_ms: int) -> Move | None:
    """End a release early although its observation is refused or not answered; None where it is to be awaited."""
    late = is_late(instance.pending, now, resend_ms)
    if not is_waiting(flow, now) and (flow.resync == Resync.REBUILD or not late):
        return None
    if (ending := find_ending(instance, flow)) is None:
        return _end_unlabeled_finish(instance, flow)
    if flow.resync != Resync.REBUILD:
        # the counts and pods of the last answer are good enough to end with
        known = replace(flow, resync=Resync.NONE, retry_at=min(flow.retry_at, now))
        return Move(replace(instance, active=known, pending=None))
    message = f"ended as it stands, since it could not be observed: {flow.rejected}"
    return Move(
        set_flow(
            instance,
            flow,
            step=Step.DONE,
            outcome=ending,
            reason=ending if ending != FlowPhase.FAILED else flow.reason,
            message=message,
        )
    )


def _end_unlabeled_finish(instance: Instance, flow: Flow) -> Move | None:
    """End a canceled release whose last write waits for a label: all its pods are released, so there is no other end."""
    text = missing_labels(flow)
    if text is None or not flow.canceled or flow.step != Step.FINISH:
        return None
    ended = {"step": Step.DONE, "outcome": FlowPhase.CANCELED, "reason": LABELS_MISSING, "message": text}
    return Move(set_flow(instance, flow, **ended))


def is_cloneset_lost(instance: Instance, flow: Flow) -> bool:
    """Return whether somebody has deleted the CloneSet in the middle of the release, or it is being deleted."""
    if instance.cloneset.deleting:
        removed = flow.action == Action.DELETE and flow.step == Step.FINISH
        return flow.step not in {Step.OBSERVE, Step.DONE} and not removed
    began = flow.batches and (flow.action != Action.CREATE or flow.batches[0].surge_acknowledged)
    return bool(began) and not instance.cloneset.exists and flow.step not in _STEPS_WITHOUT_CLONESET


_STEPS_WITHOUT_CLONESET = {Step.OBSERVE, Step.PREPARE, Step.TAKE_OVER, Step.CANCEL, Step.FINISH, Step.DONE}
"""Steps that begin without a CloneSet, or learn from their own command that it does not exist."""


def end_without_cloneset(instance: Instance, flow: Flow) -> Move:
    """End the release of an instance whose CloneSet does not exist, or soon will not; a delete waits for that."""
    if instance.cloneset.deleting and flow.step == Step.CANCEL:
        return Move(set_flow(instance, flow, step=Step.DONE))
    if instance.cloneset.deleting and flow.action == Action.DELETE:
        return Move(set_flow(instance, flow, step=Step.FINISH, step_command=StepCommand.DUE))
    if instance.cloneset.deleting:
        text = describe_deletion(instance)
        return Move(
            set_flow(
                instance,
                flow,
                step=Step.DONE,
                outcome=FlowPhase.FAILED,
                reason=CLONESET_TERMINATING,
                message=text,
            )
        )
    text = f"CloneSet {instance.key} does not exist"
    return Move(
        set_flow(
            instance,
            flow,
            step=Step.DONE,
            outcome=_outcome_without_cloneset(flow),
            reason="NotFound",
            message=text,
        )
    )


def _outcome_without_cloneset(flow: Flow) -> FlowPhase:
    """Return the outcome of a release whose CloneSet does not exist."""
    return FlowPhase.SUCCESS if flow.action == Action.DELETE else FlowPhase.FAILED


def handle_refusal(instance: Instance, flow: Flow, now: int) -> Move:
    assert instance.pending is not None
    command = command_factory.parse_command(instance.pending.body)
    instance = replace(instance, pending=None)
    if flow.step == Step.CANCEL:
        return _handle_refused_cancel(instance, flow, now)
    if isinstance(command, Observe) and flow.resync and (flow.batches or flow.step != Step.OBSERVE):
        return _handle_refused_observation(instance, flow, command, now)
    if flow.reason == "NotFound" and flow.batches:
        return Move(
            set_flow(instance, flow, step=Step.DONE, outcome=flow.outcome or _outcome_without_cloneset(flow))
        )
    if flow.step == Step.FINISH and flow.reason != "NotFound":
        # every batch is finished, so nothing has failed: the CloneSet is left as it was found once that is possible
        tried = count_rejection(flow, now, f"{flow.reason}: {flow.message}")
        tried = replace(tried, reason="", message="", step_command=StepCommand.DUE)
        return Move(replace(instance, active=tried))
    batch = flow.open_batch
    if batch is None or (batch.number == 1 and not instance.cloneset.exists):
        # nothing has moved yet
        return Move(set_flow(instance, flow, step=Step.DONE, outcome=FlowPhase.FAILED))
    return fail_batch(instance, flow, _refusal_of(flow, batch), now)


CANCEL_ATTEMPTS: Final = 8
"""How often a refused cancel is written, with the waits between them for about a minute: whoever waits comes next then."""
_FOR_GOOD: Final = ("NotFound: ", "NotOurs: ")


def _handle_refused_cancel(instance: Instance, flow: Flow, now: int) -> Move:
    """Write the cancel again after a wait, from what is observed then; end without it when that is of no use."""
    if not flow.issued:
        # the refused command was an observation
        return cancel_open_batch(instance, replace(flow, resync=Resync.NONE), now)
    if flow.rejected.startswith(_FOR_GOOD):
        reason, _, message = flow.rejected.partition(": ")
        return Move(set_flow(instance, flow, step=Step.DONE, reason=reason, message=message))
    tried = count_rejection(flow, now, flow.rejected)
    if tried.rejections >= CANCEL_ATTEMPTS:
        left = (
            f"CloneSet {instance.key} keeps what the release has written into it, until the next one begins"
        )
        message = f"{flow.message}; {left}: the cancel was refused {tried.rejections} times: {flow.rejected}"
        return Move(set_flow(instance, flow, step=Step.DONE, message=message))
    again = replace(tried, resync=max(tried.resync, Resync.OBSERVE), step_command=StepCommand.DUE)
    return Move(replace(instance, active=again))


def _refusal_of(flow: Flow, batch: Batch) -> Failure:
    """Return the failure of a batch whose command was refused; a baked one stays baked, since its pods serve."""
    phase = None if batch.baked else BatchPhase.SMOKE_FAILED
    if batch.phase in {BatchPhase.BAKING, BatchPhase.BAKE_FAILED}:
        phase = BatchPhase.BAKE_FAILED
    return Failure(phase, flow.reason, flow.message, 0, ())


def _handle_refused_observation(instance: Instance, flow: Flow, command: Observe, now: int) -> Move:
    """Observe again: at once where only the dry run was refused, else after a wait, with the batch failed once."""
    words = flow.rejected if flow.failed else f"{flow.reason}: {flow.message}"
    tried = count_rejection(flow, now, words)
    batch = flow.open_batch
    # what a batch rebuilt from `.status` has done is not known before it is observed
    known = flow.resync != Resync.REBUILD
    if command.application is not None or batch is None or flow.failed or not known:
        return Move(replace(instance, active=tried))
    return fail_batch(instance, tried, _refusal_of(flow, batch), now)


def fail_batch(instance: Instance, flow: Flow, found: Failure, now: int) -> Move:
    """Stop the release at its failed batch; failed pods in traffic are pulled out."""
    batch = flow.batch
    assert batch is not None
    if found.phase is None:
        return Move(set_flow(instance, flow, failed=True, reason=found.reason, message=found.message))
    count = batch.failed_replicas + found.replicas
    failed = replace(
        batch, phase=found.phase, reason=found.reason, message=found.message, failed_replicas=count
    )
    instance = set_batch(
        instance, flow, failed, failed=True, reason=found.phase, message=found.message, updated_at=now
    )
    if found.pull_out:
        assert instance.active is not None
        return issue_command(
            set_flow(instance, instance.active, step_command=StepCommand.HALTED),
            command_factory.pull_out,
            now,
            uids=found.pull_out,
        )
    return Move(instance)


def update_failed_count(instance: Instance, flow: Flow, found: Failure) -> Instance:
    """Record that more pods of the failed batch have failed."""
    batch = replace(flow.batches[-1], failed_replicas=found.replicas, message=found.message)
    return set_batch(instance, flow, batch, message=found.message)


def continue_without(instance: Instance, flow: Flow, bad: tuple[str, ...], now: int) -> Move:
    """Continue the batch without these failed pods: they are removed with the old ones, and replaced by a later batch."""
    batch = flow.open_batch
    assert batch is not None
    names = ", ".join(sorted(instance.pods[uid].name for uid in bad))
    warning = (
        f"batch {batch.number} continues without {len(bad)} failed pods, within failureThreshold: {names}"
    )
    opened = tuple(uid for uid in bad if instance.pods[uid].gate == "open")
    pods = {
        uid: replace(pod, batch=PRE_EXISTING) if uid in bad else pod for uid, pod in instance.pods.items()
    }
    smaller = replace(
        batch,
        surge=batch.surge - len(bad),
        failed_replicas=batch.failed_replicas + len(bad),
        baking_since=now if batch.baking_since else 0,
    )
    instance = set_batch(
        replace(instance, pods=pods),
        flow,
        smaller,
        dropped=(*flow.dropped, *bad),
        warnings=(*flow.warnings, warning),
    )
    return issue_command(instance, command_factory.pull_out, now, uids=opened) if opened else Move(instance)


def retry_batch(instance: Instance, flow: Flow, now: int) -> Move:
    """Start the failed batch again with new pods in place of those that do not serve; without one, only count it."""
    noted = replace(flow, retries=flow.strategy.retries, rejections=0, retry_at=0)
    batch = flow.open_batch
    if not flow.failed or batch is None or flow.outcome is not None:
        return Move(replace(instance, active=noted))
    restarted = replace(noted, failed=False, step_command=StepCommand.DUE, reason="", message="")
    if batch.baked:
        # only the removal of its old pods is left
        return Move(set_batch(replace(instance, pending=None), restarted, restart_on_retry(batch, now)))
    serves = batch.phase == BatchPhase.BAKE_FAILED
    dropped = tuple(uid for uid, pod in instance.live_pods_of(batch).items() if not (serves and pod.ready))
    pods = {
        uid: replace(pod, batch=PRE_EXISTING if uid in dropped else pod.batch, flaps=0)
        for uid, pod in instance.pods.items()
    }
    fresh = replace(
        restart_on_retry(batch, now),
        phase=BatchPhase.SMOKING,
        surge_acknowledged=False,
        guarded=False,
        failed_replicas=0,
        reason="",
        message="",
    )
    instance = set_batch(
        replace(instance, pods=pods),
        restarted,
        fresh,
        step=Step.SURGE,
        step_command=StepCommand.ISSUED,
        dropped=(*flow.dropped, *dropped),
        phase=FlowPhase.BATCH_STARTED,
    )
    return issue_command(instance, command_factory.surge, now)
