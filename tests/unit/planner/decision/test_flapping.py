"""Pods that become Ready and not Ready in turn: the batch is neither baked nor waits for ever."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.deployflow import FailureReason
from tests.simulation.cluster import OLD, SimulatedPod
from tests.simulation.world import World

BAKE, PULL_IN = 60, 20
LIMIT = 2 * BAKE + PULL_IN


def _baking(replicas: int = 3, **strategy: Any) -> World:
    world = World(replicas)
    fields = {"mode": "auto", "bakeSeconds": BAKE, "pullInTimeoutSeconds": PULL_IN, **strategy}
    world.apply("new", fields)
    assert world.status("new")["conditions"][0]["phase"] == "Baking"
    return world


def _new(world: World) -> list[SimulatedPod]:
    return [pod for pod in world.pods if pod.revision != OLD]


def _flap(world: World, pod: SimulatedPod, *, ready_ms: int = 29_000) -> None:
    """Lose Ready for a second, then have it for a while."""
    pod.containers_ready = False
    world.report_pods()
    world.wait(1000)
    world.start(pod)
    world.wait(ready_ms)


def _flap_for(world: World, pod: SimulatedPod, seconds: int) -> None:
    for _ in range(seconds // 30):
        _flap(world, pod)


def test_a_batch_whose_pods_keep_losing_ready_fails_by_name_and_loses_its_traffic() -> None:
    world = _baking(batchSize=2)
    sick, well = _new(world)
    _flap_for(world, sick, LIMIT - 20)
    assert world.status("new")["conditions"][0]["phase"] == "Baking"
    _flap_for(world, sick, 30)
    status = world.status("new")
    condition = status["conditions"][0]
    assert (condition["phase"], condition["reason"], status["reason"]) == (
        "BakeFailed",
        FailureReason.FLAPPING,
        "BakeFailed",
    )
    assert condition["failedReplicas"] == 1
    assert condition["message"] == (
        f"not Ready for {BAKE} s at a stretch within {LIMIT} s: "
        f"1 of 2 pods of batch 1 failed: {sick.name} (lost Ready 5 times)"
    )
    assert (sick.open, well.open) == (False, True)


def test_a_batch_that_settles_in_time_is_baked() -> None:
    world = _baking()
    _flap_for(world, _new(world)[0], 60)
    world.wait(BAKE * 1000)
    world.run_until(lambda: world.status("new")["finished"], 300)
    assert world.status("new")["phase"] == "Success"


def test_waiting_for_a_person_does_not_count() -> None:
    world = _baking(canary=1, batches=1, stage="Baking")
    (canary,) = _new(world)
    world.wait(3600_000)
    assert world.status("new")["reason"] == "WaitingForNext"
    _flap(world, canary)
    assert world.status("new")["conditions"][0]["phase"] == "Baking"
    _flap_for(world, canary, LIMIT)
    assert world.status("new")["conditions"][0]["reason"] == FailureReason.FLAPPING


def test_a_pause_does_not_count() -> None:
    world = _baking()
    _flap_for(world, _new(world)[0], LIMIT - 20)
    world.change("new", {"paused": True})
    _flap_for(world, _new(world)[0], LIMIT)
    assert world.status("new")["reason"] == "Paused"
    world.change("new", {"paused": False})
    assert world.status("new")["conditions"][0]["phase"] == "Baking"
    world.wait(BAKE * 1000)
    assert world.status("new")["conditions"][0]["phase"] == "Baked"


def test_tolerated_pods_that_keep_losing_ready_are_left_behind() -> None:
    world = _baking(batchSize=3, failureThreshold=1)
    sick = _new(world)[0]
    _flap_for(world, sick, LIMIT + 10)
    assert world.status("new")["conditions"][0]["failedReplicas"] == 1
    assert not sick.open
    world.run_until(lambda: world.status("new")["finished"], 600)
    assert world.status("new")["phase"] == "Success"


def test_retry_begins_with_its_full_time() -> None:
    world = _baking()
    sick = _new(world)[0]
    _flap_for(world, sick, LIMIT + 10)
    assert world.status("new")["paused"]
    world.change("new", {"retries": 1})
    world.run_until(lambda: world.status("new")["finished"], 600)
    assert world.status("new")["phase"] == "Success"


@pytest.mark.parametrize("lost", [1, 2])
def test_pods_that_vanish_again_and_again_are_bounded_too(lost: int) -> None:
    world = _baking(batchSize=2)
    for _ in range(LIMIT // 30 + 1):
        world.vanish(*_new(world)[:lost])
        world.wait(30_000)
    condition = world.status("new")["conditions"][0]
    assert (condition["phase"], condition["reason"]) == ("BakeFailed", FailureReason.FLAPPING)
    assert condition["message"] == f"batch 1 was not Ready for {BAKE} s at a stretch within {LIMIT} s"
