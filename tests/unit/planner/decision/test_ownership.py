"""A CloneSet that is not Triton's is left alone; one that loses its label in the middle is waited for."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from shared.domain.deploy_commands import CommandType
from shared.domain.json_types import Json
from tests.simulation.world import World
from tests.unit.planner.releases import message, reason

ACTIONS = ("create", "update", "rollback", "restart", "scale_in", "scale_out", "start", "stop", "delete")
COUNTS = {"scale_in": 2, "scale_out": 6}


def _foreign(world: World) -> None:
    assert world.cluster.body is not None
    world.cluster.labels.clear()
    del world.cluster.body["spec"]["template"]["metadata"]


def _without_status(body: Json | None) -> Json:
    return {key: value for key, value in (body or {}).items() if key != "status"}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("strategy", [{}, {"mode": "auto", "batchSize": 1}], ids=["at once", "in batches"])
def test_no_action_touches_a_cloneset_that_triton_did_not_make(action: str, strategy: Json) -> None:
    world = World(4)
    _foreign(world)
    before = copy.deepcopy(_without_status(world.cluster.body))
    world.apply("new", strategy, action=action, replicas=COUNTS.get(action, 4))
    assert (world.flow("new").phase, reason(world, "new")) == ("Failed", "NotOurs")
    assert "CloneSet default/web was not made by Triton" in message(world, "new")
    assert _without_status(world.cluster.body) == before
    assert (world.cluster.serving(), len(world.pods)) == (4, 4)
    assert world.kinds == ["observe"]


def _waiting_at_smoked(world: World) -> None:
    world.apply("new", {"mode": "auto", "canary": 1, "startupTimeoutSeconds": 30})


def _waiting_at_baking(world: World) -> None:
    world.apply("new", {"mode": "auto", "canary": 1, "pullInTimeoutSeconds": 30})
    world.steer("new", CommandType.NEXT)


def _waiting_between(world: World) -> None:
    _waiting_at_baking(world)
    world.steer("new", CommandType.NEXT)


def _baking(world: World) -> None:
    world.apply("new", {"mode": "auto", "batchSize": 2, "bakeSeconds": 20})


def _smoking(world: World) -> None:
    world.containers_start = False
    world.apply("new", {"mode": "auto", "batchSize": 2, "startupTimeoutSeconds": 30})


def _retiring(world: World) -> None:
    world.silent = {"retire"}
    world.apply("new", {"mode": "manual", "batchSize": 2})


def _paused(world: World) -> None:
    _smoking(world)
    world.change("new", {"paused": True})


STEPS: dict[str, Callable[[World], None]] = {
    "waiting at Smoked": _waiting_at_smoked,
    "waiting at Baking": _waiting_at_baking,
    "waiting for the second batch": _waiting_between,
    "baking": _baking,
    "smoking": _smoking,
    "retiring": _retiring,
    "paused": _paused,
}


@pytest.fixture(params=list(STEPS))
def world(request: pytest.FixtureRequest) -> World:
    world = World(4)
    STEPS[request.param](world)
    return world


def test_a_label_taken_off_is_named_and_the_release_ends_well_once_it_is_back(world: World) -> None:
    world.take_label()
    world.wait(15_000)
    assert reason(world, "new") == "LabelsMissing"
    assert "kubectl -n default label cloneset web managed-by=triton-io" in message(world, "new")
    world.wait(600_000)
    assert reason(world, "new") == "LabelsMissing"
    written = world.facts.generation
    world.put_label_back()
    assert reason(world, "new") != "LabelsMissing", "healed at once, not at the next attempt"
    assert not world.flow("new").failed, "what nobody could do fails nothing"
    assert world.facts.generation >= written
    world.catch_up()
    if world.flow("new").strategy.paused:
        world.steer("new", CommandType.RESUME)
    if not world.flow("new").phase.finished:
        world.steer("new", CommandType.PROMOTE)
    world.run_until(lambda: world.flow("new").phase.finished)
    assert (world.flow("new").phase, world.cluster.serving()) == ("Success", 4)
    assert {pod.revision for pod in world.pods} == {"new"}


def test_without_its_label_nothing_is_written(world: World) -> None:
    world.take_label()
    before = copy.deepcopy(_without_status(world.cluster.body))
    world.steer("new", CommandType.PROMOTE)
    world.catch_up()
    world.wait(600_000)
    assert _without_status(world.cluster.body) == before


def test_a_cancel_gets_through_without_the_label(world: World) -> None:
    world.take_label()
    world.wait(15_000)
    world.steer("new", CommandType.CANCEL)
    for _ in range(120):
        world.wait(1000)
    assert world.flow("new").phase == "Canceled"
    assert "has lost its label managed-by=triton-io" in message(world, "new")
    assert world.cluster.serving() >= 4


def test_a_release_begins_on_no_cloneset_that_has_lost_its_label() -> None:
    world = World(4)
    world.apply("first", {"mode": "auto"})
    world.cluster.labels.pop("managed-by")
    world.apply("second", {"mode": "auto"})
    assert (world.flow("second").phase, reason(world, "second")) == ("Failed", "LabelsMissing")
    world.put_label_back()
    world.apply("third", {"mode": "auto"})
    assert world.where("third") == "Success 1 Baked"


def test_a_failed_batch_keeps_its_words_for_when_the_label_is_back() -> None:
    world = World(4)
    _waiting_at_smoked(world)
    world.fail()
    failure = message(world, "new")
    assert reason(world, "new") == "SmokeFailed"
    world.take_label()
    assert reason(world, "new") == "LabelsMissing"
    world.wait(120_000)
    world.put_label_back()
    assert (reason(world, "new"), message(world, "new")) == ("SmokeFailed", failure)


@pytest.mark.parametrize("ends", ["Success", "Canceled"])
def test_a_release_of_which_only_the_last_write_is_left_waits_for_the_label_too(ends: str) -> None:
    world = World(4)
    world.silent = {"finish"}
    world.apply("new", {"mode": "auto"})
    world.take_label()
    world.catch_up()
    assert reason(world, "new") == "LabelsMissing"
    if ends == "Success":
        world.put_label_back()
    else:
        world.steer("new", CommandType.CANCEL)
        world.wait(15_000)
    assert (world.flow("new").phase, world.cluster.serving()) == (ends, 4)
