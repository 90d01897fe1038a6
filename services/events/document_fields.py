"""Fields that the documents of several kinds of facts share, by their dotted names in ECS."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from shared.domain.json_types import Json
from shared.domain.messages import AppRef, FlowRef
from shared.event_store import Stream, from_ms


class Fact(NamedTuple):
    """The content of a document; `fields` by their dotted names."""

    stream: Stream
    id: str
    fields: Json


def event_fields(provider: str, category: str, kind: str, action: str, outcome: str) -> Json:
    """Return ECS's categorisation of what happened; `provider`: who reports it."""
    return {
        "event.provider": provider,
        "event.category": [category],
        "event.type": [kind],
        "event.action": action,
        "event.outcome": outcome,
    }


def reason_fields(reason: str, message: str) -> Json:
    return {"event.reason": reason, "triton.reason": reason, "triton.message": message}


def resource_fields(name: str, uid: str) -> Json:
    return {"orchestrator.resource.name": name, "orchestrator.resource.id": uid}


def release_fields(flow: FlowRef | None, app: AppRef) -> Json:
    """Return the application and, if one was under way, the release; `user.name` is who approved it last."""
    fields: Json = {
        "triton.application": app.name,
        "triton.application_id": app.app_id or None,
        "triton.group": app.group_id or None,
    }
    if flow is not None:
        fields |= {
            "trace.id": flow.uid.replace("-", ""),
            "user.name": flow.requested_by,
            "triton.requested_by_claimed": flow.requested_by_claimed or None,
            "triton.deployflow": flow.name,
            "triton.uid": flow.uid,
            "triton.batch": flow.batch or None,
        }
    return fields


def timing_fields(at: int, seen: int, duration_ms: int | None) -> Json:
    """Return when it happened (`@timestamp`), was published (`event.created`), and how long it took (ns, as in ECS)."""
    fields: Json = {"@timestamp": from_ms(at), "event.created": from_ms(seen)}
    if duration_ms is not None:
        fields |= {
            "event.start": from_ms(at - duration_ms),
            "event.end": from_ms(at),
            "event.duration": duration_ms * 1_000_000,
        }
    return fields


def sentence(reason: str, text: str) -> str:
    return f"{reason}: {text}" if reason and text else reason or text


@cache
def action_name(reason: str) -> str:
    """Return `SmokeFailed` as `smoke-failed`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", reason).lower()
