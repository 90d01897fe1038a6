"""The bodies of REST's answers: JSON, the envelope of the first version, and problems (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi.responses import JSONResponse, Response

from services.planner.api.problem import Kind, Problem
from shared.domain.json_types import Json

V1_PREFIX: Final = "/api/v1/"
"""The paths whose answers have the envelope of the first version."""
FAILED: Final = 7
"""The `code` in the envelope of a failure; 0 is success."""
PROBLEM: Final = "application/problem+json"


def json_response(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(data), status, headers, media_type="application/json")


def enveloped(data: Any, status: int = 200, msg: str = "success") -> Response:
    """Return a success of the first version."""
    body = json.dumps({"code": 0, "data": data, "msg": msg}, separators=(",", ":")).encode()
    return Response(body, status, media_type="application/json")


def refusal(
    path: str, status: int, reason: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Return an error: enveloped for the first version, else as problem details (RFC 9457)."""
    if path.startswith(V1_PREFIX):
        return JSONResponse({"code": FAILED, "data": {}, "msg": message}, status, headers)
    return JSONResponse(_details(status, reason, message), status, headers, media_type=PROBLEM)


def problem_response(path: str, problem: Problem) -> Response:
    """Return the answer to a call that ended with a problem."""
    headers = {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(max(round(problem.retry_after), 1))
    if problem.kind == Kind.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return refusal(path, problem.kind.http, problem.reason, str(problem), headers)


def problem_details(problem: Problem) -> Json:
    """Return a problem as a part of an answer."""
    return _details(problem.kind.http, problem.reason, str(problem))


def _details(status: int, reason: str, message: str) -> Json:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": message,
        "reason": reason,
    }
