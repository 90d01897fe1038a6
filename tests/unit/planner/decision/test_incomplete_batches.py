"""A batch that is Smoked and loses its pods: it is completed again, or fails by name and in time."""

from __future__ import annotations

from typing import Any

from shared.domain import messages as m
from shared.domain.deployflow import FailureReason
from shared.domain.json_types import Json
from tests.simulation.cluster import HEAD, OLD, SimulatedPod
from tests.simulation.world import World

STARTUP = 100
HOURS = 10 * 3600_000


def _smoked(**strategy: Any) -> World:
    """A canary that has waited for a person for hours."""
    world = World(4)
    world.apply("new", {"mode": "auto", "canary": 1, "startupTimeoutSeconds": STARTUP, **strategy})
    world.wait(HOURS)
    assert world.status("new")["reason"] == "WaitingForNext"
    return world


def _condition(world: World) -> Json:
    condition: Json = world.status("new")["conditions"][0]
    return condition


def _new(world: World) -> list[SimulatedPod]:
    return [pod for pod in world.pods if pod.revision != OLD]


def _lose_canary(world: World) -> None:
    """It goes, and a quota allows no other."""
    world.cluster.most = 4
    world.vanish(*_new(world))


def test_a_batch_that_was_smoked_and_whose_pods_never_come_back_fails_in_time() -> None:
    world = _smoked()
    _lose_canary(world)
    status = world.status("new")
    assert status["reason"] == "PodsNotReady"
    assert status["message"].startswith("0 of 1 pods of batch 1 have their containers ready: it fails at ")
    world.wait(STARTUP * 1000 - 1)
    assert _condition(world)["phase"] == "Smoked"
    world.wait(1)
    assert (_condition(world)["phase"], _condition(world)["reason"]) == (
        "SmokeFailed",
        FailureReason.STARTUP_TIMEOUT,
    )
    assert world.status("new")["message"] == "1 of 1 pods are gone, and no others were made within 100 s"


def test_a_batch_whose_pod_comes_back_waits_for_the_person_again() -> None:
    world = _smoked()
    _lose_canary(world)
    world.wait(STARTUP * 1000 - 1)
    world.cluster.most = None
    world.vanish()
    assert world.status("new")["reason"] == "WaitingForNext"
    world.wait(HOURS)
    assert world.status("new")["reason"] == "WaitingForNext"


def _warn(world: World, text: str, at: int) -> None:
    facts = world.facts.model_copy(update={"warning": text, "warned_at": at})
    world.handle(m.CloneSetSeen(**HEAD, sequence=facts.sequence, cloneset=facts))


def test_what_openkruise_cannot_do_is_named_while_the_batch_waits_and_when_it_fails() -> None:
    world = World(4)
    world.cluster.most = 4
    world.apply("new", {"mode": "auto", "startupTimeoutSeconds": STARTUP})
    _warn(world, "FailedCreate: of an earlier batch", world.flow("new").batches[0].started_at - 1)
    assert world.status("new")["reason"] == ""
    _warn(world, "FailedCreate: exceeded quota: few", world.now)
    status = world.status("new")
    assert status["reason"] == "PodsNotMade"
    assert status["message"].startswith("4 of 4 pods of batch 1 are not made: it fails at ")
    assert status["message"].endswith("; OpenKruise: FailedCreate: exceeded quota: few")
    world.wait(STARTUP * 1000)
    assert _condition(world)["phase"] == "SmokeFailed"
    assert "OpenKruise: FailedCreate: exceeded quota: few" in world.status("new")["message"]


def test_an_event_without_a_warning_ends_the_warning() -> None:
    world = World(4)
    world.cluster.most = 4
    world.apply("new", {"mode": "auto", "startupTimeoutSeconds": STARTUP})
    _warn(world, "FailedCreate: exceeded quota: few", world.now)
    _warn(world, "", world.now)
    assert world.status("new")["reason"] == ""


def test_the_clock_of_an_incomplete_batch_stands_still_while_paused() -> None:
    world = _smoked()
    _lose_canary(world)
    world.change("new", {"paused": True})
    world.wait(HOURS)
    world.change("new", {"paused": False})
    world.wait(STARTUP * 1000 - 1)
    assert _condition(world)["phase"] == "Smoked"
    world.wait(1)
    assert _condition(world)["phase"] == "SmokeFailed"


def test_a_pod_that_starts_again_after_hours_has_its_full_time() -> None:
    """Before, it failed at once: its time was counted from its creation."""
    world = _smoked()
    (canary,) = _new(world)
    canary.containers_ready = False
    world.report_pods()
    world.wait(STARTUP * 1000 - 1)
    assert _condition(world)["phase"] == "Smoked"
    world.start(canary)
    assert world.status("new")["reason"] == "WaitingForNext"


def test_a_tolerated_pod_that_crashes_after_smoke_is_left_behind() -> None:
    """Before, the batch waited for it without a deadline."""
    world = World(4)
    world.apply("new", {"batchSize": 2, "batches": 1, "stage": "Smoked", "failureThreshold": 1})
    assert _condition(world)["phase"] == "Smoked"
    world.crash(_new(world)[0])
    assert _condition(world)["failedReplicas"] == 1
    world.change("new", {"batches": 9, "stage": None, "mode": "auto"})
    world.run_until(lambda: world.status("new")["finished"], 100)
    assert world.status("new")["phase"] == "Success"


def test_a_batch_with_a_tolerated_crash_and_a_pod_that_is_never_made_fails_in_time() -> None:
    world = World(4)
    world.containers_start = False
    world.cluster.most = 6
    world.apply("new", {"batchSize": 3, "startupTimeoutSeconds": STARTUP, "failureThreshold": 1})
    sick, well = _new(world)
    world.start(well)
    world.crash(sick)
    assert _condition(world)["phase"] == "Smoking"
    world.wait(STARTUP * 1000)
    assert (_condition(world)["phase"], _condition(world)["failedReplicas"]) == ("SmokeFailed", 2)
    assert "1 of 3 pods were not made within 100 s" in world.status("new")["message"]


def test_a_cancel_says_what_it_waits_for() -> None:
    world = World(4)
    world.apply("new", {"batchSize": 2, "batches": 1, "stage": "Smoked"})
    world.silent = {"cancel"}
    world.change("new", {"canceled": True})
    world.wait(10_000)
    status = world.status("new")
    assert status["reason"] == "Canceled"
    assert "the executor has not answered cancel" in status["message"]
