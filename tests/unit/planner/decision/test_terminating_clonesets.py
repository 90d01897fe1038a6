"""A CloneSet that is being deleted and not gone yet: its release ends, or says what it waits for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.planner.rules.retry_backoff import LONGEST_MS
from shared.domain import messages as m
from tests.simulation.cluster import HEAD
from tests.simulation.world import World
from tests.unit.planner.releases import message, reason

HELD = "CloneSet default/web is being deleted (held by foregroundDeletion)"


def _terminate(world: World) -> None:
    """Somebody deletes the CloneSet in the foreground, and a pod holds it; the executor's watch reports it."""
    assert world.cluster.body is not None
    metadata = world.cluster.body["metadata"]
    metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    metadata["finalizers"] = ["foregroundDeletion"]
    metadata["generation"] += 1
    world.cluster.reconcile = lambda: None  # type: ignore[method-assign]
    world.handle(m.CloneSetSeen(**HEAD, sequence=world.facts.sequence, cloneset=world.facts))


def _begin_with(action: str) -> World:
    world = World(4)
    _terminate(world)
    world.apply("new", {"mode": "auto"} if action in {"create", "update"} else {}, action=action)
    return world


def _smoking(world: World) -> None:
    world.containers_start = False
    world.apply("new", {"mode": "auto"})


def _waiting(world: World) -> None:
    world.apply("new", {"mode": "auto", "canary": 1})


def _baking(world: World) -> None:
    world.apply("new", {"mode": "auto", "bakeSeconds": 60})


def _between(world: World) -> None:
    world.apply("new", {"batchSize": 1})


def _restarting(world: World) -> None:
    world.apply("new", {"batchSize": 1}, action="restart")


def _finishing(world: World) -> None:
    world.silent.add("finish")
    world.apply("new", {"mode": "auto"})


@pytest.mark.parametrize("begin", [_smoking, _waiting, _baking, _between, _restarting, _finishing])
def test_a_release_ends_and_says_what_holds_the_cloneset(begin: Callable[[World], None]) -> None:
    world = World(4)
    begin(world)
    assert not world.flow("new").phase.finished
    _terminate(world)
    assert (world.flow("new").phase, reason(world)) == ("Failed", "CloneSetTerminating")
    assert message(world) == HELD


def test_a_cancel_that_openkruise_will_not_carry_out_is_not_awaited() -> None:
    world = World(4)
    _waiting(world)
    world.silent.add("cancel")
    world.change("new", {"canceled": True})
    _terminate(world)
    assert world.flow("new").phase == "Canceled"


@pytest.mark.parametrize("action", ["update", "restart", "stop", "scale_out"])
def test_a_release_does_not_begin_on_it(action: str) -> None:
    world = _begin_with(action)
    assert (world.flow("new").phase, reason(world)) == ("Failed", "CloneSetTerminating")
    assert message(world) == f"{HELD}: create the instance again when it is gone"


def test_a_create_waits_until_it_is_gone() -> None:
    world = _begin_with("create")
    for _ in range(100):
        world.wait(1000)
    assert reason(world) == "CloneSetTerminating"
    assert message(world) == f"{HELD}: the create begins when it is gone"
    assert len(world.commands) < 20
    del world.cluster.reconcile
    world.delete_cloneset()
    world.wait(LONGEST_MS)
    assert world.flow("new").phase == "Success"
    assert world.cluster.serving() == 4


def test_a_create_that_waits_for_it_can_be_canceled() -> None:
    world = _begin_with("create")
    world.change("new", {"canceled": True})
    assert world.flow("new").phase == "Canceled"


@pytest.mark.parametrize("when", ["before", "in the middle"])
def test_a_delete_is_successful_only_when_it_is_gone(when: str) -> None:
    if when == "before":
        world = _begin_with("delete")
    else:
        world = World(4)
        world.apply("new", {"batchSize": 1}, action="delete")
        _terminate(world)
    world.wait(20_000)
    assert reason(world) == "CloneSetTerminating"
    assert message(world) == f"{HELD}: waits until it is gone"
    world.delete_cloneset()
    world.wait(LONGEST_MS)
    assert world.flow("new").phase == "Success"
