"""What people do with a release on its way: pause, resume, next, continue, cancel, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType, Refusal, Target
from shared.domain.deployflow import BatchPhase
from shared.domain.topics import BATCH_RESULTS, PLANNER_FACTS
from tests.simulation.surroundings import Surroundings
from tests.simulation.world import World
from tests.unit.planner.releases import (
    NEW,
    batch,
    last,
    message,
    opening,
    press_next,
    reason,
    revisions,
    sizes,
    starting,
    update,
    without_answer,
)

# --- pause and resume ------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where a release of four pods stands, and the old and new pods that keep serving when it is canceled."""

    says: str
    build: Callable[[], World]
    where: str
    after_cancel: dict[str, int]


def _smoking() -> World:
    return starting(4)


def _canary(**strategy: Any) -> Callable[[], World]:
    return lambda: update(4, batchSize=2, canary=1, **strategy)


PLACES = [
    Place(
        "before it has seen what there is",
        lambda: without_answer("observe", 4),
        "Initializing",
        {"old": 4},
    ),
    Place("while containers start", _smoking, "BatchStarted 1 Smoking", {"old": 4}),
    Place("while its canary waits without traffic", _canary(), "BatchStarted 1 Smoked", {"old": 4}),
    Place("while gates open", lambda: opening(4), "BatchStarted 1 Baking", {"old": 4}),
    Place(
        "while its canary waits with traffic",
        _canary(stage="Baking"),
        "BatchStarted 1 Baking",
        {"old": 4},
    ),
    Place(
        "while it bakes",
        lambda: update(4, batchSize=2, bakeSeconds=30),
        "BatchStarted 1 Baking",
        {"old": 4},
    ),
    Place(
        "while old pods wait out of traffic",
        lambda: update(4, batchSize=2, pullOutSeconds=30),
        "BatchStarted 1 Baked",
        {"old": 2, NEW: 2},
    ),
    Place(
        "while old pods go",
        lambda: without_answer("retire", 4, mode="manual"),
        "BatchStarted 1 Baked",
        {"old": 2, NEW: 2},
    ),
    Place(
        "between two batches",
        lambda: update(4, batchSize=2, mode="manual"),
        "BatchFinished 1 Baked",
        {"old": 2, NEW: 2},
    ),
    Place(
        "in the interval",
        lambda: update(4, batchSize=2, batchIntervalSeconds=30),
        "BatchFinished 1 Baked",
        {"old": 2, NEW: 2},
    ),
]
everywhere = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.says.replace(" ", "-"))


@everywhere
def test_a_paused_release_makes_no_pod_opens_no_gate_and_deletes_nothing(place: Place) -> None:
    world = place.build()
    assert world.where(NEW) == place.where
    world.steer(NEW, CommandType.PAUSE)
    issued = len(world.commands)
    before = revisions(world)
    world.catch_up()
    for _ in range(50):
        world.wait(60_000)
    moved = set(world.kinds[issued:]) - {"observe", "halt"}
    assert moved <= {"retire"}, "only what was under way is requested again"
    assert sum(revisions(world).values()) >= 4
    assert sum(revisions(world).values()) <= sum(before.values())
    assert reason(world) == "Paused"
    assert world.status(NEW)["paused"] is True


@everywhere
def test_a_paused_release_goes_on_to_its_end_once_it_is_resumed(place: Place) -> None:
    world = place.build()
    world.steer(NEW, CommandType.PAUSE)
    for _ in range(20):
        world.wait(600_000)
    world.steer(NEW, CommandType.CONTINUE, target=Target(batches=9))
    world.steer(NEW, CommandType.RESUME)
    world.catch_up()
    world.run_until(lambda: world.flow(NEW).phase.finished)
    assert world.where(NEW).startswith("Success")
    assert revisions(world) == {NEW: 4}
    assert world.cluster.serving() == 4


@everywhere
def test_a_canceled_release_leaves_the_wanted_number_of_pods_serving(place: Place) -> None:
    world = place.build()
    serving = world.cluster.serving
    world.after_each = lambda: _at_least(4, serving())
    world.steer(NEW, CommandType.CANCEL)
    world.catch_up()
    world.wait(1000)
    assert world.where(NEW).startswith("Canceled")
    assert revisions(world) == place.after_cancel
    assert serving() == 4


def _at_least(wanted: int, there: int) -> None:
    assert there >= wanted


