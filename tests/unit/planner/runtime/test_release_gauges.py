"""The metrics of unfinished releases, which end with them."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from services.planner.runtime.flow_cache import DeployFlow, FlowCache
from services.planner.runtime.release_gauges import (
    BATCH,
    CANARY,
    CLEARED_SECONDS,
    NO_ALERT,
    AlertState,
    ReleaseGauges,
    alert_state,
)
from shared.domain.deploy_commands import CommandType
from shared.domain.topics import Key
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, create, press_next, starting, update, without_answer

FAILED = "triton_flow_batch_failed"
Labels = frozenset[tuple[str, str]]


def where(world: World) -> AlertState:
    return alert_state(world.instance, world.flow(NEW))


def failing(**strategy: Any) -> World:
    world = starting(4, **strategy)
    world.fail()
    return world


def test_a_batch_that_fails_is_reported_with_its_reason() -> None:
    assert where(failing()) == AlertState(True, "SmokeFailed", "CrashLoopBackOff")


@pytest.mark.parametrize("decided", [CommandType.CANCEL, CommandType.RETRY])
def test_it_ends_as_soon_as_somebody_has_decided(decided: CommandType) -> None:
    world = failing()
    world.silent |= {"surge", "cancel"}
    world.steer(NEW, decided)
    assert not world.flow(NEW).phase.finished
    assert where(world) == NO_ALERT


def test_what_ends_by_itself_waits_for_nobody() -> None:
    world = starting(4, onFailure="cancel")
    world.silent.add("cancel")
    world.fail()
    assert world.flow(NEW).failed
    assert where(world) == NO_ALERT


def test_a_batch_past_its_progress_deadline_is_distinguished() -> None:
    world = starting(4, progressDeadlineSeconds=30)
    world.wait(31_000)
    assert where(world) == AlertState(True, "SmokeFailed", "ProgressDeadlineExceeded", overdue=True)


def test_since_when_a_canary_waits_at_each_of_its_gates() -> None:
    world = create(5, batchSize=2, canary=1)
    smoked = world.now
    world.wait(60_000)
    assert where(world) == AlertState(gate=CANARY, waits=smoked / 1000)
    press_next(world)
    pulled_in = world.now
    world.wait(60_000)
    assert where(world) == AlertState(gate=CANARY, waits=pulled_in / 1000)
    press_next(world)
    finished = world.now
    world.wait(60_000)
    assert where(world) == AlertState(gate=CANARY, waits=finished / 1000)


def test_since_when_a_batch_by_hand_waits() -> None:
    world = update(4, batchSize=2, mode="manual")
    finished = world.now
    world.wait(60_000)
    assert where(world) == AlertState(gate=BATCH, waits=finished / 1000)


def test_a_gate_of_which_only_status_is_left_is_waited_at_since_its_batch_began() -> None:
    world = create(5, batchSize=2, canary=1)
    world.lose_redis()
    found = where(world)
    assert found.gate == CANARY
    assert 0 < found.waits <= world.now / 1000


def test_since_when_a_command_has_no_answer() -> None:
    world = without_answer("surge")
    issued = world.now
    assert where(world) == NO_ALERT
    world.wait(60_000)
    assert where(world) == AlertState(unanswered=issued / 1000)


class Cache:
    """The DeployFlows as the API server has them, and which of them are this replica's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.owned = True
        self.gone = False

    def owns(self, key: Key) -> bool:
        return self.owned

    def get(self, namespace: str, name: str) -> DeployFlow | None:
        body = self.world.seen(name)
        return None if self.gone else msgspec.convert({**body, "metadata": _meta(body)}, DeployFlow)

    def finished_after(self, time: str) -> list[DeployFlow]:
        flows = [self.get("", name) for name in self.world.flows]
        return [flow for flow in flows if flow and flow.finished and flow.status["finishedAt"] > time]


def _meta(body: Any) -> Any:
    return {name: body["metadata"][name] for name in ("namespace", "name", "generation")}


class Scraped:
    """A planner's answers to Prometheus, in a simulated world."""

    def __init__(self, world: World) -> None:
        self.cache = Cache(world)
        self.world = world
        self.later = 0.0
        self.overview = ReleaseGauges(cast("FlowCache", self.cache), lambda: world.now / 1000 + self.later)

    def restart(self) -> None:
        self.overview = ReleaseGauges(
            cast("FlowCache", self.cache), lambda: self.world.now / 1000 + self.later
        )

    def changed(self) -> None:
        self.overview.changed(self.world.instance)

    def of(self, metric: str, **labels: str) -> list[float]:
        families = {family.name: family for family in self.overview.collect()}
        return [s.value for s in families[metric].samples if labels.items() <= s.labels.items()]


def scraped(world: World) -> Scraped:
    found = Scraped(world)
    found.changed()
    return found


def test_a_release_has_one_series_by_its_labels() -> None:
    found = scraped(failing())
    (sample,) = next(flow for flow in found.overview.collect() if flow.name == FAILED).samples
    assert sample.labels == {
        "namespace": "default",
        "application_instance": "web",
        "app": "web",
        "deployflow": NEW,
        "action": "update",
    }
    assert sample.value == 1
    assert found.of("triton_flow_failure_info", reason="CrashLoopBackOff", batch_phase="SmokeFailed") == [1]
    assert found.of("triton_flows", action="update", phase="BatchStarted") == [1]
    assert found.of("triton_flow_batches") == [2]
    assert found.of("triton_flow_batches_finished") == [0]


def test_only_the_replica_that_has_the_partition_reports() -> None:
    found = scraped(failing())
    found.cache.owned = False
    assert found.of(FAILED) == []
    assert set(found.of("triton_flows")) == {0.0}


def test_what_may_have_gone_on_elsewhere_is_not_reported_before_it_is_read_again() -> None:
    found = scraped(failing())
    assert found.of(FAILED) == [1]
    found.overview.forget()
    assert found.of(FAILED) == []
    found.changed()
    assert found.of(FAILED) == [1]


def test_a_release_that_is_finished_is_0_for_a_while_and_then_nothing() -> None:
    found = scraped(failing())
    assert found.of(FAILED) == [1]
    found.world.steer(NEW, CommandType.CANCEL)
    found.changed()
    assert found.of(FAILED) == [0]
    assert found.of("triton_flow_failure_info") == found.of("triton_flow_batches") == []
    found.later = CLEARED_SECONDS - 1
    assert found.of(FAILED) == [0]
    found.later = CLEARED_SECONDS + 1
    assert found.of(FAILED) == []


def test_one_that_is_deleted_is_0_too() -> None:
    found = scraped(failing())
    assert found.of(FAILED) == [1]
    found.world.delete(NEW)
    found.changed()
    found.cache.gone = True
    assert found.of(FAILED) == [0]


def test_one_that_ended_just_before_the_planner_did_is_0() -> None:
    found = scraped(failing())
    found.world.steer(NEW, CommandType.CANCEL)
    found.restart()
    assert found.of(FAILED) == [0]
    found.later = CLEARED_SECONDS + 1
    assert found.of(FAILED) == []


def test_one_that_was_retried_with_success_is_0_after_a_restart() -> None:
    found = scraped(failing())
    found.world.containers_start = True
    found.world.steer(NEW, CommandType.RETRY)
    assert found.world.flow(NEW).phase == "Success"
    found.restart()
    assert found.of(FAILED) == [0]


def test_one_that_succeeded_at_once_leaves_nothing() -> None:
    found = scraped(update(4, batchSize=2))
    assert found.world.flow(NEW).phase == "Success"
    assert found.of(FAILED) == []
