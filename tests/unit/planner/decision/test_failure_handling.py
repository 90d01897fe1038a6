"""What goes wrong with pods: when a batch has failed, what is said, and what happens to the pods."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.planner.decision.deadlines import next_deadline
from services.planner.decision.decide import decide
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from tests.simulation.world import RESEND_MS, World
from tests.unit.planner.releases import (
    NEW,
    batch,
    last,
    message,
    opening,
    reason,
    revisions,
    starting,
    update,
    without_answer,
)


def test_containers_that_do_not_start_in_time_fail_the_batch() -> None:
    world = starting(4, startupTimeoutSeconds=30)
    world.wait(29_999)
    assert world.where(NEW) == "BatchStarted 1 Smoking"
    world.wait(1)
    assert world.where(NEW) == "BatchStarted 1 SmokeFailed"
    assert reason(world) == "SmokeFailed"
    assert "2 of 2 pods of batch 1 failed" in message(world)
    assert "new-101 (not ContainersReady within 30 s (Running), since 00:16:40Z)" in message(world)
    assert (batch(world).reason, batch(world).failed_replicas) == ("StartupTimeout", 2)


def test_only_the_pods_that_are_late_are_counted() -> None:
    world = starting(4, startupTimeoutSeconds=30)
    world.start(world.cluster.of(NEW)[0])
    world.wait(30_000)
    assert (world.where(NEW), batch(world).failed_replicas) == ("BatchStarted 1 SmokeFailed", 1)


def test_pods_that_are_never_made_fail_the_batch_too() -> None:
    world = starting(4, startupTimeoutSeconds=30)
    made = world.cluster.of(NEW)
    world.cluster.pods = [pod for pod in world.pods if pod not in made]
    world.report_pods()
    world.wait(30_000)
    assert world.where(NEW) == "BatchStarted 1 SmokeFailed"
    assert "2 of 2 pods were not made within 30 s" in message(world)


def test_a_crash_fails_the_batch_at_once_and_says_why() -> None:
    world = starting(4)
    world.crash(world.cluster.of(NEW)[0])
    assert world.where(NEW) == "BatchStarted 1 SmokeFailed"
    assert batch(world).reason == "CrashLoopBackOff"
    assert message(world) == (
        "1 of 2 pods of batch 1 failed: new-101 (CrashLoopBackOff: back-off restarting failed container)"
    )


def test_every_pod_that_fails_is_counted_also_those_that_fail_later() -> None:
    world = starting(6, batchSize=3)
    for failed, pod in enumerate(world.cluster.of(NEW), start=1):
        world.crash(pod)
        assert batch(world).failed_replicas == failed
        assert f"{failed} of 3 pods" in message(world)
    assert world.status(NEW)["failedReplicas"] == 3


def test_a_failure_names_the_first_pods_and_counts_the_others() -> None:
    world = starting(8, batchSize=8)
    world.fail()
    assert "and 3 more" in message(world)


def test_a_crash_while_the_canary_waits_at_smoked_fails_it() -> None:
    world = update(4, canary=1)
    world.fail()
    assert world.where(NEW) == "BatchStarted 1 SmokeFailed"


def test_a_failed_release_makes_opens_and_deletes_nothing_more() -> None:
    world = starting(4)
    world.crash(world.cluster.of(NEW)[0])
    issued = len(world.commands)
    world.start(*world.pods)
    for _ in range(50):
        world.wait(60_000)
    assert set(world.kinds[issued:]) <= {"halt"}
    assert world.status(NEW)["paused"] is True
    assert revisions(world)["old"] == 4


def test_resume_does_not_lift_a_failure() -> None:
    world = starting(4)
    world.fail()
    world.steer(NEW, CommandType.PAUSE)
    world.steer(NEW, CommandType.RESUME)
    world.wait(60_000)
    assert world.where(NEW) == "BatchStarted 1 SmokeFailed"


def test_gates_that_do_not_open_in_time_fail_the_batch() -> None:
    world = opening(4, pullInTimeoutSeconds=60)
    world.wait(59_999)
    assert world.where(NEW) == "BatchStarted 1 Baking"
    world.wait(1)
    assert world.where(NEW) == "BatchStarted 1 BakeFailed"
    assert (batch(world).reason, batch(world).failed_replicas) == ("PullInFailed", 2)


def test_a_pod_that_loses_ready_while_it_bakes_fails_the_batch_after_the_pull_in_time() -> None:
    world = update(4, batchSize=2, bakeSeconds=600, pullInTimeoutSeconds=60)
    world.wait(10_000)
    pod = world.cluster.of(NEW)[0]
    pod.containers_ready = False
    world.report_pods()
    world.wait(59_999)
    assert world.where(NEW) == "BatchStarted 1 Baking"
    world.wait(1)
    assert world.where(NEW) == "BatchStarted 1 BakeFailed"
    assert batch(world).failed_replicas == 1


def test_a_pod_that_is_ready_again_in_time_fails_nothing() -> None:
    world = update(4, batchSize=4, bakeSeconds=100, pullInTimeoutSeconds=60)
    pod = world.cluster.of(NEW)[0]
    pod.containers_ready = False
    world.report_pods()
    world.wait(59_000)
    world.start(pod)
    world.wait(100_000)
    assert world.where(NEW) == "Success 1 Baked"


def test_a_crash_in_traffic_fails_the_batch_and_takes_the_pod_out_of_traffic() -> None:
    world = update(4, batchSize=2, bakeSeconds=60)
    pod, other = world.cluster.of(NEW)
    world.crash(pod)
    assert world.where(NEW) == "BatchStarted 1 BakeFailed"
    assert last(world, m.PullOut).uids == [pod.uid]
    assert (pod.open, other.open) == (False, True)
    assert world.cluster.serving() == 5


def test_a_sick_old_pod_fails_nothing() -> None:
    world = update(4, batchSize=2, bakeSeconds=30)
    world.crash(world.cluster.of("old")[0])
    world.wait(30_000)
    world.wait(30_000)
    assert world.where(NEW) == "Success 2 Baked"


def test_on_failure_cancel_ends_the_release_by_itself() -> None:
    world = starting(4, onFailure="cancel")
    world.crash(world.cluster.of(NEW)[0])
    assert world.where(NEW) == "Failed 1 SmokeFailed"
    assert message(world).startswith("canceled by onFailure: 1 of 2 pods of batch 1 failed")
    assert revisions(world) == {"old": 4}
    assert world.cluster.serving() == 4


def test_on_failure_cancel_keeps_what_was_baked() -> None:
    world = update(6, batchSize=2, mode="manual", onFailure="cancel")
    world.containers_start = False
    world.steer(NEW, CommandType.NEXT)
    world.crash(world.cluster.of(NEW)[-1])
    assert world.where(NEW) == "Failed 2 SmokeFailed"
    assert revisions(world) == {"old": 4, NEW: 2}


def test_a_failed_batch_is_told_once_more_only_when_it_is_over() -> None:
    world = starting(4)
    world.fail()
    events = [event for event in world.events if event.reason == "BatchSmokeFailed"]
    assert [event.failed_replicas for event in events] == [2]


# --- pods that go by themselves --------------------------------------------------------------------------


def test_a_new_pod_that_vanishes_is_made_again_and_the_batch_waits_for_it() -> None:
    world = starting(4)
    world.vanish(world.cluster.of(NEW)[0])
    world.catch_up()
    assert world.where(NEW) == "Success 2 Baked"
    assert revisions(world) == {NEW: 4}


def test_what_takes_the_place_of_a_baked_pod_gets_its_traffic_while_the_old_ones_lose_theirs() -> None:
    world = update(4, batchSize=2, pullOutSeconds=60)
    world.run_until(lambda: world.where(NEW) == "BatchStarted 1 Baked")
    world.vanish(world.cluster.of(NEW)[0])
    world.wait(1000)
    assert world.where(NEW) == "BatchStarted 1 Baked"
    assert [pod.open for pod in world.cluster.of(NEW)] == [True, True]


def test_an_old_pod_that_vanishes_is_made_again_and_takes_traffic_without_the_release() -> None:
    world = update(4, canary=1)
    world.vanish(world.cluster.of("old")[0])
    assert world.cluster.serving() == 4
    assert revisions(world) == {"old": 4, NEW: 1}


def test_a_pod_made_again_while_its_batch_bakes_gets_its_traffic_and_no_other_with_it() -> None:
    world = update(4, batchSize=2, bakeSeconds=600)
    one, other = world.cluster.of(NEW)
    world.containers_start = False
    one.containers_ready = False
    world.vanish(other)
    (again,) = [pod for pod in world.cluster.of(NEW) if pod not in (one, other)]
    world.start(again)
    assert last(world, m.PullIn).uids == [again.uid]


def test_a_canary_whose_containers_are_not_ready_is_not_let_into_traffic_by_next() -> None:
    world = update(4, canary=1)
    (canary,) = world.cluster.of(NEW)
    canary.containers_ready = False
    world.report_pods()
    world.steer(NEW, CommandType.NEXT)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    world.start(canary)
    assert world.where(NEW) == "BatchStarted 1 Baking"


# --- when to look again ----------------------------------------------------------------------------------


TIMES: list[tuple[str, int, Callable[[], World]]] = [
    ("startup", 30_000, lambda: starting(4, startupTimeoutSeconds=30)),
    ("pull-in", 7_000, lambda: opening(4, pullInTimeoutSeconds=7)),
    ("bake", 40_000, lambda: update(4, batchSize=2, bakeSeconds=40)),
    ("interval", 50_000, lambda: update(4, batchSize=2, batchIntervalSeconds=50)),
    ("pull-out", 20_000, lambda: update(4, batchSize=2, pullOutSeconds=20)),
    ("resend", RESEND_MS, lambda: without_answer("observe")),
]


@pytest.mark.parametrize(("of", "milliseconds", "build"), TIMES, ids=[row[0] for row in TIMES])
def test_the_planner_looks_again_when_a_time_is_over(
    of: str, milliseconds: int, build: Callable[[], World]
) -> None:
    world = build()
    assert next_deadline(world.instance, world.now, resend_ms=RESEND_MS) == world.now + milliseconds, of
    due = m.Due(namespace="default", instance="web")
    early = decide(world.instance, [due], world.now + milliseconds - 1, resend_ms=RESEND_MS)
    assert early.instance is world.instance
    at_last = decide(world.instance, [due], world.now + milliseconds, resend_ms=RESEND_MS)
    assert at_last.instance is not world.instance


def test_while_a_person_is_waited_for_there_is_no_time_to_look_again() -> None:
    world = update(4, batchSize=2, mode="manual")
    assert next_deadline(world.instance, world.now, resend_ms=RESEND_MS) is None
