"""An old pod that may not be deleted: its batch is finished when it is gone, and no other batch fails for it."""

from __future__ import annotations

import pytest

from tests.simulation.cluster import OLD
from tests.simulation.world import World
from tests.unit.planner.releases import message, reason

HELD = "finalizer tests.example.com/keep"


def _held_world(strategy: dict[str, object], hold: int = 0) -> World:
    world = World(4)
    world.cluster.of(OLD)[hold].held = HELD
    world.apply("new", {"mode": "auto", "startupTimeoutSeconds": 30, **strategy})
    return world


def _let_go(world: World) -> None:
    for pod in world.pods:
        pod.held = ""
    world.vanish(*(pod for pod in world.pods if pod.deleting))


def test_the_last_batch_is_finished_when_its_old_pods_are_gone_and_names_what_holds_them() -> None:
    world = _held_world({})
    world.wait(60_000)
    assert world.where("new") == "BatchStarted 1 Baked"
    assert reason(world) == "OldPodsHeld"
    assert message(world) == f"batch 1 waits until the pods that it replaced are gone: old-0 (held by {HELD})"
    _let_go(world)
    assert world.where("new") == "Success 1 Baked"


def test_a_batch_is_not_finished_by_the_next_one_and_the_next_one_does_not_fail_for_it() -> None:
    world = _held_world({"batchSize": 2})
    world.wait(60_000)
    first, second = world.flow("new").batches
    assert (first.finished_at, second.failed_replicas) == (0, 0)
    assert world.status("new")["finishedBatches"] == 1
    assert not world.flow("new").failed
    assert reason(world) == "OldPodsHeld"
    assert message(world).startswith("batch 1 waits until")
    _let_go(world)
    assert world.where("new") == "Success 2 Baked"
    assert [event.reason for event in world.events].count("BatchFinished") == 2


@pytest.mark.parametrize("strategy", [{}, {"batchSize": 2}])
def test_a_release_with_a_held_pod_can_be_canceled(strategy: dict[str, object]) -> None:
    world = _held_world(strategy)
    world.change("new", {"canceled": True})
    assert world.flow("new").phase == "Canceled"


def test_a_progress_deadline_names_the_held_pod_and_blames_no_batch() -> None:
    world = _held_world({"progressDeadlineSeconds": 20})
    world.wait(20_000)
    assert world.where("new") == "BatchStarted 1 Baked"
    assert reason(world) == "ProgressDeadlineExceeded"
    assert HELD in message(world)
