"""What another replica of readiness says of a pod's past, when its present is known already."""

from __future__ import annotations

import pytest

from shared.domain import messages as m
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
