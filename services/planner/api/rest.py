"""The REST API: both versions on one FastAPI application, and what every request goes through first."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, FastAPI, Header, Path
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import Counter
from pydantic import AfterValidator, BeforeValidator, StringConstraints
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException
from starlette.routing import Route

from services.planner.api.access import Caller, let_in
from services.planner.api.calls import NAME, NAMESPACE, Calls, Request
from services.planner.api.problem import Kind, Problem
from services.planner.api.rate_limits import RateLimiter
from services.planner.api.sse import HANDED_OVER, EventStream

OLD: Final = "/api/v1/"
"""Where answers come in the envelope of the first version."""
FAILED: Final = 7
"""The `code` of the envelope of what did not succeed; 0 is success."""
BODY_SECONDS: Final = 30
"""So long a body may take to arrive."""
PROBLEM: Final = "application/problem+json"

_requests = Counter("triton_api_requests_total", "Requests to the APIs", ["api", "method", "code"])
_log = logging.getLogger(__name__)
_METHODS: Final = {"GET", "POST", "PATCH", "DELETE"}
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[-+]\d\d:?\d\d)?")
Json = dict[str, Any]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def calls_of(request: HttpRequest) -> Calls:
    calls: Calls = request.app.state.calls
    return calls


async def caller_of(request: HttpRequest) -> Caller:
    """Who calls: known before anything else of the request is read."""
    caller: Caller = request.state.caller
    return caller


async def _let_in(request: HttpRequest) -> Caller:
    # headers are read as Latin-1, names are sent as UTF-8
    claimed = request.headers.get("x-requested-by", "").encode("latin-1").decode(errors="replace")
    return await let_in(
        calls_of(request).access,
        request.app.state.limits,
        request.headers.get("authorization", ""),
        claimed,
        request.client.host if request.client else "",
    )


Key = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")]
IDEMPOTENCY_KEY = Header(
    alias="Idempotency-Key",
    description="Names the request, up to 255 characters: sent again with the same key it is done once, and "
    "answered as before. A key belongs to its caller, method and path.",
    examples=["5f0c7a52-deploy-1"],
)
IF_MATCH = Header(
    alias="If-Match",
    description="The `ETag` that the DeployFlow must still have; else nothing is done (412).",
)


async def asked(
    request: HttpRequest,
    caller: Annotated[Caller, Depends(caller_of)],
    idempotency_key: Annotated[Key | SkipJsonSchema[None], IDEMPOTENCY_KEY] = None,
) -> Request:
    """A request for a change."""
    named = f"{request.method} {request.url.path} {idempotency_key}" if idempotency_key else ""
    return Request(caller, named)


async def asked_of_one(
    by: Annotated[Request, Depends(asked)], if_match: Annotated[str, IF_MATCH] = ""
) -> Request:
    """A request for a change of one DeployFlow."""
    return by._replace(match=if_match)


Who = Annotated[Caller, Depends(caller_of)]
By = Annotated[Request, Depends(asked)]
ByOfOne = Annotated[Request, Depends(asked_of_one)]
TheCalls = Annotated[Calls, Depends(calls_of)]
Namespace = Annotated[str, Path(pattern=NAMESPACE, max_length=63, examples=["default"])]
Name = Annotated[str, Path(pattern=NAME, max_length=253)]


def _as_rfc_3339(given: object) -> object:
    if isinstance(given, str) and not _RFC_3339.fullmatch(given):
        raise ValueError("give a time as in RFC 3339, 2026-11-21T10:00:00Z")
    return given


def _in_utc(time: datetime) -> datetime:
    """A time without a zone is UTC."""
    try:
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("too far away") from error


Moment = Annotated[datetime, BeforeValidator(_as_rfc_3339), AfterValidator(_in_utc)]


class JsonRoute(APIRoute):
    """Takes a body only where it is JSON to the letter, and such as Kubernetes takes too."""

    def get_route_handler(self) -> Callable[[HttpRequest], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: HttpRequest) -> Response:
            request.state.caller = await _let_in(request)
            return await handle(_JsonRequest(request.scope, request.receive))

        return handled


class StrictRoute(JsonRoute):
    """Refuses a query that says what nobody asks, or the same twice: a misspelt filter would show too much."""

    def get_route_handler(self) -> Callable[[HttpRequest], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = {field.alias for field in self.dependant.query_params}

        async def handled(request: HttpRequest) -> Response:
            given = [name for name, _ in request.query_params.multi_items()]
            if unknown := set(given) - known:
                there = ", ".join(sorted(known)) or "none"
                text = f"query: there is no {', '.join(sorted(unknown))}; there is {there}"
                raise Problem(Kind.INVALID, "Invalid", text)
            if len(given) > len(set(given)):
                raise Problem(Kind.INVALID, "Invalid", "query: says the same twice")
            return await handle(request)

        return handled


class _JsonRequest(HttpRequest):
    async def json(self) -> Any:
        try:
            given = _numbered(msgspec.json.decode(await self.body()))
        except (ValueError, OverflowError, RecursionError) as error:
            raise HTTPException(Kind.INVALID.http, f"the body can't be read: {error}") from error
        return given


def _numbered(given: Any) -> Any:
    """In JSON 3.0 is a whole number, and one of more than 64 bits is a float, as to Kubernetes."""
    if isinstance(given, dict):
        return {key: _numbered(value) for key, value in given.items()}
    if isinstance(given, list):
        return [_numbered(value) for value in given]
    if isinstance(given, int) and not -(2**63) <= given < 2**63:
        return float(given)
    if isinstance(given, float) and given.is_integer() and abs(given) < 2**53:
        return int(given)
    return given


def application(calls: Calls, *, limits: RateLimiter, body_bytes: int) -> FastAPI:
    """The whole REST API. `body_bytes`: the largest body that is read."""
    from services.planner.api import openapi, rest_v1, rest_v2

    app = FastAPI(
        title="Triton",
        summary="Releases applications on Kubernetes in controlled batches.",
        version="2",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.calls = calls
    app.state.limits = limits
    app.state.routes = [route for route in app.routes if isinstance(route, Route)]
    for router in (rest_v1.router, rest_v2.router, openapi.router):
        app.include_router(router)
        app.state.routes += router.routes
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _fault)
    app.add_middleware(_Guard, body_bytes=body_bytes)
    return app


def _operation_id(route: APIRoute) -> str:
    return f"v1_{route.name}" if route.path.startswith(OLD) else route.name


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
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(set(_methods(request))))
    text = f"{request.method} {request.url.path}: {error.detail}"
    return refusal(request.url.path, error.status_code, _reason(error.status_code), text, headers)


def _methods(request: HttpRequest) -> Iterator[str]:
    """Those that the path has."""
    for route in request.app.state.routes:
        if route.path_regex.match(request.url.path):
            yield from route.methods


async def _fault(request: HttpRequest, error: Exception) -> Response:
    _log.error("%s %s", request.method, request.url.path, exc_info=error)
    text = "a fault of Triton's: its log tells more"
    return refusal(request.url.path, HTTPStatus.INTERNAL_SERVER_ERROR, "Internal", text)


def _reason(status: int) -> str:
    """Of what no `Problem` tells."""
    reasons = {400: "Invalid", 413: "TooLarge", 408: "TooSlow"}
    return reasons.get(status) or HTTPStatus(status).phrase.replace(" ", "")


def refusal(
    path: str, status: int, reason: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """In the envelope for the first version, else as problem details (RFC 9457)."""
    if path.startswith(OLD):
        return JSONResponse({"code": FAILED, "data": {}, "msg": message}, status, headers)
    return JSONResponse(_details(status, reason, message), status, headers, media_type=PROBLEM)


def problem_details(problem: Problem) -> Json:
    """As a part of an answer."""
    return _details(problem.kind.http, problem.reason, str(problem))


def _details(status: int, reason: str, message: str) -> Json:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": message,
        "reason": reason,
    }


class _Guard:
    """Counts the requests, and reads no body that is larger than allowed, or that does not come."""

    def __init__(self, app: App, body_bytes: int) -> None:
        self._app = app
        self._most = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        api = "v1" if scope["path"].startswith(OLD) else "v2"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        until = time.monotonic() + BODY_SECONDS
        read = 0
        whole = False

        async def counted() -> Message:
            nonlocal read, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), until - time.monotonic())
            except TimeoutError:
                text = f"the body was not there after {BODY_SECONDS} s"
                raise HTTPException(408, text, {"Connection": "close"}) from None
            read += len(message.get("body") or b"")
            whole = not message.get("more_body", False)
            if read > self._most:
                text = f"the body has more than the {self._most} bytes that are allowed"
                raise HTTPException(Kind.TOO_LARGE.http, text, {"Connection": "close"})
            return message

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                _requests.labels(api, method, str(message["status"])).inc()
            await send(message)

        streams: list[EventStream] = []
        try:
            await self._app({**scope, HANDED_OVER: streams}, counted, told)
        except Exception:
            # answered further out
            _requests.labels(api, method, "500").inc()
            raise
        for stream in streams:
            await stream.run(receive, told)


def enveloped(data: Any, status: int = 200, msg: str = "success") -> Response:
    """A success of the first version."""
    body = json.dumps({"code": 0, "data": data, "msg": msg}, separators=(",", ":")).encode()
    return Response(body, status, media_type="application/json")
