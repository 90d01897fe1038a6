"""The planner's decision: from a state and the facts of one instance to the next state and what to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from services.planner.decision.apply_facts import Fact, apply_fact
from services.planner.decision.follow_ups import request_rollbacks
from services.planner.decision.guards import next_move
from services.planner.model.state import Instance
from services.planner.rules.freeze_hold import NO_WINDOWS, Windows, apply_windows
from services.planner.views.flow_events import events
from shared.domain.deploy_commands import DeployCommand
from shared.domain.messages import Command, FlowEvent

_MAX_MOVES: Final = 100
"""More moves than any release can make at once."""


class Decision(NamedTuple):
    """`instance` is the very same object when nothing has changed."""

    instance: Instance
    commands: tuple[Command, ...]
    events: tuple[FlowEvent, ...]
    requests: tuple[DeployCommand, ...] = ()


def decide(
    instance: Instance, facts: Sequence[Fact], now: int, *, resend_ms: int, windows: Windows = NO_WINDOWS
) -> Decision:
    """Take in the facts one by one, then do all that can be done, at the time `now` (ms since 1970).

    `windows`: the freeze windows of its namespace.
    """
    before = instance
    commands: list[Command] = []
    told: list[FlowEvent] = []
    for fact in facts:
        instance = _stamp(instance, apply_windows(apply_fact(instance, fact, now), windows, now), now, told)
        for _ in range(_MAX_MOVES):
            move = next_move(instance, now, resend_ms=resend_ms)
            if move is None:
                break
            instance = _stamp(instance, move.instance, now, told)
            commands += move.commands
        else:
            msg = (
                f"{instance.key}: the release turns in circles at {instance.active and instance.active.step}"
            )
            raise RuntimeError(msg)
    if instance is before or instance == before:
        return Decision(before, (), ())
    asked = tuple(request_rollbacks(before, instance))
    return Decision(replace(instance, version=before.version + 1), tuple(commands), tuple(told), asked)


def _stamp(old: Instance, new: Instance, now: int, told: list[FlowEvent]) -> Instance:
    """`new` with the time of its release's change, what happened added to `told`."""
    if new is old:
        return old
    told += events(old, new, now)
    flow = new.active
    return new if flow is None or flow is old.active else replace(new, active=replace(flow, updated_at=now))
