"""The answers of the second version of the REST API, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from services.planner.api.rest_responses import PROBLEM
from shared.domain.json_types import Json

ETAG: Final = {
    "ETag": {
        "description": "Of this state of the DeployFlow, for If-Match and If-None-Match.",
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
}
_DESCRIPTIONS: Final = {
    400: "The request can't be read, or does not fit.",
    401: "No token, or none that the cluster knows.",
    403: "A right is missing: `detail` names it; or, without login, a web page of another site called.",
    404: "There is none.",
    408: "The header or the body did not come in time.",
    409: "The state of the release does not allow it: `reason` says why.",
    412: "The DeployFlow has changed since it was read (If-Match).",
    413: "The body is too large.",
    415: "The body does not say that it is JSON: `Content-Type: application/json`.",
    422: "It can be read but not be done.",
    429: "Too many requests, connections or streams of this caller.",
    431: "The header is too large.",
    503: "Something that is needed is away for now, or too many connections are open.",
}


def _problem(code: int) -> Json:
    answer: Json = {
        "description": _DESCRIPTIONS[code],
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    }
    return answer | ({"headers": _RETRY_AFTER} if code in {429, 503} else {})


def answers(*codes: int, body: bool = False, success: tuple[int, Json] | None = None) -> Any:
    """Describe what an operation may answer beside its plain success. `body`: it reads one."""
    every = {400, 401, 403, 408, 429, 431, 503, *codes, *((413, 415) if body else ())}
    described: dict[int | str, Json] = {code: _problem(code) for code in sorted(every)}
    return described | (dict([success]) if success else {})


ONE_FLOW: Final = (200, {"headers": ETAG})
MADE: Final = (
    201,
    {
        "headers": ETAG
        | {
            "Location": {
                "description": "Of the DeployFlow.",
                "schema": {"type": "string", "format": "uri-reference"},
            }
        }
    },
)


def event_stream(schema: str) -> tuple[int, Json]:
    """Describe server-sent events, each with data of this schema."""
    data = {
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": f"#/components/schemas/{schema}"},
    }
    event = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "id": {"type": "string", "description": "For Last-Event-ID."},
            "event": {"enum": ["message", "end"], "description": "After `end` nothing comes."},
            "data": {"type": "string", **data},
        },
    }
    description = "Server-sent events, with a comment now and then."
    return 200, {"description": description, "content": {"text/event-stream": {"schema": event}}}
