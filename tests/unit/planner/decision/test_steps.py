"""The road of a release, as somebody who watches it sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.domain import messages as m
from shared.domain.json_types import Json
from tests.simulation.world import World
from tests.unit.planner.releases import (
    NEW,
    batch,
    create,
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

# --- create ----------------------------------------------------------------------------------------------


def test_a_create_makes_all_pods_and_succeeds() -> None:
    world = create(10, batchSize=5)
    assert world.where(NEW) == "Success 2 Baked"
    assert world.cluster.serving() == 10
    assert world.kinds == ["observe", "surge", "pull_in", "surge", "pull_in", "retire", "finish"]


def test_a_create_of_no_pods_succeeds_with_an_empty_cloneset() -> None:
    world = create(0)
    assert world.where(NEW) == "Success"
    assert (world.facts.exists, world.facts.replicas) == (True, 0)


def test_an_update_of_an_instance_that_is_not_there_fails_and_says_what_to_do() -> None:
    world = World(None)
    world.apply(NEW, {}, replicas=3)
    assert world.where(NEW) == "Failed"
    assert reason(world) == "InstanceNotFound"
    assert "create the instance first" in message(world)


# --- update ----------------------------------------------------------------------------------------------


def test_an_update_replaces_batch_by_batch_in_one_write_each() -> None:
    world = update(10, batchSize=5)
    assert world.kinds == ["observe", "surge", "pull_in", "surge", "pull_in", "retire", "finish"]
    first, second = [command for command in world.commands if isinstance(command, m.Surge)]
    assert (first.replicas, first.partition, first.retire) == (15, 10, [])
    assert (second.replicas, second.partition, len(second.retire)) == (15, 5, 5)
    retire = last(world, m.Retire)
    assert (retire.replicas, retire.partition, len(retire.retire)) == (10, 0, 5)
    assert revisions(world) == {NEW: 10}


def test_an_update_goes_through_every_phase_in_order() -> None:
    world = update(2, batchSize=1)
    reasons = [event.reason for event in world.events]
    begin = ["BatchStarted", "BatchSmoking"]
    go_on = ["BatchSmoked", "BatchBaking", "BatchBaked"]
    assert reasons == [
        *("Received", "Pending", "Initializing", "Planned"),
        *begin,
        *go_on,
        # one write removes its old pods and makes those of the next batch
        *begin,
        "BatchFinished",
        *go_on,
        "BatchFinished",
        "Success",
    ]


def test_the_oldest_pods_go_first_and_those_that_are_not_ready_before_them() -> None:
    world = World(4)
    sick = world.pods[3]
    world.crash(sick)
    world.apply(NEW, {"mode": "manual", "batchSize": 2})
    assert {pod.name for pod in world.cluster.of("old")} == {"old-1", "old-2"}


def test_an_update_to_more_pods_keeps_the_old_ones_until_there_are_enough() -> None:
    world = update(4, wanted=6, batchSize=2, mode="manual")
    assert revisions(world) == {"old": 4, NEW: 2}
    press_next(world)
    assert revisions(world) == {"old": 2, NEW: 4}
    assert press_next(world) == "Success 3 Baked"
    assert revisions(world) == {NEW: 6}


def test_an_update_to_fewer_pods_removes_what_is_too_much_with_the_first_batch() -> None:
    world = update(10, wanted=5, batchSize=2, mode="manual")
    assert revisions(world) == {"old": 3, NEW: 2}
    press_next(world)
    assert press_next(world) == "Success 3 Baked"
    assert revisions(world) == {NEW: 5}


def test_an_update_to_no_pods_removes_them_in_batches() -> None:
    world = update(5, wanted=0, batchSize=2, mode="manual")
    assert revisions(world) == {"old": 3}
    press_next(world)
    assert press_next(world) == "Success 3 Baked"
    assert revisions(world) == {}


def test_what_has_the_template_already_is_left_alone() -> None:
    world = update(4)
    issued = len(world.commands)
    world.apply("again", {"mode": "auto"}, revision=NEW)
    assert world.where("again") == "Success"
    assert world.kinds[issued:] == ["observe", "finish"]


def test_the_owners_update_strategy_comes_back_at_the_end() -> None:
    world = update(4, batchSize=2, mode="manual")
    assert world.cluster.cloneset is not None
    assert world.cluster.cloneset.spec.update_strategy["paused"] is True
    press_next(world)
    assert world.cluster.cloneset.spec.update_strategy == {
        "type": "ReCreate",
        "partition": 0,
        "paused": False,
    }
    assert world.facts.hold is None


def test_pods_wait_for_their_traffic_until_all_containers_of_the_batch_are_ready() -> None:
    world = starting(4)
    one, other = world.cluster.of(NEW)
    world.start(one)
    assert world.where(NEW) == "BatchStarted 1 Smoking"
    assert "pull_in" not in world.kinds
    world.start(other)
    assert last(world, m.PullIn).uids == [one.uid, other.uid]


def test_old_pods_go_only_when_every_pod_of_the_batch_serves() -> None:
    world = opening(4)
    assert world.where(NEW) == "BatchStarted 1 Baking"
    assert revisions(world) == {"old": 4, NEW: 2}
    world.catch_up()
    assert world.where(NEW) == "Success 2 Baked"


def test_a_batch_bakes_for_as_long_as_requested() -> None:
    world = update(4, batchSize=2, bakeSeconds=30)
    world.wait(29_999)
    assert world.where(NEW) == "BatchStarted 1 Baking"
    world.wait(1)
    assert world.where(NEW) == "BatchStarted 2 Baking"


def test_the_bake_begins_again_when_a_pod_was_not_ready_meanwhile() -> None:
    world = update(4, batchSize=2, bakeSeconds=30)
    world.wait(20_000)
    pod = world.cluster.of(NEW)[0]
    pod.containers_ready = False
    world.report_pods()
    world.start(pod)
    world.wait(29_999)
    assert world.where(NEW) == "BatchStarted 1 Baking"
    world.wait(1)
    assert batch(world).number == 2


def test_old_pods_are_out_of_traffic_for_a_while_before_they_go() -> None:
    world = update(4, batchSize=2, mode="manual", pullOutSeconds=10)
    assert world.where(NEW) == "BatchStarted 1 Baked"
    out = last(world, m.PullOut).uids
    assert [pod.open for pod in world.cluster.named(out)] == [False, False]
    world.wait(9_999)
    assert "retire" not in world.kinds
    world.wait(1)
    assert last(world, m.Retire).retire == out
    assert world.where(NEW) == "BatchFinished 1 Baked"


def test_the_wait_for_pulled_out_pods_begins_when_their_gates_are_closed() -> None:
    world = World(4)
    world.apply(NEW, {"mode": "manual", "batchSize": 2, "pullOutSeconds": 10, "bakeSeconds": 5})
    world.gates_move = False
    world.wait(5_000)
    world.wait(8_000)
    assert "retire" not in world.kinds
    world.catch_up()
    world.wait(9_999)
    assert "retire" not in world.kinds
    world.wait(1)
    assert "retire" in world.kinds


def test_without_pull_in_somebody_else_opens_the_gates() -> None:
    world = update(4, batchSize=2, noPullIn=True)
    assert world.where(NEW) == "BatchStarted 1 Baking"
    assert "pull_in" not in world.kinds
    while world.where(NEW) != "Success 2 Baked":
        for pod in world.cluster.of(NEW):
            pod.open = True
        world.report_pods()
    assert "pull_in" not in world.kinds


def test_without_pull_in_pods_that_replace_none_wait_for_nobody() -> None:
    world = create(4, batchSize=2, noPullIn=True)
    assert world.where(NEW) == "Success 2 Baked"
    assert world.cluster.serving() == 0


# --- the canary ------------------------------------------------------------------------------------------


def test_a_canary_waits_at_smoked_and_at_baking_and_the_batch_after_it_waits_too() -> None:
    world = update(10, batchSize=5, canary=1)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    assert (reason(world), "press next to send it traffic" in message(world)) == ("WaitingForNext", True)
    assert press_next(world) == "BatchStarted 1 Baking"
    assert (reason(world), "press next to accept it" in message(world)) == ("WaitingForNext", True)
    assert press_next(world) == "BatchFinished 1 Baked"
    assert (reason(world), "batch 2 of 3 can start: press next to start it" in message(world)) == (
        "WaitingForNext",
        True,
    )
    # from here on it is auto
    assert press_next(world) == "Success 3 Baked"
    assert sizes(world) == [1, 5, 4]


def test_a_canary_takes_no_traffic_before_next() -> None:
    world = update(10, canary=2)
    assert [pod.open for pod in world.cluster.of(NEW)] == [False, False]
    press_next(world)
    assert [pod.open for pod in world.cluster.of(NEW)] == [True, True]
    assert world.cluster.serving() == 12


def test_a_canary_waits_for_next_however_long_it_takes() -> None:
    world = update(10, canary=1)
    for _ in range(30):
        world.wait(3_600_000)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    press_next(world)
    for _ in range(30):
        world.wait(3_600_000)
    assert world.where(NEW) == "BatchStarted 1 Baking"


def test_a_canary_of_a_create_waits_too() -> None:
    world = create(3, canary=1)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    press_next(world)
    press_next(world)
    assert press_next(world) == "Success 2 Baked"


@pytest.mark.parametrize("mode", ["auto", "manual"])
@pytest.mark.parametrize("release", [create, update])
@pytest.mark.parametrize(("replicas", "canary"), [(1, 1), (3, 3), (3, 7)])
def test_a_canary_that_covers_the_release_waits_without_traffic(
    release: Callable[..., World], replicas: int, canary: int, mode: str
) -> None:
    world = release(replicas, canary=canary, mode=mode)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    assert batch(world).canary
    assert [pod.open for pod in world.cluster.of(NEW)] == [False] * replicas
    assert reason(world) == "WaitingForNext"
    world.wait(3_600_000)
    assert [pod.open for pod in world.cluster.of(NEW)] == [False] * replicas
    assert press_next(world) == "BatchStarted 1 Baking"
    assert [pod.open for pod in world.cluster.of(NEW)] == [True] * replicas
    assert press_next(world) == "Success 1 Baked"
    assert world.cluster.serving() == replicas


def test_a_canary_that_covers_the_release_has_the_batch_size() -> None:
    world = update(4, canary=4, batchSize=3)
    assert [pod.open for pod in world.cluster.of(NEW)] == [False] * 3
    press_next(world)
    assert press_next(world) == "BatchFinished 1 Baked"
    assert press_next(world) == "Success 2 Baked"


def test_a_canary_that_covers_the_release_is_still_one_after_a_lost_state() -> None:
    world = World(3)
    before: list[dict[str, Json]] = []
    world.after_each = lambda: before.append(world.statuses())
    world.apply(NEW, {"mode": "auto", "canary": 3})
    assert before[0][NEW]["conditions"] == []
    world.lose_redis(before[0])
    world.wait(1)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    assert [pod.open for pod in world.cluster.of(NEW)] == [False] * 3
    assert world.status(NEW)["batches"] == 1


def test_in_manual_mode_every_batch_but_the_first_waits() -> None:
    world = update(6, batchSize=2, mode="manual")
    assert world.where(NEW) == "BatchFinished 1 Baked"
    assert press_next(world) == "BatchFinished 2 Baked"
    assert press_next(world) == "Success 3 Baked"


# --- the interval, and another batch size on the way -----------------------------------------------------


def test_the_next_batch_waits_for_the_interval_and_says_until_when() -> None:
    world = update(4, batchSize=2, batchIntervalSeconds=60)
    assert world.where(NEW) == "BatchFinished 1 Baked"
    assert reason(world) == "BatchInterval"
    assert "batch 2 of 2 starts at 1970-01-01T00:17:40" in message(world)
    world.wait(59_999)
    assert world.where(NEW) == "BatchFinished 1 Baked"
    world.wait(1)
    assert world.where(NEW) == "Success 2 Baked"


def test_there_is_no_interval_after_the_canary() -> None:
    world = update(4, batchSize=2, canary=1, batchIntervalSeconds=60)
    press_next(world)
    press_next(world)
    assert press_next(world) == "BatchFinished 2 Baked"  # the interval comes after this one
    world.wait(60_000)
    assert world.where(NEW) == "Success 3 Baked"


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, [2, 1, 1, 1, 1, 1, 1, 1, 1]), (8, [2, 8]), ("30%", [2, 3, 3, 2]), (None, [2, 8])],
)
def test_another_batch_size_counts_from_the_next_batch_on(
    size: int | str | None, expected: list[int]
) -> None:
    world = update(10, batchSize=2, batchIntervalSeconds=10)
    assert sizes(world) == [2]
    world.change(NEW, {"batchSize": size})
    world.run_until(lambda: world.flow(NEW).phase.finished)
    assert sizes(world) == expected
    assert world.status(NEW)["batches"] == len(expected)


def test_another_batch_size_does_not_change_the_batch_under_way() -> None:
    world = starting(6)
    world.change(NEW, {"batchSize": 4})
    world.catch_up()
    assert sizes(world) == [2, 4]


def test_a_command_that_nobody_answers_holds_the_release_where_it_is() -> None:
    world = without_answer("observe")
    assert world.where(NEW) == "Initializing"
    world.catch_up()
    assert world.where(NEW) == "Success 5 Baked"