@everywhere
def test_a_deleted_release_is_canceled_first(place: Place) -> None:
    world = place.build()
    world.delete(NEW)
    world.catch_up()
    assert world.where(NEW).startswith("Canceled")
    assert revisions(world) == place.after_cancel


def test_a_pause_while_containers_start_stops_the_cloneset() -> None:
    world = starting(4)
    world.steer(NEW, CommandType.PAUSE)
    assert world.kinds[-1] == "halt"
    world.steer(NEW, CommandType.RESUME)
    assert world.kinds[-1] == "surge"
    world.catch_up()
    assert world.where(NEW) == "Success 2 Baked"


def test_a_release_that_is_born_paused_waits_before_its_first_batch() -> None:
    world = update(4, batchSize=2, paused=True)
    assert world.where(NEW) == "Initializing"
    assert (reason(world), world.status(NEW)["batches"]) == ("Paused", 2)
    world.steer(NEW, CommandType.RESUME)
    assert world.where(NEW) == "Success 2 Baked"


def test_the_startup_time_begins_again_with_resume() -> None:
    world = starting(4, startupTimeoutSeconds=100)
    world.wait(90_000)
    world.steer(NEW, CommandType.PAUSE)
    world.wait(600_000)
    world.steer(NEW, CommandType.RESUME)
    world.wait(99_999)
    assert world.where(NEW) == "BatchStarted 1 Smoking"
    world.wait(1)
    assert world.where(NEW) == "BatchStarted 1 SmokeFailed"


def test_pods_that_became_ready_during_a_pause_are_pulled_in_after_it() -> None:
    world = starting(4)
    world.steer(NEW, CommandType.PAUSE)
    world.start(*world.cluster.of(NEW))
    assert "pull_in" not in world.kinds
    world.steer(NEW, CommandType.RESUME)
    assert "pull_in" in world.kinds


def test_a_pause_does_not_stop_the_bake_but_what_follows_it() -> None:
    world = update(4, batchSize=2, bakeSeconds=30)
    world.steer(NEW, CommandType.PAUSE)
    world.wait(60_000)
    assert world.where(NEW) == "BatchStarted 1 Baking"
    world.steer(NEW, CommandType.RESUME)
    assert batch(world).number == 2


# --- next and continue -----------------------------------------------------------------------------------


def test_next_pressed_twice_at_the_same_place_advances_once() -> None:
    world = update(6, batchSize=2, mode="manual")
    world.steer(NEW, CommandType.NEXT, batch=1, stage=BatchPhase.BAKED)
    assert world.where(NEW) == "BatchFinished 2 Baked"
    world.steer(NEW, CommandType.NEXT, batch=1, stage=BatchPhase.BAKED)
    assert world.where(NEW) == "BatchFinished 2 Baked"


def test_next_is_refused_while_the_release_goes_by_itself() -> None:
    world = starting(4)
    with pytest.raises(Refusal, match="continues without approval") as refusal:
        press_next(world)
    assert refusal.value.reason == "NotWaiting"


def test_next_is_refused_for_a_failed_batch() -> None:
    world = starting(4)
    world.fail()
    with pytest.raises(Refusal, match="retry, roll back or cancel") as refusal:
        press_next(world)
    assert refusal.value.reason == "BatchFailed"


def test_next_ends_no_interval() -> None:
    world = update(6, batchSize=2, batchIntervalSeconds=60)
    assert press_next(world) == "BatchFinished 1 Baked"
    world.wait(60_000)
    assert world.where(NEW) == "BatchFinished 2 Baked"


def test_continue_goes_on_without_stopping_as_far_as_it_says() -> None:
    world = update(10, batchSize=2, mode="manual")
    world.steer(NEW, CommandType.CONTINUE, target=Target(batches=4))
    assert world.where(NEW) == "BatchFinished 4 Baked"


def test_continue_lets_a_canary_pass_without_a_stop() -> None:
    world = update(4, batchSize=2, canary=1)
    world.steer(NEW, CommandType.CONTINUE, target=Target(batches=3))
    assert world.where(NEW) == "Success 3 Baked"


@pytest.mark.parametrize(
    ("stage", "where"),
    [
        (BatchPhase.SMOKED, "BatchStarted 2 Smoked"),
        (BatchPhase.BAKING, "BatchStarted 2 Baking"),
        (BatchPhase.BAKED, "BatchFinished 2 Baked"),
    ],
)
def test_continue_to_a_stage_stops_a_batch_there(stage: BatchPhase, where: str) -> None:
    world = update(6, batchSize=2, mode="manual")
    world.steer(NEW, CommandType.CONTINUE, target=Target(batches=2, stage=stage))
    assert world.where(NEW) == where
    while world.where(NEW) != "BatchFinished 2 Baked":
        press_next(world)
    assert press_next(world) == "Success 3 Baked"


