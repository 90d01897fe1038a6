"""Fields that the documents of several kinds of facts share, by their dotted names in ECS."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from shared.domain.json_types import Json
from shared.domain.messages import AppRef, FlowRef, ReleaseRequester
from shared.domain.requesters import via_of
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
            **requester_fields(
                flow.requested_by, flow.requested_by_claimed, flow.requested_via, flow.release_requester
            ),
            "triton.deployflow": flow.name,
            "triton.uid": flow.uid,
            "triton.batch": flow.batch or None,
        }
    return fields


def requester_fields(name: str, claimed: bool, via: str, release: ReleaseRequester | None) -> Json:
    """Return who sent the last request, and who requested the `release`; None: the same."""
    first = release or ReleaseRequester(name=name, claimed=claimed, via=via)
    return {
        "user.name": name,
        "triton.requested_by_claimed": claimed or None,
        "triton.requested_via": via_of(name, via),
        "triton.release_requested_by": first.name,
        "triton.release_requested_by_claimed": first.claimed or None,
        "triton.release_requested_via": via_of(first.name, first.via),
    }


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
