"""Build moves: change the release or its batch, issue a command, or send it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from services.planner.decision import command_factory
from services.planner.model.state import Batch, Flow, Instance, PendingCommand, Step
from shared.domain.messages import Command


class Move(NamedTuple):
    """The instance after a move, and the commands that the move issues."""

    instance: Instance
    commands: tuple[Command, ...] = ()


def set_flow(instance: Instance, flow: Flow, **fields: object) -> Instance:
    return replace(instance, active=replace(flow, **fields))


def set_batch(instance: Instance, flow: Flow, batch: Batch, **fields: object) -> Instance:
    return set_flow(instance, flow, batches=(*flow.batches[:-1], batch), **fields)


def issue_command(instance: Instance, make: Callable[..., Command], now: int, **fields: object) -> Move:
    """Issue a command with the next sequence; it stays pending until it is carried out."""
    sequence = instance.sequence + 1
    command = make(instance, sequence, **fields)
    kind = command.model_dump(include={"type"})["type"]
    pending = PendingCommand(sequence, kind, command.model_dump_json(), now)
    return Move(replace(instance, sequence=sequence, pending=pending), (command,))


def request_pull_in(instance: Instance, now: int, uids: tuple[str, ...]) -> Move:
    """Request that the gates of these pods are opened."""
    pods = dict(instance.pods)
    for uid in uids:
        pods[uid] = replace(pods[uid], pull_in_sequence=instance.sequence + 1)
    return issue_command(replace(instance, pods=pods), command_factory.pull_in, now, uids=uids)


def resend(instance: Instance, flow: Flow, now: int, resend_ms: int, *, anyway: bool = False) -> Move | None:
    """Send the pending command again, with its sequence, `resend_ms` after the last time.

    `anyway`: also while the release is paused.
    """
    pending = instance.pending
    stands = flow.paused and not flow.halted and flow.step not in {Step.CANCEL, Step.TAKE_OVER}
    if pending is None or now < pending.sent_at + resend_ms or (stands and not anyway):
        return None
    if pending.carried_out:
        return None
    late = replace(pending, sent_at=now, late_since=pending.late_since or pending.sent_at)
    return Move(replace(instance, pending=late), (command_factory.parse_command(pending.body),))


def is_late(pending: PendingCommand | None, now: int, resend_ms: int) -> bool:
    """Return whether a command has not been carried out within the resend interval."""
    if pending is None or pending.carried_out:
        return False
    return now >= (pending.late_since or pending.sent_at) + resend_ms


def is_carried_out(instance: Instance, kind: str) -> bool:
    pending = instance.pending
    return pending is not None and pending.kind == kind and pending.carried_out


def all_gone(instance: Instance, uids: tuple[str, ...]) -> bool:
    return all((pod := instance.pods.get(uid)) is None or pod.deleting for uid in uids)
