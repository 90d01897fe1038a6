"""What the planner tells of a release's trace: the release and its batches when they are over, and who asked for what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from services.planner.model.state import Batch, Flow, Instance
from services.planner.views.metrics import FAILURES
from shared.domain.deployflow import FlowPhase
from shared.domain.messages import FlowEvent
from shared.observability import tracing
from shared.observability.tracing import Span

_ON_THE_WAY: Final = {
    "surged": "surged_at",
    "smoked": "smoked_at",
    "pulled in": "pulled_in_at",
    "baked": "baked_at",
    "pulled out": "pulled_out_at",
}


def spans(instance: Instance, events: Sequence[FlowEvent]) -> Iterator[Span]:
    """Of a decision that has been written down, and told these events."""
    flows = {flow.uid: flow for flow in instance.flows}
    for event in events:
        flow = flows.get(event.flow.uid)
        if flow is None:
            continue
        if event.command:
            yield _request(instance, flow, event)
        if event.reason == "BatchFinished":
            yield from (_batch(instance, flow, b, event.at) for b in flow.batches if b.number == event.batch)
        elif event.phase.finished and event.reason == event.phase:
            yield from (_batch(instance, flow, b, event.at) for b in flow.batches if not b.finished_at)
            yield _release(instance, flow, event)


def _release(instance: Instance, flow: Flow, event: FlowEvent) -> Span:
    failed = flow.phase == FlowPhase.FAILED
    return Span(
        f"{flow.action} release",
        tracing.release(flow.uid),
        None,
        _since(flow) or event.at,
        event.at,
        _about(instance, flow)
        | {
            "triton.phase": str(flow.phase),
            "triton.batches": len(flow.batches),
            "triton.revision": flow.target_revision,
        },
        events=[("started", flow.started_at)] if flow.started_at else [],
        error=(flow.message or flow.reason or str(flow.phase)) if failed else "",
    )


def _since(flow: Flow) -> int:
    """From the making of the DeployFlow, which is known to the second: what began within it has not waited."""
    waited = not flow.started_at or 1000 <= flow.started_at - flow.created_at < flow.started_at
    return flow.created_at if waited else flow.started_at


def _batch(instance: Instance, flow: Flow, batch: Batch, now: int) -> Span:
    on_the_way = ((name, getattr(batch, field)) for name, field in _ON_THE_WAY.items())
    failed = batch.phase in FAILURES
    return Span(
        "canary" if batch.canary else "batch",
        tracing.batch(flow.uid, batch.number),
        tracing.release(flow.uid),
        batch.started_at or now,
        batch.finished_at or now,
        _about(instance, flow)
        | {
            "triton.batch": batch.number,
            "triton.batch_phase": str(batch.phase),
            "triton.batch_size": batch.size,
            "triton.canary": batch.canary,
            "triton.failed_replicas": batch.failed_replicas,
        },
        events=[(name, at) for name, at in on_the_way if at],
        error=(batch.message or batch.reason or str(batch.phase)) if failed else "",
    )


def _request(instance: Instance, flow: Flow, event: FlowEvent) -> Span:
    """At a moment: by kubectl, an API or Kafka, somebody has asked for something."""
    return Span(
        f"request {event.command}",
        tracing.inside(flow.uid, event.id),
        tracing.release(flow.uid),
        event.at,
        event.at,
        _about(instance, flow)
        | {"triton.request": event.request, "triton.batch": event.batch, "triton.message": event.message},
    )


def _about(instance: Instance, flow: Flow) -> dict[str, Any]:
    return tracing.about(instance.namespace, instance.name, flow.name, flow.uid) | {
        "triton.action": flow.action,
        "triton.application": flow.app_name,
        "user.name": flow.requested_by,
    }