def test_the_go_ahead_never_goes_back() -> None:
    world = update(10, batchSize=2, mode="manual")
    world.steer(NEW, CommandType.CONTINUE, target=Target(batches=3))
    world.steer(NEW, CommandType.CONTINUE, target=Target(batches=2))
    assert world.spec_fields(NEW)["batches"] == 3


def test_a_go_ahead_lowered_by_hand_takes_nothing_back() -> None:
    world = update(6, batchSize=2, mode="manual", batches=2)
    assert world.where(NEW) == "BatchFinished 2 Baked"
    world.change(NEW, {"batches": 1})
    assert world.where(NEW) == "BatchFinished 2 Baked"
    assert revisions(world) == {"old": 2, NEW: 4}


def test_a_release_in_manual_mode_set_to_auto_goes_on_by_itself() -> None:
    world = update(6, batchSize=2, mode="manual")
    world.change(NEW, {"mode": "auto"})
    assert world.where(NEW) == "Success 3 Baked"


# --- cancel ----------------------------------------------------------------------------------------------


def test_a_pause_that_comes_before_the_surge_is_answered_still_knows_the_pods_of_its_batch() -> None:
    world = World(4)
    world.silent = {"surge", "halt"}
    world.apply(NEW, {"mode": "auto", "batchSize": 2})
    world.steer(NEW, CommandType.PAUSE)
    world.catch_up()
    assert len(world.status(NEW)["conditions"][0]["pods"]) == 2
    world.crash(world.cluster.of(NEW)[0])
    assert world.where(NEW) == "BatchStarted 1 SmokeFailed"


def test_a_cancel_that_comes_before_the_surge_is_answered_takes_its_pods_and_no_sick_old_one() -> None:
    around = Surroundings(3)
    name = around.apply({"mode": "auto", "batchSize": 1}, 3, "restart")
    around.takes(PLANNER_FACTS)
    around.executor_works()
    around.takes(BATCH_RESULTS)
    around.executor_works()
    around.kruise_works()
    sick, *_, fresh = around.cluster.live
    around.start(fresh)
    around.crash(sick)
    around.change(name, {"canceled": True})
    around.takes(PLANNER_FACTS)
    around.settles()
    assert around.written[name]["phase"] == "Canceled"
    (ended,) = [command for command in around.commands if isinstance(command, m.Cancel)]
    assert ended.drop == [fresh.uid]
    assert {pod.name for pod in around.cluster.live} == {"old-0", "old-1", "old-2"}


def test_cancel_is_one_write() -> None:
    world = starting(4)
    made = [pod.uid for pod in world.cluster.of(NEW)]
    issued = len(world.commands)
    world.steer(NEW, CommandType.CANCEL)
    assert world.kinds[issued:] == ["cancel", "finish"]
    command = last(world, m.Cancel)
    assert (command.keep, command.baked, sorted(command.drop)) == (4, 0, sorted(made))
    assert command.restore_template


def test_a_canceled_release_brings_the_last_good_template_back() -> None:
    world = starting(4)
    assert world.facts.update_revision == NEW
    world.steer(NEW, CommandType.CANCEL)
    assert world.facts.update_revision == "old"


def test_baked_pods_of_a_canceled_release_stay_and_its_message_names_them() -> None:
    world = update(4, batchSize=2, mode="manual")
    world.steer(NEW, CommandType.CANCEL)
    assert revisions(world) == {"old": 2, NEW: 2}
    assert "2 pods of new keep serving: new-101, new-102" in message(world)
    assert "finish" not in world.kinds, "with pods of two revisions the owner's strategy would update them"


def test_a_canceled_create_leaves_no_pod_that_was_not_baked() -> None:
    world = World(None)
    world.containers_start = False
    world.apply(NEW, {"mode": "auto", "batchSize": 2}, replicas=4, action="create")
    world.steer(NEW, CommandType.CANCEL)
    assert world.where(NEW) == "Canceled 1 Smoking"
    assert revisions(world) == {}


