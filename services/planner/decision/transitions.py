"""What every move of a release is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from services.planner.decision import command_factory as give
from services.planner.model.state import Batch, Flow, Instance, PendingCommand, Pod, Step
from shared.domain.messages import Command


class Move(NamedTuple):
    """The instance after a move, and the commands that it gives."""

    instance: Instance
    commands: tuple[Command, ...] = ()


def set_flow(instance: Instance, flow: Flow, **fields: object) -> Instance:
    return replace(instance, active=replace(flow, **fields))


def set_batch(instance: Instance, flow: Flow, batch: Batch, **fields: object) -> Instance:
    return set_flow(instance, flow, batches=(*flow.batches[:-1], batch), **fields)


def give_command(instance: Instance, make: Callable[..., Command], now: int, **fields: object) -> Move:
    """Give a command with the next sequence; it stays until it is carried out."""
    sequence = instance.sequence + 1
    command = make(instance, sequence, **fields)
    kind = command.model_dump(include={"type"})["type"]
    given = PendingCommand(sequence, kind, command.model_dump_json(), now)
    return Move(replace(instance, sequence=sequence, given=given), (command,))


def request_pull_in(instance: Instance, now: int, uids: tuple[str, ...]) -> Move:
    """Let the gates of these pods be opened."""
    pods = dict(instance.pods)
    for uid in uids:
        pods[uid] = replace(pods[uid], asked=instance.sequence + 1)
    return give_command(replace(instance, pods=pods), give.pull_in, now, uids=uids)


def again(instance: Instance, flow: Flow, now: int, resend_ms: int, *, anyway: bool = False) -> Move | None:
    """The unanswered command once more, with the same sequence; `anyway`: also while the release stands still."""
    given = instance.given
    stands = flow.paused and not flow.halted and flow.step not in {Step.CANCEL, Step.TAKE_OVER}
    if given is None or now < given.sent_at + resend_ms or (stands and not anyway):
        return None
    if given.answered and given.seen:
        return None
    late = replace(given, sent_at=now, late_since=given.late_since or given.sent_at)
    return Move(replace(instance, given=late), (give.read(given.body),))


def carried_out(instance: Instance, kind: str) -> bool:
    given = instance.given
    return given is not None and given.kind == kind and given.answered and given.seen


def mine(instance: Instance, batch: Batch) -> list[tuple[str, Pod]]:
    """The pods of a batch that live."""
    return [
        (uid, pod) for uid, pod in instance.pods.items() if pod.batch == batch.number and not pod.deleting
    ]


def gone(instance: Instance, uids: tuple[str, ...]) -> bool:
    return all((pod := instance.pods.get(uid)) is None or pod.deleting for uid in uids)
