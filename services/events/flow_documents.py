"""The facts about releases, from the planner's events."""

from __future__ import annotations

from services.events.document_fields import (
    Fact,
    action_name,
    event_fields,
    reason_fields,
    release_fields,
    requester_fields,
    resource_fields,
    sentence,
    timing_fields,
)
from shared.domain.deployflow import BatchPhase, FlowPhase
from shared.domain.json_types import Json
from shared.domain.messages import AppRef, FlowEvent
from shared.event_store import Stream


def flow_fact(event: FlowEvent) -> Fact:
    outcome = _outcome(event)
    kind = "error" if outcome == "failure" else "end" if event.phase.finished else "change"
    fields: Json = {
        **timing_fields(event.at, event.at, event.duration_ms),
        "message": f"{event.flow.name}{_batch_words(event)}: {sentence(event.reason, event.message)}",
        **event_fields("planner", "configuration", kind, action_name(event.reason), outcome),
        **reason_fields(event.reason, event.message),
        **resource_fields(event.flow.name, event.flow.uid),
        **release_fields(
            event.flow, AppRef(name=event.app_name, app_id=event.app_id, group_id=event.group_id)
        ),
        **requester_fields(
            event.requested_by, event.requested_by_claimed, event.requested_via, event.flow.release_requester
        ),
        "triton.application_id": event.app_id,
        "triton.group": event.group_id,
        "triton.action": event.action,
        "triton.command": event.command,
        "triton.request": event.request,
        "triton.phase": event.phase,
        "triton.batches": event.batches or None,
        "triton.failed_replicas": event.failed_replicas or None,
        "triton.revision": event.revision,
        "triton.image_from": [one.from_image for one in event.images if one.from_image] or None,
        "triton.image_to": [one.to_image for one in event.images if one.to_image] or None,
        "triton.age_ms": max(event.at - event.started_at, 0) if event.started_at else None,
    }
    if event.batch:
        fields |= {
            "triton.batch": event.batch,
            "triton.batch_phase": event.batch_phase,
            "triton.batch_size": event.batch_size,
            "triton.canary": event.canary,
            "triton.step": _step(event),
        }
    return Fact(Stream.DEPLOYFLOW, event.id, fields)


def _outcome(event: FlowEvent) -> str:
    if event.command:
        return "unknown"  # its effects are events of their own
    if event.phase.finished:
        return {FlowPhase.SUCCESS: "success", FlowPhase.FAILED: "failure"}.get(event.phase, "unknown")
    if (
        event.batch_phase in {BatchPhase.SMOKE_FAILED, BatchPhase.BAKE_FAILED}
        or event.reason == "BatchFailed"
    ):
        return "failure"
    return "success" if event.batch_phase in {BatchPhase.SMOKED, BatchPhase.BAKED} else "unknown"


def _step(event: FlowEvent) -> str:
    """Return the batch command that the event belongs to."""
    if event.reason in {"BatchFinished", "BatchFailed"}:
        return "retire"
    smoke = {BatchPhase.SMOKING, BatchPhase.SMOKED, BatchPhase.SMOKE_FAILED}
    return "surge" if event.batch_phase in smoke else "pull_in"


def _batch_words(event: FlowEvent) -> str:
    if not event.batch:
        return ""
    return f" batch {event.batch}/{event.batches}{' (canary)' if event.canary else ''}"