def test_a_canceled_create_keeps_its_baked_pods_and_the_new_template() -> None:
    world = World(None)
    world.apply(NEW, {"mode": "manual", "batchSize": 2}, replicas=4, action="create")
    world.steer(NEW, CommandType.CANCEL)
    assert world.where(NEW) == "Canceled 1 Baked"
    assert revisions(world) == {NEW: 2}
    assert world.facts.update_revision == NEW


def test_what_is_canceled_before_it_began_changes_nothing() -> None:
    world = update(4, batchSize=2, canceled=True)
    assert world.where(NEW) == "Canceled"
    assert world.commands == []
    assert revisions(world) == {"old": 4}


def test_a_finished_release_is_no_more_to_be_steered() -> None:
    world = update(4)
    for kind in (CommandType.NEXT, CommandType.PAUSE, CommandType.RESUME, CommandType.CANCEL):
        with pytest.raises(Refusal, match="has finished") as refusal:
            world.steer(NEW, kind)
        assert refusal.value.reason == "Finished"


def test_after_a_cancel_the_next_release_replaces_the_pods_of_both() -> None:
    world = update(4, batchSize=2, mode="manual")
    world.steer(NEW, CommandType.CANCEL)
    world.apply("next", {"mode": "auto", "batchSize": 2})
    assert world.where("next") == "Success 2 Baked"
    assert revisions(world) == {"next": 4}


def test_the_canceled_release_applied_once_more_does_only_what_is_left() -> None:
    world = update(4, batchSize=2, mode="manual")
    world.steer(NEW, CommandType.CANCEL)
    world.apply("once-more", {"mode": "auto", "batchSize": 2}, revision=NEW)
    assert world.where("once-more") == "Success 1 Baked"
    assert sizes(world, "once-more") == [2]
    assert revisions(world) == {NEW: 4}


def test_the_message_of_a_cancel_names_only_the_pods_that_stay() -> None:
    world = update(6, batchSize=2, mode="manual")
    world.change(NEW, {"bakeSeconds": 60})
    press_next(world)
    assert world.where(NEW) == "BatchStarted 2 Baking"
    world.steer(NEW, CommandType.CANCEL)
    assert message(world).endswith("2 pods of new keep serving: new-101, new-102")
    assert revisions(world) == {"old": 4, NEW: 2}


def test_a_batch_baked_while_paused_replaces_its_old_pods_also_when_it_is_canceled() -> None:
    world = update(4, batchSize=2, bakeSeconds=5, pullOutSeconds=30)
    world.wait(5_000)
    assert world.where(NEW) == "BatchStarted 1 Baked"
    world.steer(NEW, CommandType.PAUSE)
    world.steer(NEW, CommandType.CANCEL)
    assert revisions(world) == {"old": 2, NEW: 2}
    assert world.cluster.serving() == 4


def test_a_release_canceled_on_pods_of_two_revisions_leaves_them_alone() -> None:
    world = update(4, batchSize=2, mode="manual")
    world.steer(NEW, CommandType.CANCEL)
    world.apply("next", {"mode": "auto", "canary": 1})
    world.steer("next", CommandType.CANCEL)
    assert revisions(world) == {"old": 2, NEW: 2}
    assert world.kinds[-1] == "cancel", "with the owner's strategy OpenKruise would update half of them"


def test_a_pause_while_pods_that_are_only_removed_go_removes_no_more_than_they_are() -> None:
    world = without_answer("retire", 4, wanted=0)
    # the executor has carried it out, but its answer is late
    world.cluster.carry_out(last(world, m.Retire))
    world.cluster.reconcile()
    world.cluster.terminate()
    world.report_pods()
    world.steer(NEW, CommandType.PAUSE)
    world.catch_up()
    assert revisions(world) == {"old": 2}
    world.change(NEW, {"mode": "manual", "paused": False})
    assert world.where(NEW) == "BatchFinished 1 Baked"
    assert [pod.name for pod in world.pods] == ["old-2", "old-3"], "no pod was made in place of another"
    assert press_next(world) == "Success 2 Baked"
    assert revisions(world) == {}


def test_a_cancel_after_a_pause_that_came_too_late_takes_no_other_pod() -> None:
    around = Surroundings(2)
    name = around.apply({"mode": "manual", "batchSize": 1, "pullOutSeconds": 5}, 2)
    around.settles()
    # paused and resumed while the old pod's deletion is on its way, and then canceled
    around.change(name, {"paused": True})
    around.change(name, {"paused": False})
    around.delete(name)
    around.time_passes(6000)
    around.settles()
    around.ends()
    assert around.cluster.serving() == 2
