"""Decide on the facts of one instance: from its state to the next state, the commands and the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from services.planner.decision.apply_facts import Fact, apply_fact
from services.planner.decision.follow_ups import request_rollbacks
from services.planner.decision.guards import next_move
from services.planner.model.state import Instance
from services.planner.rules.freeze_hold import NO_WINDOWS, Windows, apply_windows
from services.planner.rules.predecessors import Predecessor, apply_predecessors
from services.planner.views.flow_events import events
from shared.domain.deploy_commands import DeployCommand
from shared.domain.messages import Command, FlowEvent

_MAX_MOVES: Final = 100
"""The limit of moves on one fact; no release makes so many."""


class Decision(NamedTuple):
    """`instance` is the very same object when nothing has changed."""

    instance: Instance
    commands: tuple[Command, ...]
    events: tuple[FlowEvent, ...]
    requests: tuple[DeployCommand, ...] = ()


def decide(
    instance: Instance,
    facts: Sequence[Fact],
    now: int,
    *,
    resend_ms: int,
    windows: Windows = NO_WINDOWS,
    predecessors: Sequence[Predecessor] = (),
    terminating: bool = False,
) -> Decision:
    """Apply the facts one by one, each followed by all moves that are possible, at `now` (ms since 1970).

    `windows`: the freeze windows of the namespace. `predecessors`: the releases of the instance that have begun, for
    one that `needs_predecessors`. `terminating`: the namespace is being deleted. Raises `RuntimeError` where the moves
    do not end.
    """
    before = instance
    commands: list[Command] = []
    published: list[FlowEvent] = []
    for fact in facts:
        applied = apply_windows(apply_fact(instance, fact, now), windows, now)
        instance = _stamp(instance, apply_predecessors(applied, predecessors), now, published)
        for _ in range(_MAX_MOVES):
            move = next_move(instance, now, resend_ms=resend_ms, terminating=terminating)
            if move is None:
                break
            instance = _stamp(instance, move.instance, now, published)
            commands += move.commands
        else:
            msg = f"{instance.key}: transition limit exceeded at step {instance.active and instance.active.step}"
            raise RuntimeError(msg)
    if instance is before or instance == before:
        return Decision(before, (), ())
    requested = tuple(request_rollbacks(before, instance))
    return Decision(
        replace(instance, version=before.version + 1), tuple(commands), tuple(published), requested
    )


def _stamp(old: Instance, new: Instance, now: int, published: list[FlowEvent]) -> Instance:
    """Return `new` with the time of its release's change; append what happened to `published`."""
    if new is old:
        return old
    published += events(old, new, now)
    flow = new.active
    return new if flow is None or flow is old.active else replace(new, active=replace(flow, updated_at=now))
