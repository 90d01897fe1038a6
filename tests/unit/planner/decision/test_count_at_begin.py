"""A release for which nobody said how many replicas takes the count that the instance has when it begins."""

from __future__ import annotations

import pytest

from shared.domain.deploy_commands import CommandType
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, press_next, revisions, starting, update

BACK = "back"
AUTO = {"mode": "auto"}


def go_back(world: World, *, replicas: int = 10, keeps: bool = True, action: str = "rollback") -> None:
    world.apply(BACK, AUTO, replicas=replicas, action=action, keeps_replicas=keeps)


def test_a_scale_and_a_rollback_during_an_update_are_both_carried_out() -> None:
    world = update(10, canary=1)
    world.apply("scale", AUTO, replicas=14, action="scale_out")
    go_back(world)
    assert {world.flow(name).phase for name in ("scale", BACK)} == {"Success"}
    assert revisions(world) == {BACK: 14}
    assert world.status(BACK)["replicas"] == 14


def test_an_update_that_was_queued_before_somebody_scaled_keeps_the_count() -> None:
    world = update(4, canary=1)
    go_back(world, replicas=4, action="update")
    press_next(world)
    world.scale_to(7)
    press_next(world)
    press_next(world)
    assert (world.flow(NEW).phase, world.flow(BACK).phase) == ("Success", "Success")
    assert revisions(world) == {BACK: 7}


def test_a_count_that_was_said_is_the_count() -> None:
    world = update(10, canary=1)
    world.apply("scale", AUTO, replicas=14, action="scale_out")
    go_back(world, keeps=False)
    assert revisions(world) == {BACK: 10}


def test_a_rollback_of_an_update_to_another_count_goes_to_that_count() -> None:
    world = update(4, wanted=8, batchSize=2, mode="manual")
    assert world.where(NEW) == "BatchFinished 1 Baked"
    go_back(world, replicas=8)
    assert (world.flow(NEW).phase, world.flow(BACK).phase) == ("Aborted", "Success")
    assert revisions(world) == {BACK: 8}


def test_after_a_canceled_scale_it_is_the_count_that_there_is() -> None:
    world = World(4)
    world.containers_start = False
    world.apply("scale", AUTO, replicas=8, action="scale_out")
    go_back(world, replicas=8, action="update")
    world.steer("scale", CommandType.CANCEL)
    world.catch_up()
    assert world.flow(BACK).phase == "Success"
    assert revisions(world) == {BACK: 4}


@pytest.mark.parametrize("place", ["before the first batch", "in a batch", "between batches"])
def test_the_count_survives_the_loss_of_redis(place: str) -> None:
    world = starting(4, mode="manual") if place == "in a batch" else update(4, mode="manual", batchSize=1)
    world.steer(NEW, CommandType.CANCEL)
    world.catch_up()
    world.containers_start = place != "in a batch"
    world.scale(3)
    if place == "before the first batch":
        world.silent.add("observe")
    world.apply(BACK, {"mode": "manual", "batchSize": 2}, replicas=4, keeps_replicas=True)
    world.lose_redis()
    world.wait(60_000)
    world.catch_up()
    for _ in range(5):
        if not world.flow(BACK).phase.finished:
            press_next(world, BACK)
    assert (world.flow(BACK).phase, revisions(world)) == ("Success", {BACK: 7})
