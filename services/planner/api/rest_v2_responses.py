"""The answers of the second version of the REST API, and what its bodies have sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec
from fastapi.responses import Response
from pydantic import BaseModel

from services.planner.api import sse
from services.planner.api.change_calls import etag
from services.planner.api.release_calls import InstanceResult
from services.planner.api.release_event_streams import StreamedEvent
from services.planner.api.rest_responses import json_response, problem_details
from shared.domain.json_types import Json

V2_PREFIX: Final = "/api/v2"
FLOWS: Final = "/namespaces/{namespace}/deployflows"
FLOW: Final = FLOWS + "/{name}"


def flow_response(flow: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return json_response(flow, status, {"ETag": etag(flow), **(headers or {})})


def made_response(flow: Json, status: int = 201) -> Response:
    meta = flow["metadata"]
    path = FLOW.format(namespace=meta["namespace"], name=meta["name"])
    return flow_response(flow, status, {"Location": V2_PREFIX + path})


def page_response(flows: list[Json], limit: int, cursor: str | None) -> Response:
    """Return a page, newest first, behind the release that the cursor names, which may be deleted meanwhile."""
    placed = sorted(((_place(flow), flow) for flow in flows), key=lambda pair: pair[0], reverse=True)
    behind = tuple((cursor or "").split("/"))
    left = [pair for pair in placed if not cursor or pair[0] < behind]
    page = left[:limit]
    next_cursor = "/".join(page[-1][0]) if len(left) > limit else None
    return json_response({"items": [flow for _, flow in page], "continue": next_cursor})


def _place(flow: Json) -> tuple[str, ...]:
    """Return a sort key that never changes, so that no page repeats or skips a release."""
    meta = flow["metadata"]
    return meta["creationTimestamp"], meta["namespace"], meta["name"]


def bulk_response(results: list[InstanceResult]) -> Response:
    items = [
        {
            "instance": result.instance,
            "deployFlow": result.flow["metadata"]["name"] if result.flow else None,
            "problem": problem_details(result.problem) if result.problem else None,
        }
        for result in results
    ]
    return json_response({"items": items}, 207)


def sent_fields(body: BaseModel | None) -> Json:
    """Return the fields that were sent, without defaults."""
    return {} if body is None else body.model_dump(mode="json", exclude_unset=True)


def with_pods(strategy: BaseModel | None, pods: list[str] | None) -> Json:
    return sent_fields(strategy) | ({"podsToDelete": pods} if pods else {})


async def state_events(
    first: list[Json | None], states: AsyncGenerator[Json | None]
) -> AsyncGenerator[bytes]:
    """Yield each state as an event. `first` is emptied: a stream that waits keeps no state."""
    async with aclosing(states):
        state = first.pop()
        while True:
            finished = bool(state and state["status"]["finished"])
            data = sse.event(msgspec.json.encode(state)) if state else b""
            del state
            yield data
            del data
            if finished:
                break
            try:
                state = await anext(states)
            except StopAsyncIteration:
                break
        yield sse.END


async def release_events(events: AsyncGenerator[StreamedEvent | None]) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            if event is None or event.value:
                yield sse.event(event.value, event.id) if event else b""
            if event and event.last:
                yield sse.END
