"""Metrics of releases: each event is counted once, with bounded labels."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.planner.views import metrics
from shared.domain.deploy_commands import CommandType
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, create, press_next, starting, update


class Counted:
    """How much a metric rises while `world` is counted."""

    def __init__(self, *worlds: World) -> None:
        before = _all()
        for world in worlds:
            for entry in world.history:
                metrics.count(entry.decision.instance, entry.decision.events)
        self._rises = {key: value - before.get(key, 0) for key, value in _all().items()}

    def of(self, metric: str, **labels: str) -> float:
        return self._rises.get((metric, frozenset(labels.items())), 0)


def _all() -> dict[Any, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
    }


def test_batches_and_releases_are_counted_with_what_they_took() -> None:
    world = update(4, batchSize=2, bakeSeconds=10, batchIntervalSeconds=30)
    world.run_until(lambda: world.flow(NEW).phase.finished)
    counted = Counted(world)
    assert counted.of("triton_batches_started_total", action="update") == 2
    assert counted.of("triton_batch_duration_seconds_count", action="update") == 2
    assert counted.of("triton_batch_phase_duration_seconds_count", phase="Baking") == 2
    assert counted.of("triton_batch_phase_duration_seconds_sum", phase="Baking") == pytest.approx(20, abs=1)
    assert counted.of("triton_flow_duration_seconds_count", action="update", outcome="Success") == 1
    took = counted.of("triton_flow_duration_seconds_sum", action="update", outcome="Success")
    assert took == pytest.approx(50, abs=1)


def test_how_long_a_canary_waited_at_its_gate_is_its_time_in_smoked() -> None:
    world = create(5, batchSize=2, canary=1)
    world.wait(600_000)
    press_next(world)
    counted = Counted(world)
    assert counted.of("triton_batch_phase_duration_seconds_count", phase="Smoking") == 1
    assert counted.of("triton_batch_phase_duration_seconds_sum", phase="Smoked") == pytest.approx(600, abs=1)


def test_a_failed_batch_is_counted_once_with_its_reason() -> None:
    world = starting(4)
    world.fail()
    world.steer(NEW, CommandType.PAUSE)
    world.steer(NEW, CommandType.CANCEL)
    counted = Counted(world)
    failed = "triton_batch_failures_total"
    assert counted.of(failed, phase="SmokeFailed", reason="CrashLoopBackOff") == 1
    assert sum(value for (name, _), value in counted._rises.items() if name == failed) == 1
    assert counted.of("triton_flow_duration_seconds_count", action="update", outcome="Canceled") == 1


def test_a_batch_that_is_retried_fails_each_time_again() -> None:
    world = starting(4)
    world.fail()
    world.steer(NEW, CommandType.RETRY)
    world.fail()
    counted = Counted(world)
    assert counted.of("triton_batch_failures_total", phase="SmokeFailed", reason="CrashLoopBackOff") == 2


def test_a_first_failure_is_a_rise() -> None:
    known = _all()
    for phase in metrics.FAILURES:
        assert ("triton_batch_failures_total", frozenset({("phase", phase), ("reason", "Other")})) in known


def test_a_reason_that_a_kubelet_has_made_up_makes_no_series_of_its_own() -> None:
    assert metrics.bounded("SomethingOfItsOwn") == "Other"
    assert metrics.bounded("CrashLoopBackOff") == "CrashLoopBackOff"
