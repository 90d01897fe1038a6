"""After a create that was canceled: nothing makes pods of its template before a release was successful."""

from __future__ import annotations

import pytest

from shared.domain.deploy_commands import CommandType
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, create, message, press_next, reason, revisions

RUN = "run"


def canceled_create(*, baked: bool = False) -> World:
    world = create(5, canary=1)
    if baked:
        press_next(world)
        assert press_next(world) == "BatchFinished 1 Baked"
    world.steer(NEW, CommandType.CANCEL)
    assert world.flow(NEW).phase == "Canceled"
    return world


@pytest.mark.parametrize("action", ["scale_out", "start", "restart"])
@pytest.mark.parametrize("baked", [False, True], ids=["never baked", "a batch baked"])
def test_no_pod_is_made_of_a_template_that_was_never_good(action: str, baked: bool) -> None:
    world = canceled_create(baked=baked)
    before = revisions(world)
    world.apply(RUN, {"mode": "auto"}, replicas=5, action=action)
    assert (world.where(RUN), reason(world, RUN)) == ("Failed", "NoGoodTemplate")
    assert "Make an update" in message(world, RUN)
    assert revisions(world) == before


def test_what_was_queued_behind_the_create_is_refused_too() -> None:
    world = create(5, canary=1)
    world.apply(RUN, {"mode": "auto"}, replicas=7, action="scale_out")
    assert world.where(RUN) == "Pending"
    world.steer(NEW, CommandType.CANCEL)
    assert (world.where(RUN), reason(world, RUN)) == ("Failed", "NoGoodTemplate")
    assert revisions(world) == {}


def test_the_planner_knows_it_without_redis() -> None:
    world = canceled_create()
    world.lose_redis({})
    world.apply(RUN, {"mode": "auto"}, replicas=5, action="scale_out")
    assert (world.where(RUN), reason(world, RUN)) == ("Failed", "NoGoodTemplate")


@pytest.mark.parametrize("action", ["stop", "scale_in"])
def test_what_makes_no_pods_is_carried_out(action: str) -> None:
    world = canceled_create(baked=True)
    world.apply(RUN, {"mode": "auto"}, replicas=0, action=action)
    assert world.flow(RUN).phase == "Success"
    assert revisions(world) == {}


def test_a_delete_and_a_create_begin_from_the_start() -> None:
    world = canceled_create(baked=True)
    world.apply(RUN, {"mode": "auto"}, action="delete")
    world.apply("again", {"mode": "auto"}, replicas=3, action="create")
    assert world.flow("again").phase == "Success"
    world.apply("more", {"mode": "auto"}, replicas=4, action="scale_out")
    assert (world.flow("more").phase, revisions(world)) == ("Success", {"again": 4})


def test_an_update_acts_as_the_first_create() -> None:
    world = canceled_create()
    world.apply("second", {"mode": "auto", "canary": 1}, replicas=5)
    assert world.where("second") == "BatchStarted 1 Smoked"
    press_next(world, "second")
    press_next(world, "second")
    press_next(world, "second")
    assert (world.flow("second").phase, revisions(world)) == ("Success", {"second": 5})
    world.apply(RUN, {"mode": "auto"}, replicas=7, action="scale_out")
    assert (world.flow(RUN).phase, revisions(world)) == ("Success", {"second": 7})


@pytest.mark.parametrize("baked", [False, True], ids=["never baked", "a batch baked"])
def test_an_update_that_is_canceled_too_makes_nothing_good(baked: bool) -> None:
    world = canceled_create()
    world.apply("second", {"mode": "auto", "canary": 1}, replicas=5)
    if baked:
        press_next(world, "second")
        press_next(world, "second")
    world.steer("second", CommandType.CANCEL)
    before = revisions(world)
    world.apply(RUN, {"mode": "auto"}, replicas=5, action="scale_out")
    assert (world.where(RUN), reason(world, RUN)) == ("Failed", "NoGoodTemplate")
    assert revisions(world) == before


def test_a_create_over_a_good_instance_that_is_canceled_leaves_it_good() -> None:
    world = World(2)
    world.apply(NEW, {"mode": "auto", "canary": 1}, action="create", replicas=2)
    world.steer(NEW, CommandType.CANCEL)
    world.apply(RUN, {"mode": "auto"}, replicas=4, action="scale_out")
    assert (world.flow(RUN).phase, revisions(world)) == ("Success", {"old": 4})


def test_a_canceled_update_of_a_stopped_instance_brings_the_good_template_back() -> None:
    world = World(3)
    world.apply("stop", {"mode": "auto"}, action="stop")
    world.apply(NEW, {"mode": "auto", "canary": 1}, replicas=3)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    world.steer(NEW, CommandType.CANCEL)
    assert revisions(world) == {}
    world.apply("start", {"mode": "auto"}, replicas=3, action="start")
    assert (world.flow("start").phase, revisions(world)) == ("Success", {"old": 3})
