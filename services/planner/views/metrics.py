"""What is counted of releases as they go: from the events that a decision has, so that a pod's news costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter, Histogram

from services.planner.model.state import Instance
from shared.domain.deployflow import Action, BatchPhase
from shared.domain.messages import FlowEvent

FAILURES: Final = (BatchPhase.SMOKE_FAILED, BatchPhase.BAKE_FAILED)
DEADLINE: Final = "ProgressDeadlineExceeded"
OTHER: Final = "Other"
REASONS: Final = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "Evicted",
        "StartupTimeout",
        "PullInFailed",
        "PodsMissing",
        "InvalidTemplate",
        DEADLINE,
        OTHER,
    }
)
"""Those that metrics tell apart; what a kubelet or a webhook makes up itself is `OTHER`."""
BATCH_BUCKETS: Final = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400)
FLOW_BUCKETS: Final = (5, 10, 30, 60, 300, 600, 1800, 3600, 14400, 86400)

_begun = Counter("triton_batches_started_total", "Batches that began", ["action"])
_failed = Counter("triton_batch_failures_total", "Batches that failed", ["phase", "reason"])
_phases = Histogram(
    "triton_batch_phase_duration_seconds",
    "How long batches were in a phase",
    ["phase"],
    buckets=BATCH_BUCKETS,
)
_batches = Histogram(
    "triton_batch_duration_seconds",
    "Batches from their begin to their end",
    ["action"],
    buckets=BATCH_BUCKETS,
)
_flows = Histogram(
    "triton_flow_duration_seconds",
    "Releases from their begin to their end",
    ["action", "outcome"],
    buckets=FLOW_BUCKETS,
)
_PHASE_BEFORE: Final = {
    f"Batch{BatchPhase.SMOKED}": BatchPhase.SMOKING,
    f"Batch{BatchPhase.BAKING}": BatchPhase.SMOKED,
    f"Batch{BatchPhase.BAKED}": BatchPhase.BAKING,
}
"""The phase that ends with an event. What the event counts of Baking is from the pods' traffic on."""

# a first one is a rise only where there was a 0
for _action in Action:
    _begun.labels(_action)
    _batches.labels(_action)
for _phase in _PHASE_BEFORE.values():
    _phases.labels(_phase)
for _phase in FAILURES:
    for _reason in REASONS:
        _failed.labels(_phase, _reason)


def bounded(reason: str) -> str:
    return reason if reason in REASONS else OTHER


def count(instance: Instance, events: Sequence[FlowEvent]) -> None:
    """Count what a decision that has been written down told; `instance` as it has left it."""
    for event in events:
        took = None if event.duration_ms is None else event.duration_ms / 1000
        if event.reason == "BatchStarted":
            _begun.labels(event.action).inc()
        elif event.reason == "BatchFinished" and took is not None:
            _batches.labels(event.action).observe(took)
        elif took is not None and (phase := _PHASE_BEFORE.get(event.reason)) is not None:
            _phases.labels(phase).observe(took)
        elif event.batch_phase in FAILURES and event.reason == f"Batch{event.batch_phase}":
            _failed.labels(event.batch_phase, bounded(_reason_of(instance, event))).inc()
        elif event.phase.finished and event.reason == event.phase and took is not None:
            _flows.labels(event.action, event.phase).observe(took)


def _reason_of(instance: Instance, event: FlowEvent) -> str:
    flow = next((flow for flow in instance.flows if flow.uid == event.flow.uid), None)
    return next((b.reason for b in flow.batches if b.number == event.batch), OTHER) if flow else OTHER
