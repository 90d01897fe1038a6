"""Every action but create and update: which pods come, which go, how many serve meanwhile, and what it ends in."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from tests.simulation.world import World
from tests.unit.planner.releases import last, message, reason, revisions

RUN = "run"
"""The name of the release that is looked at."""


def act(action: str, there: int = 5, *, replicas: int | None = None, **strategy: Any) -> World:
    """An instance with so many pods, and an action on it begun; `auto` unless said otherwise."""
    world = World(there)
    least: list[int] = []
    world.after_each = lambda: least.append(world.cluster.serving())
    world.least = least  # type: ignore[attr-defined]
    world.apply(RUN, {"mode": "auto", **strategy}, replicas=replicas, action=action)
    return world


def least(world: World) -> int:
    """The fewest pods that served at any moment."""
    return min(world.least)  # type: ignore[attr-defined,no-any-return]


def names(world: World) -> set[str]:
    return {pod.name for pod in world.cluster.live}


OLD = {f"old-{number}" for number in range(5)}


# --- restart ---


def test_a_restart_replaces_every_pod_by_a_fresh_one_of_the_same_revision() -> None:
    world = act("restart", batchSize=2)
    assert world.where(RUN) == "Success 3 Baked"
    assert revisions(world) == {"old": 5}
    assert not names(world) & OLD
    assert least(world) == 5
    assert [one.size for one in world.flow(RUN).batches] == [2, 2, 1]


def test_a_restart_of_named_pods_takes_these_alone_and_only_after_fresh_ones_serve() -> None:
    world = act("restart", podsToDelete=["old-1", "old-3"], batchSize=1)
    assert world.where(RUN) == "Success 2 Baked"
    assert OLD - names(world) == {"old-1", "old-3"}
    assert (len(names(world)), least(world)) == (5, 5)


def test_a_restart_writes_no_template() -> None:
    world = act("restart")
    assert all(command.application is None for command in world.commands if isinstance(command, m.Surge))


def test_a_fresh_pod_that_crashes_stops_the_restart_and_every_old_pod_serves() -> None:
    world = World(5)
    world.containers_start = False
    world.apply(RUN, {"mode": "auto", "batchSize": 2}, action="restart")
    world.crash(*(pod for pod in world.pods if pod.name not in OLD))
    assert world.where(RUN) == "BatchStarted 1 SmokeFailed"
    assert world.cluster.serving() == 5
    world.steer(RUN, CommandType.CANCEL)
    assert (world.where(RUN), names(world)) == ("Canceled 1 SmokeFailed", OLD)


def test_an_old_pod_that_goes_by_itself_in_the_middle_of_a_restart_counts_as_restarted() -> None:
    world = World(5)
    world.apply(RUN, {"batchSize": 2, "batches": 1}, action="restart")
    assert world.where(RUN) == "BatchFinished 1 Baked"
    world.vanish(next(pod for pod in world.pods if pod.name in OLD))
    world.steer(RUN, CommandType.PROMOTE)
    assert world.flow(RUN).phase == "Success"
    assert not names(world) & OLD
    assert len(names(world)) == 5
    assert world.cluster.serving() == 5


def test_named_pods_that_do_not_exist_are_said_before_anything_moves() -> None:
    world = act("restart", podsToDelete=["old-1", "gone-7"])
    assert (world.where(RUN), reason(world, RUN)) == ("Failed", "PodNotFound")
    assert message(world, RUN) == "podsToDelete: web has no pod gone-7"
    assert world.kinds == ["observe"]


# --- scale ---


def test_scale_out_makes_pods_of_the_revision_that_runs() -> None:
    world = act("scale_out", replicas=8, batchSize=2)
    assert world.where(RUN) == "Success 2 Baked"
    assert revisions(world) == {"old": 8}
    assert world.cluster.serving() == 8


def test_scale_in_by_count_takes_sick_pods_first_and_then_the_oldest() -> None:
    world = World(5)
    world.crash(world.pods[3])
    world.apply(RUN, {"mode": "auto"}, replicas=3, action="scale_in")
    assert world.where(RUN) == "Success 1 Baked"
    assert names(world) == {"old-1", "old-2", "old-4"}


def test_scale_in_takes_exactly_the_named_pods() -> None:
    world = act("scale_in", replicas=3, podsToDelete=["old-2", "old-4"], batchSize=1)
    assert world.where(RUN) == "Success 2 Baked"
    assert names(world) == {"old-0", "old-1", "old-3"}


def test_scale_in_takes_the_named_pods_and_chooses_the_others() -> None:
    world = act("scale_in", replicas=2, podsToDelete=["old-4"])
    assert world.where(RUN) == "Success 1 Baked"
    assert names(world) == {"old-2", "old-3"}


def test_scale_in_pulls_a_pod_out_before_it_goes() -> None:
    world = act("scale_in", replicas=4, podsToDelete=["old-2"], pullOutSeconds=5)
    assert world.where(RUN) == "BatchStarted 1 Baked"
    assert [pod.name for pod in world.pods if pod.pulled_out] == ["old-2"]
    world.wait(5000)
    assert (world.where(RUN), names(world)) == ("Success 1 Baked", OLD - {"old-2"})


def test_a_scale_in_that_is_canceled_in_its_pull_out_gives_the_pods_their_traffic_back() -> None:
    world = act("scale_in", replicas=3, pullOutSeconds=60)
    world.steer(RUN, CommandType.CANCEL)
    assert world.where(RUN) == "Canceled 1 Baked"
    assert (names(world), world.cluster.serving()) == (OLD, 5)
    assert world.facts.replicas == 5


def test_a_scale_out_that_is_canceled_keeps_what_serves_already() -> None:
    world = World(2)
    world.apply(RUN, {"batchSize": 2, "batches": 1}, replicas=6, action="scale_out")
    world.containers_start = False
    world.change(RUN, {"batches": 2})
    world.steer(RUN, CommandType.CANCEL)
    assert world.flow(RUN).phase == "Canceled"
    assert (len(names(world)), world.cluster.serving(), world.facts.replicas) == (4, 4, 4)


@pytest.mark.parametrize(
    ("action", "replicas", "named", "said"),
    [
        ("scale_in", 7, [], "scale_in to 7, but there are 5: use scale_out"),
        ("scale_out", 3, [], "scale_out to 3, but there are 5: use scale_in"),
        ("scale_in", 4, ["old-0", "old-1"], "podsToDelete names 2 pods, but from 5 to 4 only 1 go"),
    ],
)
def test_a_scale_that_contradicts_itself_says_so_before_anything_moves(
    action: str, replicas: int, named: list[str], said: str
) -> None:
    world = act(action, replicas=replicas, podsToDelete=named)
    assert (world.where(RUN), reason(world, RUN)) == ("Failed", "NotPossible")
    assert message(world, RUN).startswith(said)
    assert names(world) == OLD


def test_who_opens_the_gates_continues_to_do_it() -> None:
    world = World(2)
    world.apply("new", {"mode": "auto", "noPullIn": True})
    world.start(*world.pods)
    for pod in world.cluster.live:
        pod.open = True
    world.report_pods()
    assert world.where("new") == "Success 1 Baked"
    pulled_in = world.kinds.count("pull_in")
    world.apply(RUN, {"mode": "auto"}, replicas=3, action="scale_out")
    world.change(RUN, {"batchSize": 1})
    assert world.flow(RUN).phase == "Success"
    assert world.kinds.count("pull_in") == pulled_in
    assert last(world, m.Surge).no_pull_in


# --- stop, start, delete ---


def test_stop_drains_to_zero_and_start_comes_back_to_the_count_before() -> None:
    world = act("stop", batchSize="50%")
    assert world.where(RUN) == "Success 2 Baked"
    assert (world.pods, world.facts.replicas, world.facts.stopped) == ([], 0, 5)
    world.apply("start", {"mode": "auto"}, replicas=1, action="start")
    assert world.where("start") == "Success 1 Baked"
    assert (world.cluster.serving(), world.facts.stopped) == (5, 0)


def test_a_stop_that_is_canceled_keeps_what_serves_and_remembers_nothing() -> None:
    world = World(4)
    world.apply(RUN, {"batchSize": 1}, action="stop")
    assert world.where(RUN) == "BatchFinished 1 Baked"
    world.steer(RUN, CommandType.CANCEL)
    assert world.flow(RUN).phase == "Canceled"
    assert (world.cluster.serving(), world.facts.replicas, world.facts.stopped) == (3, 3, 0)


def test_a_stop_of_what_is_stopped_keeps_the_count_to_come_back_to() -> None:
    world = act("stop")
    world.apply("again", {"mode": "auto"}, action="stop")
    assert (world.where("again"), world.facts.stopped) == ("Success", 5)


def test_a_start_of_what_runs_has_nothing_to_do() -> None:
    world = act("start", replicas=1)
    assert (world.where(RUN), names(world)) == ("Success", OLD)


def test_a_start_of_what_nobody_stopped_makes_the_replicas_of_its_spec() -> None:
    world = act("scale_in", replicas=0)
    world.apply("start", {"mode": "auto"}, replicas=3, action="start")
    assert (world.where("start"), world.cluster.serving()) == ("Success 1 Baked", 3)


def test_an_update_of_what_is_stopped_starts_it() -> None:
    world = act("stop")
    world.apply("new", {"mode": "auto"}, replicas=2)
    assert (world.where("new"), revisions(world), world.facts.stopped) == ("Success 1 Baked", {"new": 2}, 0)


def test_delete_drains_every_pod_and_then_removes_the_cloneset() -> None:
    world = act("delete", batchSize=2, pullOutSeconds=5)
    assert world.facts.exists
    world.run_until(lambda: world.flow(RUN).phase.finished, 60)
    assert world.where(RUN) == "Success 3 Baked"
    assert (world.pods, world.facts.exists) == ([], False)
    assert world.kinds[-1] == "remove"


def test_a_delete_is_done_where_somebody_else_has_deleted_the_cloneset() -> None:
    world = World(3)
    world.apply(RUN, {"batchSize": 1}, action="delete")
    world.delete_cloneset()
    assert world.flow(RUN).phase == "Success"


def test_what_is_scaled_up_while_it_is_deleted_goes_too() -> None:
    world = World(3)
    world.silent.add("remove")
    world.apply(RUN, {"mode": "auto"}, action="delete")
    world.scale(2)
    world.catch_up()
    world.wait(10_000)
    assert (world.flow(RUN).phase, world.facts.exists) == ("Success", False)


@pytest.mark.parametrize(
    "action", ["restart", "scale_out", "scale_in", "stop", "start", "delete", "rollback"]
)
def test_an_instance_that_does_not_exist_is_said(action: str) -> None:
    world = World(None)
    world.apply(RUN, {}, replicas=2, action=action)
    assert (world.where(RUN), reason(world, RUN)) == ("Failed", "InstanceNotFound")


# --- what is left of a canceled update ---


def test_a_scale_leaves_the_pods_of_a_canceled_update_what_they_are() -> None:
    world = World(4)
    world.apply("new", {"batchSize": 1, "batches": 2})
    world.steer("new", CommandType.CANCEL)
    assert revisions(world) == {"old": 2, "new": 2}
    world.apply(RUN, {"mode": "auto"}, replicas=6, action="scale_out")
    assert world.where(RUN) == "Success 1 Baked"
    assert revisions(world) == {"old": 4, "new": 2}
    world.apply("restart", {"mode": "auto"}, action="restart")
    assert (world.where("restart"), revisions(world)) == ("Success 1 Baked", {"old": 6})
    assert last(world, m.Finish).mixed is False


# --- rollback ---


def test_a_rollback_in_the_middle_of_a_batch_takes_over_at_once_and_keeps_what_serves_on_the_old_revision() -> (
    None
):
    world = World(6)
    world.apply("new", {"mode": "auto", "batchSize": 2, "bakeSeconds": 60})
    assert world.where("new") == "BatchStarted 1 Baking"
    kept = {pod.name for pod in world.cluster.of("old")}
    world.apply("back", {"mode": "auto"}, action="rollback", revision="old")
    assert world.flow("new").phase == "Aborted"
    assert world.where("back") == "Success"
    assert revisions(world) == {"old": 6}
    assert kept <= names(world)
    assert world.cluster.serving() == 6


def test_a_rollback_replaces_what_was_baked_already() -> None:
    world = World(6)
    world.apply("new", {"batchSize": 2, "batches": 2})
    assert revisions(world) == {"old": 2, "new": 4}
    world.apply("back", {"mode": "auto"}, action="rollback", revision="old")
    assert world.where("back") == "Success 1 Baked"
    assert (revisions(world), world.cluster.serving()) == ({"old": 6}, 6)


# --- batches of a failed release ---


def test_a_retry_makes_the_failed_batch_again() -> None:
    world = World(4)
    world.containers_start = False
    world.apply("new", {"mode": "auto", "batchSize": 2})
    world.fail()
    assert world.where("new") == "BatchStarted 1 SmokeFailed"
    broken = {pod.name for pod in world.cluster.of("new")}
    world.containers_start = True
    world.steer("new", CommandType.RETRY)
    assert world.where("new") == "Success 2 Baked"
    assert not broken & names(world)
    assert (revisions(world), world.cluster.serving()) == ({"new": 4}, 4)


def test_a_retry_of_a_failed_bake_keeps_the_pods_that_serve() -> None:
    world = World(4)
    world.apply("new", {"mode": "auto", "batchSize": 2, "bakeSeconds": 30})
    bad, good = world.cluster.of("new")
    world.crash(bad)
    assert world.where("new") == "BatchStarted 1 BakeFailed"
    world.steer("new", CommandType.RETRY)
    world.wait(30_000)
    world.wait(30_000)
    assert world.flow("new").phase == "Success"
    assert good.name in names(world)
    assert bad.name not in names(world)


def test_a_batch_that_fails_again_can_be_retried_again_and_canceled() -> None:
    world = World(4)
    world.containers_start = False
    world.apply("new", {"mode": "auto", "batchSize": 2})
    for _ in range(2):
        world.fail()
        assert world.where("new") == "BatchStarted 1 SmokeFailed"
        world.steer("new", CommandType.RETRY)
        assert world.where("new") == "BatchStarted 1 Smoking"
        assert len(world.cluster.of("new")) == 2
    world.steer("new", CommandType.CANCEL)
    assert (world.flow("new").phase, revisions(world)) == ("Canceled", {"old": 4})


# --- onFailure, failureThreshold, progressDeadlineSeconds ---


def test_on_failure_rollback_asks_for_the_way_back_of_what_was_baked() -> None:
    world = World(4)
    world.apply("new", {"batchSize": 2, "batches": 1, "onFailure": "rollback"})
    assert revisions(world) == {"old": 2, "new": 2}
    world.containers_start = False
    world.change("new", {"batches": 2})
    world.crash(*(pod for pod in world.pods if pod.revision == "new" and not pod.containers_ready))
    assert world.flow("new").phase == "Failed"
    (follow_up,) = [request for entry in world.history for request in entry.decision.requests]
    assert (follow_up.type, follow_up.instance_name, follow_up.requested_by) == (
        "rollback",
        "web",
        "onFailure of new",
    )
    assert world.cluster.serving() == 4


def test_on_failure_rollback_asks_for_nothing_where_nothing_was_baked() -> None:
    world = World(4)
    world.containers_start = False
    world.apply("new", {"mode": "auto", "batchSize": 2, "onFailure": "rollback"})
    world.fail()
    assert (world.flow("new").phase, revisions(world)) == ("Failed", {"old": 4})
    assert not [request for entry in world.history for request in entry.decision.requests]


@pytest.mark.parametrize("threshold", [1, "25%"])
def test_a_batch_goes_on_without_as_many_pods_as_the_threshold_allows(threshold: int | str) -> None:
    world = World(4)
    world.containers_start = False
    world.apply("new", {"mode": "auto", "failureThreshold": threshold})
    bad, *good = world.cluster.of("new")
    world.crash(bad)
    assert world.where("new") == "BatchStarted 1 Smoking"
    world.containers_start = True
    world.start(*good)
    # the one that failed is made again in a batch of its own
    assert world.where("new") == "Success 2 Baked"
    assert bad.name not in names(world)
    assert (revisions(world), world.cluster.serving()) == ({"new": 4}, 4)
    assert world.status("new")["failedReplicas"] == 1


def test_one_failed_pod_more_than_the_threshold_fails_the_batch() -> None:
    world = World(4)
    world.containers_start = False
    world.apply("new", {"mode": "auto", "failureThreshold": 1})
    first, second, *_ = world.cluster.of("new")
    world.crash(first)
    world.crash(second)
    assert world.where("new") == "BatchStarted 1 SmokeFailed"
    assert world.status("new")["failedReplicas"] == 2


def test_a_batch_of_which_every_pod_failed_fails_whatever_the_threshold() -> None:
    world = World(4)
    world.containers_start = False
    world.apply("new", {"mode": "auto", "batchSize": 1, "failureThreshold": "100%"})
    world.fail()
    assert world.where("new") == "BatchStarted 1 SmokeFailed"


def test_a_pod_that_fails_while_baking_loses_its_traffic_and_the_batch_goes_on() -> None:
    world = World(4)
    world.apply("new", {"mode": "auto", "bakeSeconds": 10, "failureThreshold": 1})
    bad, *_ = world.cluster.of("new")
    world.crash(bad)
    assert world.where("new") == "BatchStarted 1 Baking"
    assert bad.pulled_out
    assert world.instance.pending is not None
    assert world.instance.pending.seen
    world.wait(10_000)
    world.wait(10_000)
    assert world.where("new") == "Success 2 Baked"
    assert (revisions(world), world.cluster.serving()) == ({"new": 4}, 4)


def test_a_step_without_progress_fails_the_batch_when_its_time_has_passed() -> None:
    world = World(4)
    world.containers_start = False
    world.apply("new", {"mode": "auto", "progressDeadlineSeconds": 30})
    world.wait(29_000)
    assert world.where("new") == "BatchStarted 1 Smoking"
    world.wait(1_000)
    assert world.where("new") == "BatchStarted 1 SmokeFailed"
    assert "without progress for 30 s" in message(world, "new")


def test_waiting_for_a_person_is_no_lack_of_progress() -> None:
    world = World(4)
    world.apply("new", {"mode": "auto", "canary": 1, "progressDeadlineSeconds": 30})
    world.wait(3_600_000)
    assert world.where("new") == "BatchStarted 1 Smoked"
    world.steer("new", CommandType.NEXT)
    world.wait(3_600_000)
    assert world.where("new") == "BatchStarted 1 Baking"
    assert not world.flow("new").failed


def test_old_pods_that_never_go_are_reported_and_nothing_baked_is_taken_back() -> None:
    world = World(4)
    world.silent.add("retire")
    world.apply("new", {"mode": "auto", "progressDeadlineSeconds": 30})
    world.wait(31_000)
    assert (world.where("new"), world.status("new")["paused"]) == ("BatchStarted 1 Baked", True)
    assert reason(world, "new") == "ProgressDeadlineExceeded"
    world.silent.clear()
    world.steer("new", CommandType.RETRY)
    assert world.where("new") == "Success 1 Baked"


# --- promote ---


def test_promote_lets_a_release_past_every_gate_and_a_cancel_still_ends_it() -> None:
    world = World(4)
    world.apply("new", {"batchSize": 1, "canary": 1, "batchIntervalSeconds": 60})
    assert world.where("new") == "BatchStarted 1 Smoked"
    world.steer("new", CommandType.PROMOTE)
    assert world.where("new") == "BatchFinished 2 Baked"
    world.steer("new", CommandType.CANCEL)
    assert world.flow("new").phase == "Canceled"
    assert (revisions(world), world.cluster.serving()) == ({"old": 2, "new": 2}, 4)


def test_blue_green_holds_before_the_traffic_and_before_the_old_pods_go() -> None:
    world = World(4)
    world.apply("green", {"batchSize": "100%", "stage": "Smoked"})
    assert (world.where("green"), world.cluster.serving()) == ("BatchStarted 1 Smoked", 4)
    world.steer("green", CommandType.NEXT)
    assert (world.where("green"), world.cluster.serving()) == ("BatchStarted 1 Baking", 8)
    world.steer("green", CommandType.NEXT)
    assert (world.where("green"), revisions(world)) == ("Success 1 Baked", {"green": 4})


def test_a_cancel_that_comes_before_the_pull_out_is_carried_out_still_gives_the_traffic_back() -> None:
    world = World(2)
    world.gates_move = False
    world.apply(RUN, {"mode": "auto", "pullOutSeconds": 5}, replicas=1, action="scale_in")
    world.steer(RUN, CommandType.CANCEL)
    world.catch_up()
    assert world.flow(RUN).phase == "Canceled"
    assert world.cluster.serving() == 2
