"""The REST API: both versions on one FastAPI application, and what every request goes through first."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI, Header
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import Counter
from starlette.exceptions import HTTPException

from services.planner.api.access import Caller
from services.planner.api.calls import Calls, Request
from services.planner.api.problem import Kind, Problem

OLD: str = "/api/v1/"
"""Where answers come in the envelope of the first version."""
FAILED: int = 7
"""The `code` of the envelope of what did not succeed; 0 is success."""

_requests = Counter("triton_api_requests_total", "Requests to the APIs", ["api", "method", "code"])
Json = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Limiter(Protocol):
    def take(self, who: str, now: float) -> None:
        """Raises `Problem` for a caller that asks too often. Seconds of a clock that only goes forward."""


class Unlimited:
    def take(self, who: str, now: float) -> None:
        """As often as anybody likes."""


def calls_of(request: HttpRequest) -> Calls:
    calls: Calls = request.app.state.calls
    return calls


async def caller_of(
    request: HttpRequest,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    x_requested_by: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Caller:
    """Who calls; raises `Problem` for a token that nobody has, and for one that calls too often."""
    scheme, _, token = (authorization or "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else None
    caller = await calls_of(request).access.caller(bearer, x_requested_by or "")
    peer = request.client.host if request.client else ""
    request.app.state.limits.take(caller.name or peer, time.monotonic())
    return caller


async def asked(
    caller: Annotated[Caller, Depends(caller_of)],
    idempotency_key: Annotated[str | None, Header(include_in_schema=False)] = None,
    if_match: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Request:
    """A request for a change."""
    return Request(caller, idempotency_key or "", if_match or "")


Who = Annotated[Caller, Depends(caller_of)]
By = Annotated[Request, Depends(asked)]
TheCalls = Annotated[Calls, Depends(calls_of)]


def application(calls: Calls, *, limits: Limiter, body_bytes: int) -> FastAPI:
    """The whole REST API. `body_bytes`: the largest body that is read."""
    from services.planner.api import rest_v1

    app = FastAPI(
        title="Triton",
        summary="Releases applications on Kubernetes in controlled batches.",
        version="2",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.calls = calls
    app.state.limits = limits
    app.include_router(rest_v1.router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_middleware(_Guard, body_bytes=body_bytes)
    return app


async def _problem(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, Problem)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(round(error.retry_after), 1))
    if error.kind == Kind.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return refusal(request.url.path, error.kind.http, error.reason, str(error), headers)


async def _invalid(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = "; ".join(
        f"{'.'.join(str(part) for part in item['loc'] if part != 'body') or 'body'}: "
        f"{item['msg'].removeprefix('Value error, ')}"
        for item in error.errors()
    )
    return refusal(request.url.path, Kind.INVALID.http, "Invalid", told)


async def _of_http(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = HTTPStatus(error.status_code).phrase.replace(" ", "")
    text = f"{request.method} {request.url.path}: {error.detail}"
    return refusal(request.url.path, error.status_code, reason, text, dict(error.headers or {}))


def refusal(
    path: str, status: int, reason: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """In the envelope for the first version, else as problem details (RFC 9457)."""
    if path.startswith(OLD):
        return JSONResponse({"code": FAILED, "data": {}, "msg": message}, status, headers)
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    body |= {"detail": message, "reason": reason}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


class _Guard:
    """Counts the requests, and reads no body that is larger than allowed."""

    def __init__(self, app: App, body_bytes: int) -> None:
        self._app = app
        self._most = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        api = "v1" if scope["path"].startswith(OLD) else "v2"
        read = 0
        begun = False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body") or b"")
            if read > self._most:
                raise _TooLarge
            return message

        async def told(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                _requests.labels(api, scope["method"], str(message["status"])).inc()
            await send(message)

        try:
            await self._app(scope, counted, told)
        except _TooLarge:
            if begun:
                raise
            text = f"the body has more than the {self._most} bytes that are allowed"
            answer = refusal(scope["path"], Kind.TOO_LARGE.http, "TooLarge", text, {"Connection": "close"})
            await answer(scope, receive, told)


class _TooLarge(Exception):
    pass


def enveloped(data: Any, status: int = 200, msg: str = "success") -> Response:
    """A success of the first version."""
    body = json.dumps({"code": 0, "data": data, "msg": msg}, separators=(",", ":")).encode()
    return Response(body, status, media_type="application/json")
