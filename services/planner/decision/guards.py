"""Decide the next move of a release: an ordered table of guards, and the release's step as the last of them.

Several things can be due at once: a command was refused while the CloneSet is gone and somebody presses cancel.
Which of them comes first decides whether pods lose their traffic, so the order of `GUARDS` is the specification.
Each guard answers with a move, with `WAIT` (nothing may be done now, and no later guard may act either), or with
None (it does not apply: the next guard decides).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from msgspec.structs import replace

from services.planner.decision import command_factory
from services.planner.decision.failure_handling import (
    continue_without,
    end_unobserved,
    end_without_cloneset,
    fail_batch,
    handle_refusal,
    is_cloneset_lost,
    observe_again,
    retry_batch,
    update_failed_count,
)
from services.planner.decision.foreign_counts import rewrite_surge, stand_by
from services.planner.decision.scheduling import (
    begin_next,
    close_release,
    end_early,
    end_waiting,
    end_with_namespace,
    find_ending,
    is_finishing,
)
from services.planner.decision.steps import STEPS
from services.planner.decision.traffic_admission import acknowledge_pull_in, find_strays
from services.planner.decision.traffic_removal import acknowledge_pull_out, find_still_serving
from services.planner.decision.transitions import Move, issue_command, request_pull_in, resend, set_flow
from services.planner.model.state import PRE_EXISTING, UNASSIGNED, Flow, Instance, Step, StepCommand
from services.planner.rules.deletions import find_remaining
from services.planner.rules.failure_detection import find_failure, find_tolerated_failures
from services.planner.rules.retry_backoff import is_waiting


class Wait(Enum):
    """The answer of a guard that holds the release where it is until the next fact or deadline."""

    WAIT = "wait"


WAIT: Final = Wait.WAIT

Guard = Callable[[Instance, Flow, int, int], Move | Wait | None]
"""(instance, its active release, now in ms since 1970, resend interval in ms) → move, `WAIT` or None."""


def next_move(instance: Instance, now: int, *, resend_ms: int, terminating: bool = False) -> Move | None:
    """Return the one thing to do next; None when nothing can be done before the next fact or deadline.

    A namespace that is being deleted (`terminating`) comes first: nothing can be made or restored there. The queue
    comes before the table: a release that ended while it waited must not be begun.
    """
    if terminating and (ended := end_with_namespace(instance, now)) is not instance:
        return Move(ended)
    if (kept := end_waiting(instance, now)) is not instance:
        return Move(kept)
    flow = instance.active
    if flow is None:
        return begin_next(instance, now)
    for guard in GUARDS:
        if (move := guard(instance, flow, now, resend_ms)) is not None:
            return None if move is WAIT else move
    return None


def _close(instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Move | None:
    return Move(close_release(instance, flow, now)) if flow.step == Step.DONE else None


def _accept_refusal(instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Move | None:
    if instance.pending is None or instance.pending.kind != "refused":
        return None
    return handle_refusal(instance, flow, now)


def _observe_again(instance: Instance, flow: Flow, now: int, resend_ms: int) -> Move | Wait | None:
    return (observe_again(instance, flow, now, resend_ms) or WAIT) if flow.resync else None


def _end_unobserved(instance: Instance, flow: Flow, now: int, resend_ms: int) -> Move | None:
    return end_unobserved(instance, flow, now, resend_ms) if flow.resync else None


def _end_without_cloneset(instance: Instance, flow: Flow, _now: int, _resend_ms: int) -> Move | None:
    return end_without_cloneset(instance, flow) if is_cloneset_lost(instance, flow) else None


def _assign_new_pods(instance: Instance, flow: Flow, _now: int, _resend_ms: int) -> Move | None:
    """Assign the pods that were not there before the surge and have the target revision to the open batch."""
    unassigned = [uid for uid, pod in instance.pods.items() if pod.batch == UNASSIGNED]
    batch = flow.open_batch
    if not unassigned or flow.step in {Step.OBSERVE, Step.PREPARE, Step.TAKE_OVER}:
        return None
    if flow.step == Step.SURGE and batch is not None and not batch.surge_acknowledged:
        return None
    target = flow.target_revision or instance.cloneset.update_revision
    owner = batch.number if batch and not batch.baked else PRE_EXISTING
    pods = dict(instance.pods)
    for uid in unassigned:
        pods[uid] = replace(pods[uid], batch=owner if pods[uid].revision == target else PRE_EXISTING)
    return Move(replace(instance, pods=pods))


def _finish_earlier_batch(instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Move | None:
    """Finish the batches whose old pods are gone, after the next one has begun."""
    done = {batch.number for batch in flow.unfinished_before if not find_remaining(instance, batch.removing)}
    if not done:
        return None
    batches = tuple(
        replace(batch, finished_at=now, removing=()) if batch.number in done else batch
        for batch in flow.batches
    )
    return Move(replace(instance, active=replace(flow, batches=batches)))


def _end_early(instance: Instance, flow: Flow, now: int, resend_ms: int) -> Move | Wait | None:
    if (ending := find_ending(instance, flow)) is None or is_finishing(instance, flow, now, resend_ms):
        return None
    return end_early(instance, flow, ending, now, resend_ms) or WAIT


def _stand_by(instance: Instance, flow: Flow, now: int, resend_ms: int) -> Move | Wait | None:
    if not flow.scaled_to_zero or flow.step in {Step.OBSERVE, Step.CANCEL, Step.FINISH}:
        return None
    return stand_by(instance, flow, now, resend_ms) or WAIT


def _retry(instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Move | None:
    return retry_batch(instance, flow, now) if flow.strategy.retries > flow.retries else None


def _fail_batch(instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Move | None:
    """Fail the batch; of one that has failed, count further failed pods, then take them out of traffic."""
    if (found := find_failure(instance, flow, now)) is None:
        return None
    if not flow.failed:
        return fail_batch(instance, flow, found, now)
    if flow.batches[-1].failed_replicas < found.replicas:
        return Move(update_failed_count(instance, flow, found))
    if uids := find_still_serving(instance, found):
        return issue_command(instance, command_factory.pull_out, now, uids=uids)
    return None


def _acknowledge_pull_out(instance: Instance, flow: Flow, _now: int, _resend_ms: int) -> Move | None:
    if not flow.failed and flow.step != Step.PULL_IN:
        return None
    done = acknowledge_pull_out(instance)
    return None if done is instance else Move(done)


def _continue_without(instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Move | None:
    failed = find_tolerated_failures(instance, flow, now)
    return continue_without(instance, flow, failed, now) if failed else None


def _halt(instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Move | None:
    if not flow.paused or not flow.issued or flow.step not in {Step.SURGE, Step.RETIRE}:
        return None
    return issue_command(set_flow(instance, flow, step_command=StepCommand.HALTED), command_factory.halt, now)


def _release_halt(instance: Instance, flow: Flow, _now: int, _resend_ms: int) -> Move | None:
    return (
        Move(set_flow(instance, flow, step_command=StepCommand.DUE))
        if flow.halted and not flow.paused
        else None
    )


def _rewrite_surge(instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Move | None:
    return rewrite_surge(instance, flow, now)


def _acknowledge_pull_in(instance: Instance, _flow: Flow, _now: int, _resend_ms: int) -> Move | None:
    done = acknowledge_pull_in(instance)
    return None if done is instance else Move(done)


def _pull_in_strays(instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Move | None:
    strays = find_strays(instance, flow)
    return request_pull_in(instance, now, strays) if strays else None


def _await_retry(_instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Wait | None:
    return WAIT if is_waiting(flow, now) and flow.step_command == StepCommand.DUE else None


def _take_step(instance: Instance, flow: Flow, now: int, _resend_ms: int) -> Move | None:
    return STEPS[flow.step](instance, flow, now)


GUARDS: Final[tuple[Guard, ...]] = (
    # a release that is done has no next move but to make room for the next one
    _close,
    # the answer of the API server decides on the release; no command may be sent on top of a refused one
    _accept_refusal,
    # a person's cancel does not wait for an observation that is refused, or that nobody answers
    _end_unobserved,
    # until the cluster has been observed, no guard below may trust the counts and pods of the state
    _observe_again,
    # without a CloneSet there are no pods to cancel, retry or fail
    _end_without_cloneset,
    # an early end names the batch's pods, a failure counts them: both need to know whose they are
    _assign_new_pods,
    # only a record: a batch that is finished is finished also where the release ends
    _finish_earlier_batch,
    # a person's cancel, and a rollback that waits, take precedence over what the batch does or suffers
    _end_early,
    # without pods nothing can be retried, failed or continued; only an early end is possible
    _stand_by,
    # before the failure guard, which would find the failure that the retry is to clear
    _retry,
    # before every guard that continues the release: nothing continues past a failed batch
    _fail_batch,
    # a pull_out that is done frees the pending command for the guards below
    _acknowledge_pull_out,
    # only failures that the failure guard tolerated get here; before the step, which would wait for these pods
    _continue_without,
    # a pause stops OpenKruise before anything else is written
    _halt,
    # before the step, which writes its command again: only a CloneSet that is not halted carries it out
    _release_halt,
    # after a halt, which does not know the count; also while the release stands still: a scale is not its progress
    _rewrite_surge,
    # a pull_in that is done frees the pending command: only then is it known which pods it left out
    _acknowledge_pull_in,
    # before the step, which counts the pods in traffic
    _pull_in_strays,
    # a rejected command is issued again after a wait; whatever a person does comes before it
    _await_retry,
    # the normal course of the release
    _take_step,
    # last: a command is sent again only where nothing has made it obsolete
    resend,
)
"""The first guard that answers decides."""
