"""The original manifest is applied again in the middle of a release (GitOps): every command works afterwards."""

from __future__ import annotations

import pytest

from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType, Target
from shared.domain.deployflow import BatchPhase
from tests.unit.planner.releases import NEW, press_next, revisions, starting, update, without_answer

seen_or_not = pytest.mark.parametrize("observed", [True, False], ids=["observed", "unobserved"])


@seen_or_not
def test_a_retry_runs_the_failed_batch_again_every_time(observed: bool) -> None:
    world = starting(4)
    for _ in range(3):
        world.fail()
        assert world.where(NEW) == "BatchStarted 1 SmokeFailed"
        world.steer(NEW, CommandType.RETRY)
        assert world.where(NEW) == "BatchStarted 1 Smoking"
        world.apply_again(NEW, observed=observed)
        assert world.where(NEW) == "BatchStarted 1 Smoking"


def test_a_retry_by_hand_counts_again_after_it_was_put_back() -> None:
    world = starting(4)
    for _ in range(2):
        world.fail()
        world.change(NEW, {"retries": 1})
        assert world.where(NEW) == "BatchStarted 1 Smoking"
        world.apply_again(NEW)


@seen_or_not
def test_next_goes_on_from_where_the_release_stands(observed: bool) -> None:
    world = update(6, batchSize=1, canary=1, mode="manual")
    places = [world.where(NEW)]
    while not places[-1].startswith("Success"):
        world.apply_again(NEW, observed=observed)
        assert world.where(NEW) == places[-1]
        places.append(press_next(world))
    assert places[:4] == [
        "BatchStarted 1 Smoked",
        "BatchStarted 1 Baking",
        "BatchFinished 1 Baked",
        "BatchFinished 2 Baked",
    ]
    assert len(places) == 8
    assert revisions(world) == {NEW: 6}


def test_a_lowered_approval_takes_nothing_back_of_a_batch_that_began() -> None:
    world = update(6, batchSize=2, mode="manual", bakeSeconds=30)
    world.wait(30_000)
    assert press_next(world) == "BatchStarted 2 Baking"
    world.apply_again(NEW)
    world.wait(30_000)
    assert world.where(NEW) == "BatchFinished 2 Baked"


@seen_or_not
def test_continue_goes_to_its_target_and_never_back(observed: bool) -> None:
    world = update(6, batchSize=2, mode="manual", bakeSeconds=30)
    world.wait(30_000)
    assert press_next(world) == "BatchStarted 2 Baking"
    world.apply_again(NEW, observed=observed)
    world.steer(NEW, CommandType.CONTINUE, target=Target(batches=2, stage=BatchPhase.SMOKED))
    world.wait(30_000)
    assert world.where(NEW) == "BatchFinished 2 Baked"
    world.apply_again(NEW, observed=observed)
    world.steer(NEW, CommandType.CONTINUE, target=Target(batches=3))
    world.wait(30_000)
    assert world.where(NEW) == "Success 3 Baked"


@seen_or_not
def test_pause_resume_and_promote_work_again(observed: bool) -> None:
    world = update(6, batchSize=1, mode="manual", bakeSeconds=10)
    for _ in range(2):
        world.steer(NEW, CommandType.PAUSE)
        assert world.status(NEW)["paused"]
        world.apply_again(NEW, observed=observed)
        world.steer(NEW, CommandType.PAUSE)
        assert world.status(NEW)["paused"]
        world.steer(NEW, CommandType.RESUME)
        assert not world.status(NEW)["paused"]
        world.apply_again(NEW, observed=observed)
    world.steer(NEW, CommandType.PROMOTE)
    world.wait(10_000)
    assert world.where(NEW) == "BatchStarted 2 Baking"
    world.apply_again(NEW)
    world.wait(10_000)
    assert world.where(NEW) == "BatchFinished 2 Baked"
    world.steer(NEW, CommandType.PROMOTE)
    for _ in range(4):
        world.wait(10_000)
    assert world.where(NEW) == "Success 6 Baked"


def test_the_batch_size_can_be_set_again() -> None:
    world = update(6, batchSize=1, mode="manual")
    world.change(NEW, {"batchSize": 2})
    world.apply_again(NEW)
    world.change(NEW, {"batchSize": 2})
    press_next(world)
    assert [batch.size for batch in world.flow(NEW).batches] == [1, 2]


def test_a_cancel_that_waits_for_an_answer_stays_a_cancel() -> None:
    world = without_answer("surge", 4)
    world.steer(NEW, CommandType.CANCEL)
    world.apply_again(NEW)
    world.catch_up()
    assert world.flow(NEW).phase == "Canceled"
    assert revisions(world) == {"old": 4}
    assert any(isinstance(command, m.Cancel) for command in world.commands)
