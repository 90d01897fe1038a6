"""What arrives late: a pod's past from another replica of readiness, an answer behind what the watch has reported."""

from __future__ import annotations

import pytest

from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from shared.domain.deployflow import PodPhase
from tests.simulation.cluster import HEAD
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, press_next, update


def _report(world: World, fact: m.PodFact) -> None:
    world.handle(m.PodsSeen(**HEAD, pods=[fact], at=world.now))


@pytest.mark.parametrize(("version", "believed"), [(8, False), (9, True), (10, True), (0, True)])
def test_only_what_is_no_older_than_what_is_known_is_believed(version: int, believed: bool) -> None:
    world = update(2, canary=1)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    (pod,) = world.cluster.of(NEW)
    _report(world, pod.fact().model_copy(update={"version": 9}))
    past = {"phase": PodPhase.PENDING, "containers_ready": False, "version": version}
    _report(world, pod.fact().model_copy(update=past))
    assert world.instance.pods[pod.uid].containers_ready is not believed


def test_a_canary_continues_though_its_past_was_reported_last() -> None:
    world = update(2, canary=1)
    (pod,) = world.cluster.of(NEW)
    now = pod.fact().model_copy(update={"version": 9})
    _report(world, now)
    _report(
        world, now.model_copy(update={"phase": PodPhase.PENDING, "containers_ready": False, "version": 8})
    )
    assert press_next(world) == "BatchStarted 1 Baking"


@pytest.mark.parametrize("action", ["update", "restart", "scale_out", "scale_in"])
def test_a_release_whose_answers_arrive_behind_the_watch_ends_well(action: str) -> None:
    world = World(4)
    world.watch_first = True
    world.apply(
        NEW, {"mode": "auto", "batchSize": 2}, action=action, replicas=2 if action == "scale_in" else 6
    )
    assert world.flow(NEW).phase == "Success"


def test_a_create_whose_answers_arrive_behind_the_watch_ends_well() -> None:
    world = World(None)
    world.watch_first = True
    world.apply(NEW, {"mode": "auto"}, action="create", replicas=2)
    assert world.flow(NEW).phase == "Success"


def test_a_cancel_whose_answer_arrives_behind_the_watch_gives_the_strategy_back() -> None:
    world = update(4, canary=1)
    world.watch_first = True
    world.steer(NEW, CommandType.CANCEL)
    assert (world.flow(NEW).phase, world.kinds[-1]) == ("Canceled", "finish")
