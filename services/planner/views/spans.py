"""The planner's spans of a release's trace: the finished release, its finished batches, and the requests of users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from services.planner.model.state import Batch, Flow, Instance
from services.planner.views.metrics import FAILURES
from shared.domain.deployflow import FlowPhase
from shared.domain.messages import FlowEvent
from shared.domain.requesters import via_of
from shared.observability import tracing
from shared.observability.tracing import Span

_MILESTONES: Final = {
    "surged": "surged_at",
    "smoked": "smoked_at",
    "pulled in": "pulled_in_at",
    "baked": "baked_at",
    "pulled out": "pulled_out_at",
}


def spans(instance: Instance, events: Sequence[FlowEvent]) -> Iterator[Span]:
    """Return the spans that end with these events of a stored decision."""
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
        _attributes(instance, flow)
        | {
            "triton.phase": str(flow.phase),
            "triton.batches": len(flow.batches),
            "triton.revision": flow.target_revision,
        },
        events=[("started", flow.started_at)] if flow.started_at else [],
        error=(flow.message or flow.reason or str(flow.phase)) if failed else "",
    )


def _since(flow: Flow) -> int:
    """Return the start of the release (ms): the creation of the DeployFlow, if the release waited since then.

    Kubernetes rounds the creation to seconds, so a release that started within that second did not wait.
    """
    waited = not flow.started_at or 1000 <= flow.started_at - flow.created_at < flow.started_at
    return flow.created_at if waited else flow.started_at


def _batch(instance: Instance, flow: Flow, batch: Batch, now: int) -> Span:
    milestones = ((name, getattr(batch, field)) for name, field in _MILESTONES.items())
    failed = batch.phase in FAILURES
    return Span(
        "canary" if batch.canary else "batch",
        tracing.batch(flow.uid, batch.number),
        tracing.release(flow.uid),
        batch.started_at or now,
        batch.finished_at or now,
        _attributes(instance, flow)
        | {
            "triton.batch": batch.number,
            "triton.batch_phase": str(batch.phase),
            "triton.batch_size": batch.size,
            "triton.canary": batch.canary,
            "triton.failed_replicas": batch.failed_replicas,
        },
        events=[(name, at) for name, at in milestones if at],
        error=(batch.message or batch.reason or str(batch.phase)) if failed else "",
    )


def _request(instance: Instance, flow: Flow, event: FlowEvent) -> Span:
    """Return a span without duration: somebody sent a request by kubectl, an API or Kafka."""
    return Span(
        f"request {event.command}",
        tracing.inside(flow.uid, event.id),
        tracing.release(flow.uid),
        event.at,
        event.at,
        _attributes(instance, flow)
        | {
            "user.name": event.requested_by,
            "triton.requested_via": via_of(event.requested_by, event.requested_via),
        }
        | {"triton.request": event.request, "triton.batch": event.batch, "triton.message": event.message},
    )


def _attributes(instance: Instance, flow: Flow) -> dict[str, Any]:
    return tracing.about(instance.namespace, instance.name, flow.name, flow.uid) | {
        "triton.action": flow.action,
        "triton.application": flow.app_name,
        "user.name": flow.requested_by,
    }
