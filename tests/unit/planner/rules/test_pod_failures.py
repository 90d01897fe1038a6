"""What is reported of the pods that failed a batch, and that they all lose their traffic."""

from __future__ import annotations

from typing import Any

import pytest

from services.planner.decision.apply_facts import apply_fact
from services.planner.model.state import Batch, Pod
from services.planner.recovery.rebuild import rebuild
from services.planner.rules.pod_failures import describe_failure, failure_details
from shared.domain import messages as m
from shared.domain.deployflow import BatchPhase, DeployFlowStatus, PodPhase
from shared.domain.json_types import Json
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, batch, last, message, opening, starting, update

AT = 43_203_000
"""12:00:03Z of the first day."""


def pod(name: str = "web-1", **fields: Any) -> Pod:
    crashed = {
        "phase": PodPhase.FAILED,
        "reason": "CrashLoopBackOff",
        "message": "container main: exit code 1",
    }
    return Pod(**{"name": name, "revision": "new", "batch": 1, **crashed, **fields})


def report(world: World, index: int, **fields: Any) -> None:
    """A fact about one of the new pods, as it is but for these fields."""
    fact = world.cluster.of(NEW)[index].fact().model_copy(update=fields)
    world.instance = apply_fact(
        world.instance, m.PodsSeen(namespace="default", instance="web", pods=[fact], at=0), world.now
    )


def rows(world: World) -> list[Json]:
    found: list[Json] = world.status(NEW)["conditions"][-1]["pods"]
    return found


def test_a_failure_says_since_when() -> None:
    assert describe_failure(pod(since=AT)) == "CrashLoopBackOff: container main: exit code 1, since 12:00:03Z"
    assert describe_failure(pod()) == "CrashLoopBackOff: container main: exit code 1"


def test_status_has_the_last_words_of_a_pod_that_crashed_also_when_they_come_later() -> None:
    world = starting(4)
    world.crash(world.cluster.of(NEW)[0])
    report(world, 0, since=AT, event="BackOff: Back-off restarting", log="panic: no database")
    crashed, other = rows(world)
    assert (crashed["event"], crashed["log"]) == ("BackOff: Back-off restarting", "panic: no database")
    assert crashed["since"] == "1970-01-01T12:00:03Z"
    assert crashed["message"] == "back-off restarting failed container"
    assert (
        DeployFlowStatus.model_validate(world.status(NEW)).conditions[0].pods[0].log == "panic: no database"
    )
    # the fact of a replica that has not requested it yet is no news
    report(world, 0, since=AT)
    assert rows(world)[0]["log"] == "panic: no database"
    assert "log" not in other


def test_a_pod_that_has_recovered_says_nothing_of_it_any_more() -> None:
    world = update(4, batchSize=2, bakeSeconds=600)
    report(world, 0, ready=False, phase=PodPhase.RUNNING, since=AT, log="slow")
    report(world, 0)
    (known,) = (one for one in world.instance.pods.values() if one.name == "new-101")
    assert (known.since, known.log) == (0, "")


def test_only_the_first_pods_are_reported_in_full_those_first_of_which_most_is_known() -> None:
    pods = [(f"uid-{n}", pod(f"web-{n:03}", log="a" * 500 if n > 497 else "")) for n in range(500)]
    found = failure_details(Batch(1, 500, phase=BatchPhase.SMOKE_FAILED, reason="CrashLoopBackOff"), pods)
    assert list(found) == ["uid-498", "uid-499", "uid-0", "uid-1", "uid-2"]


@pytest.mark.parametrize("why", ["StartupTimeout", "PullInFailed", "CrashLoopBackOff"])
def test_healthy_pods_of_a_failed_batch_are_reported_as_ever(why: str) -> None:
    well = pod(phase=PodPhase.READY, ready=True, containers_ready=True, reason="", message="")
    assert failure_details(Batch(1, 2, reason=why), [("one", well), ("two", pod())]).keys() == {"two"}


