"""Counters and histograms of releases, fed by the events of decisions.

Most facts about pods produce no event, so they cost nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter, Histogram

from services.planner.model.state import Instance
from shared.domain.deployflow import Action, BatchPhase, FailureReason
from shared.domain.messages import FlowEvent

FAILURES: Final = (BatchPhase.SMOKE_FAILED, BatchPhase.BAKE_FAILED)
REASONS: Final = frozenset(FailureReason)
"""The reasons that have a series of their own; any other of a kubelet or a webhook is counted as `OTHER`."""
BATCH_BUCKETS: Final = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400)
FLOW_BUCKETS: Final = (5, 10, 30, 60, 300, 600, 1800, 3600, 14400, 86400)

_started = Counter("triton_batches_started_total", "Batches started", ["action"])
_failed = Counter("triton_batch_failures_total", "Batches that failed", ["phase", "reason"])
_phases = Histogram(
    "triton_batch_phase_duration_seconds",
    "How long batches were in a phase",
    ["phase"],
    buckets=BATCH_BUCKETS,
)
_batches = Histogram(
    "triton_batch_duration_seconds",
    "Duration of batches, from start to end",
    ["action"],
    buckets=BATCH_BUCKETS,
)
_flows = Histogram(
    "triton_flow_duration_seconds",
    "Duration of releases, from start to end",
    ["action", "outcome"],
    buckets=FLOW_BUCKETS,
)
_PHASE_BEFORE: Final = {
    f"Batch{BatchPhase.SMOKED}": BatchPhase.SMOKING,
    f"Batch{BatchPhase.BAKING}": BatchPhase.SMOKED,
    f"Batch{BatchPhase.BAKED}": BatchPhase.BAKING,
}
"""The phase that each event ends. The duration of Baking starts when the pods take traffic."""

# `increase()` sees the first failure only if the series existed with 0 before
for _action in Action:
    _started.labels(_action)
    _batches.labels(_action)
for _phase in _PHASE_BEFORE.values():
    _phases.labels(_phase)
for _phase in FAILURES:
    for _reason in REASONS:
        _failed.labels(_phase, _reason)


def bounded(reason: str) -> str:
    """Return the reason as a label that has a limited number of values."""
    return reason if reason in REASONS else FailureReason.OTHER


def count(instance: Instance, events: Sequence[FlowEvent]) -> None:
    """Count the events of a stored decision; `instance` is the state after it."""
    for event in events:
        seconds = None if event.duration_ms is None else event.duration_ms / 1000
        if event.reason == "BatchStarted":
            _started.labels(event.action).inc()
        elif event.reason == "BatchFinished" and seconds is not None:
            _batches.labels(event.action).observe(seconds)
        elif seconds is not None and (phase := _PHASE_BEFORE.get(event.reason)) is not None:
            _phases.labels(phase).observe(seconds)
        elif event.batch_phase in FAILURES and event.reason == f"Batch{event.batch_phase}":
            _failed.labels(event.batch_phase, bounded(_reason_of(instance, event))).inc()
        elif event.phase.finished and event.reason == event.phase and seconds is not None:
            _flows.labels(event.action, event.phase).observe(seconds)


def _reason_of(instance: Instance, event: FlowEvent) -> str:
    flow = next((flow for flow in instance.flows if flow.uid == event.flow.uid), None)
    return (
        next((b.reason for b in flow.batches if b.number == event.batch), FailureReason.OTHER)
        if flow
        else FailureReason.OTHER
    )
