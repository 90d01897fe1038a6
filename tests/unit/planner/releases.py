"""Releases in the simulated world, begun in one line: what the tests of the planner have in common."""

from __future__ import annotations

from typing import Any

from services.planner.model.state import Batch
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from tests.simulation.world import World

NEW = "new"
"""The name of the release that is looked at, and the revision of its pods."""


def update(there: int = 10, *, wanted: int | None = None, **strategy: Any) -> World:
    """An instance with so many pods, and an update of it begun; `auto` unless said otherwise."""
    world = World(there)
    world.apply(NEW, {"mode": "auto", **strategy}, replicas=wanted)
    return world


def create(wanted: int, **strategy: Any) -> World:
    world = World(None)
    world.apply(NEW, {"mode": "auto", **strategy}, replicas=wanted, action="create")
    return world


def starting(there: int = 10, **strategy: Any) -> World:
    """An update whose first batch's containers do not start by themselves."""
    world = World(there)
    world.containers_start = False
    world.apply(NEW, {"mode": "auto", "batchSize": 2, **strategy})
    return world


def opening(there: int = 10, **strategy: Any) -> World:
    """An update whose first batch's gates do not open."""
    world = World(there)
    world.gates_move = False
    world.apply(NEW, {"mode": "auto", "batchSize": 2, **strategy})
    return world


def without_answer(kind: str, there: int = 10, *, wanted: int | None = None, **strategy: Any) -> World:
    """An update for which the executor does not get to commands of this kind."""
    world = World(there)
    world.silent.add(kind)
    world.apply(NEW, {"mode": "auto", "batchSize": 2, **strategy}, replicas=wanted)
    return world


def batch(world: World, name: str = NEW) -> Batch:
    """The last batch that began."""
    found = world.flow(name).batch
    assert found is not None
    return found


def sizes(world: World, name: str = NEW) -> list[int]:
    return [one.size for one in world.flow(name).batches]


def press_next(world: World, name: str = NEW) -> str:
    world.steer(name, CommandType.NEXT)
    return world.where(name)


def last(world: World, kind: type[m.Command]) -> Any:
    """The last command of a kind."""
    return next(command for command in reversed(world.commands) if isinstance(command, kind))


def reason(world: World, name: str = NEW) -> str:
    said: str = world.status(name)["reason"]
    return said


def message(world: World, name: str = NEW) -> str:
    said: str = world.status(name)["message"]
    return said


def revisions(world: World) -> dict[str, int]:
    """How many pods of which revision there are."""
    found: dict[str, int] = {}
    for pod in world.cluster.live:
        found[pod.revision] = found.get(pod.revision, 0) + 1
    return found