def test_a_pod_that_is_not_ready_in_time_is_marked_pull_in_failed_also_after_it_was_pulled_out() -> None:
    world = update(4, batchSize=2, bakeSeconds=600, pullInTimeoutSeconds=60)
    sick, well = world.cluster.of(NEW)
    sick.containers_ready = False
    world.report_pods()
    report(world, 0, since=AT, reason="ContainersNotReady", message="not ready: [main]")
    world.wait(60_000)
    assert world.where(NEW) == "BatchStarted 1 BakeFailed"
    assert batch(world).reason == "PullInFailed"
    assert (
        "new-101 (not Ready within 60 s (ContainersNotReady: not ready: [main]), since 12:00:03Z)"
        in message(world)
    )
    assert (sick.open, well.open) == (False, True)
    by_name = {row["name"]: row for row in rows(world)}
    assert [by_name[one.name]["pullInStatus"] for one in (sick, well)] == ["PullInFailed", "PullInSucceeded"]
    assert (by_name[sick.name]["reason"], by_name[sick.name]["since"]) == (
        "ContainersNotReady",
        "1970-01-01T12:00:03Z",
    )


def test_what_becomes_known_of_a_pod_after_it_was_pulled_out_is_reported_too() -> None:
    world = update(4, batchSize=2, bakeSeconds=600, pullInTimeoutSeconds=60)
    sick, _ = world.cluster.of(NEW)
    sick.containers_ready = False
    world.report_pods()
    report(world, 0, since=AT, reason="ContainersNotReady")
    world.wait(60_000)
    report(world, 0, event="Unhealthy: Readiness probe failed")
    row = next(row for row in rows(world) if row["name"] == sick.name)
    assert (row["event"], row["reason"]) == ("Unhealthy: Readiness probe failed", "ContainersNotReady")


def test_gates_that_never_open_are_no_pull_in_that_succeeded() -> None:
    world = opening(4, pullInTimeoutSeconds=60)
    world.wait(60_000)
    assert {row["pullInStatus"] for row in rows(world)} == {"PullInFailed"}


def test_a_pod_that_crashes_after_the_batch_has_failed_loses_its_traffic_too() -> None:
    world = update(6, batchSize=3, bakeSeconds=600)
    first, second, well = world.cluster.of(NEW)
    world.crash(first)
    world.crash(second)
    assert [one.open for one in (first, second, well)] == [False, False, True]
    assert batch(world).failed_replicas == 2


def test_a_pull_out_that_was_not_carried_out_is_part_of_the_next_one() -> None:
    world = update(6, batchSize=3, bakeSeconds=600)
    first, second, _ = world.cluster.of(NEW)
    world.gates_move = False
    world.crash(first)
    world.crash(second)
    assert last(world, m.PullOut).uids == [first.uid, second.uid]


def test_a_pull_out_is_not_sent_again_once_the_gates_are_closed() -> None:
    world = update(4, batchSize=2, bakeSeconds=600)
    world.crash(world.cluster.of(NEW)[0])
    issued = len(world.commands)
    for _ in range(10):
        world.wait(60_000)
    assert world.kinds[issued:] == []


def test_what_was_reported_of_a_pod_survives_the_loss_of_redis() -> None:
    world = update(4, batchSize=2, bakeSeconds=600, pullInTimeoutSeconds=60)
    sick = world.cluster.of(NEW)[0]
    sick.containers_ready = False
    world.report_pods()
    report(world, 0, since=AT, event="Unhealthy: probe failed", log="panic")
    world.wait(60_000)
    before = next(row for row in rows(world) if row["name"] == sick.name)
    flow = world.flow(NEW)
    seen = m.SpecObserved(
        namespace="default",
        instance="web",
        flow=m.FlowRef(name=NEW, uid=flow.uid),
        generation=1,
        created_at=1,
        spec={},
        status=world.status(NEW),
    )
    rebuilt = rebuild(world.instance.key, [seen], lambda *_: flow, world.now).pods[sick.uid]
    assert (rebuilt.event, rebuilt.log, rebuilt.since) == (before["event"], before["log"], AT)
    assert rebuilt.pull_in_sequence
