"""Several releases of one instance: one at a time, the others wait where everybody can see it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.deploy_commands import CommandType
from shared.domain.messages import FlowRef
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, message, opening, press_next, reason, revisions, starting, update

AUTO = {"mode": "auto", "batchSize": 2}


def test_a_second_release_waits_and_says_behind_which() -> None:
    world = update(4, canary=1)
    world.apply("second", AUTO)
    assert world.where("second") == "Pending"
    assert reason(world, "second") == "WaitingItsTurn"
    assert message(world, "second") == "waits until new is finished: one release at a time per instance"
    assert world.where(NEW) == "BatchStarted 1 Smoked", "the first is not disturbed"


def test_the_second_begins_when_the_first_is_over() -> None:
    world = update(4, batchSize=2, mode="manual")
    world.apply("second", AUTO)
    assert press_next(world) == "Success 2 Baked"
    assert world.where("second") == "Success 2 Baked"
    assert revisions(world) == {"second": 4}


def test_the_second_begins_when_the_first_is_canceled() -> None:
    world = update(4, canary=1)
    world.apply("second", AUTO)
    world.steer(NEW, CommandType.CANCEL)
    assert world.where(NEW) == "Canceled 1 Smoked"
    assert world.where("second") == "Success 2 Baked"


def test_a_third_takes_the_place_of_a_second_that_waits() -> None:
    world = update(4, canary=1)
    world.apply("second", AUTO)
    world.apply("third", AUTO)
    assert world.where("second") == "Aborted"
    assert (reason(world, "second"), message(world, "second")) == ("Replaced", "third takes its place")
    assert world.where("third") == "Pending"
    world.steer(NEW, CommandType.CANCEL)
    assert revisions(world) == {"third": 4}


def test_a_waiting_release_can_be_canceled_before_its_turn() -> None:
    world = update(4, canary=1)
    world.apply("second", AUTO)
    world.steer("second", CommandType.CANCEL)
    assert (world.where("second"), message(world, "second")) == ("Canceled", "canceled before it began")
    assert world.where(NEW) == "BatchStarted 1 Smoked"


def test_a_waiting_release_that_is_deleted_is_canceled() -> None:
    world = update(4, canary=1)
    world.apply("second", AUTO)
    world.delete("second")
    assert world.where("second") == "Canceled"


def test_what_is_changed_while_it_waits_counts_when_its_turn_comes() -> None:
    world = update(4, canary=1)
    world.apply("second", AUTO)
    world.change("second", {"batchSize": 1, "mode": "manual"})
    world.steer(NEW, CommandType.CANCEL)
    assert world.where("second") == "BatchFinished 1 Baked"
    assert revisions(world) == {"old": 3, "second": 1}


def test_a_release_takes_over_a_paused_one() -> None:
    world = starting(4)
    world.steer(NEW, CommandType.PAUSE)
    world.containers_start = True
    world.apply("second", AUTO)
    assert world.where(NEW) == "Aborted 1 Smoking"
    assert message(world).startswith("another release took over")
    assert world.where("second") == "Success 2 Baked"
    assert revisions(world) == {"second": 4}


@pytest.mark.parametrize(("begun", "failed"), [(starting, "SmokeFailed"), (opening, "BakeFailed")])
def test_a_release_takes_over_a_failed_one(begun: Any, failed: str) -> None:
    world: World = begun(4)
    world.fail()
    world.containers_start = world.gates_move = True
    world.apply("second", AUTO)
    assert world.where(NEW) == f"Aborted 1 {failed}"
    assert "pods of batch 1 failed" in message(world), "why it failed is still said"
    assert world.where("second") == "Success 2 Baked"
    assert revisions(world) == {"second": 4}


def test_pausing_a_release_behind_which_another_waits_lets_that_one_take_over() -> None:
    world = update(4, canary=1)
    world.apply("second", AUTO)
    world.steer(NEW, CommandType.PAUSE)
    assert world.where(NEW) == "Aborted 1 Smoked"
    assert world.where("second") == "Success 2 Baked"


def test_baked_pods_of_a_release_that_was_taken_over_serve_until_they_are_replaced() -> None:
    world = update(4, batchSize=2, mode="manual")
    world.steer(NEW, CommandType.PAUSE)
    lowest = 4
    world.after_each = lambda: _at_least(lowest, world.cluster.serving())
    world.apply("second", AUTO)
    assert world.where(NEW) == "Aborted 1 Baked"
    assert world.where("second") == "Success 2 Baked"
    assert revisions(world) == {"second": 4}


def _at_least(wanted: int, there: int) -> None:
    assert there >= wanted


def test_a_release_that_was_taken_over_does_not_come_back() -> None:
    world = starting(4)
    world.steer(NEW, CommandType.PAUSE)
    world.containers_start = True
    world.apply("second", {"mode": "manual", "batchSize": 2})
    world.change(NEW, {"paused": False})
    assert world.where(NEW) == "Aborted 1 Smoking"
    assert world.where("second") == "BatchFinished 1 Baked"


def test_the_newer_of_two_waits_in_whatever_order_they_are_seen() -> None:
    world = update(4, canary=1)
    newer = world.observed(NEW).model_copy(update={"flow": FlowRef(name="newer", uid="uid-newer")})
    world.handle(newer.model_copy(update={"created_at": world.now + 2}))
    older = world.observed(NEW).model_copy(update={"flow": FlowRef(name="older", uid="uid-older")})
    world.handle(older.model_copy(update={"created_at": world.now + 1}))
    assert [flow.name for flow in world.instance.waiting] == ["newer"]
    assert [(flow.name, flow.phase) for flow in world.instance.finished] == [("older", "Aborted")]


def test_a_release_whose_end_is_written_is_forgotten() -> None:
    world = update(4)
    assert [flow.name for flow in world.instance.finished] == [NEW]
    world.handle(world.observed(NEW, {"finished": True}))
    assert world.instance.finished == ()


def test_a_release_that_is_over_is_not_taken_for_a_new_one() -> None:
    world = update(4)
    world.handle(world.observed(NEW, {"finished": True}))
    issued = len(world.commands)
    world.handle(world.observed(NEW, {"finished": True}))
    assert world.commands[issued:] == []
    assert world.instance.waiting == ()
