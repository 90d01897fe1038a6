"""The parts that every REST request has: its caller, its body and query, and the parameters that routes share."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, Header, Path
from fastapi import Request as HttpRequest
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BeforeValidator, StringConstraints
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException

from services.planner.api.access import Caller, authenticate
from services.planner.api.call_authorization import NAME, NAMESPACE
from services.planner.api.calls import Calls
from services.planner.api.change_calls import ChangeRequest
from services.planner.api.problem import Kind, Problem
from shared.domain.object_bounds import DEEPEST, TOO_DEEP, TooDeep, is_deeper
from shared.domain.requesters import CLI_AGENT, Via

JSON: Final = "application/json"
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[-+]\d\d:?\d\d)?")


def calls_of(request: HttpRequest) -> Calls:
    calls: Calls = request.app.state.calls
    return calls


async def caller_of(request: HttpRequest) -> Caller:
    """Return the caller, who is authenticated before anything else of the request is read."""
    caller: Caller = request.state.caller
    return caller


async def _authenticate(request: HttpRequest) -> Caller:
    # headers are read as Latin-1, names are sent as UTF-8
    claimed = request.headers.get("x-requested-by", "").encode("latin-1").decode(errors="replace")
    return await authenticate(
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


async def change_of(
    request: HttpRequest,
    caller: Annotated[Caller, Depends(caller_of)],
    idempotency_key: Annotated[Key | SkipJsonSchema[None], IDEMPOTENCY_KEY] = None,
) -> ChangeRequest:
    identity = f"{request.method} {request.url.path} {idempotency_key}" if idempotency_key else ""
    # a name for the log: it gives no right
    sent_by = request.headers.get("user-agent", "")
    return ChangeRequest(caller, identity, via=Via.CLI if sent_by.startswith(CLI_AGENT) else Via.REST)


async def flow_change_of(
    change: Annotated[ChangeRequest, Depends(change_of)], if_match: Annotated[str, IF_MATCH] = ""
) -> ChangeRequest:
    """Return the request for a change of one DeployFlow, with the state that it must still have."""
    return change._replace(match=if_match)


TheCaller = Annotated[Caller, Depends(caller_of)]
TheChange = Annotated[ChangeRequest, Depends(change_of)]
TheFlowChange = Annotated[ChangeRequest, Depends(flow_change_of)]
TheCalls = Annotated[Calls, Depends(calls_of)]
Namespace = Annotated[str, Path(pattern=NAMESPACE, max_length=63, examples=["default"])]
Name = Annotated[str, Path(pattern=NAME, max_length=253)]
Instance = Annotated[
    str, Path(pattern=NAME, max_length=63, description="A value of the instance label of its pods.")
]


def _require_rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise ValueError("give a time as in RFC 3339, 2026-11-21T10:00:00Z")
    return value


def _in_utc(time: datetime) -> datetime:
    """Convert to UTC; a time without a zone is UTC already."""
    try:
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("too far away") from error


Moment = Annotated[datetime, BeforeValidator(_require_rfc_3339), AfterValidator(_in_utc)]


class JsonRoute(APIRoute):
    """Accepts only a body that is strict JSON, with the numbers that Kubernetes accepts too.

    What its content type says does not matter: the original's clients send any, or none.
    """

    def get_route_handler(self) -> Callable[[HttpRequest], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: HttpRequest) -> Response:
            request.state.caller = await _authenticate(request)
            json_request = _JsonRequest(request.scope, request.receive)
            if self.body_field is not None and not _says_json(request):
                await self._receive_other(json_request)
            return await handle(json_request)

        return handled

    async def _receive_other(self, request: HttpRequest) -> None:
        """Have a body read as JSON whose content type is another one."""
        others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
        request.scope["headers"] = [*others, (b"content-type", JSON.encode())]


class StrictRoute(JsonRoute):
    """Refuses a body that does not say that it is JSON, and a query with an unknown or a repeated parameter: a misspelt
    filter would show too much.
    """

    async def _receive_other(self, request: HttpRequest) -> None:
        if await request.body():
            received = request.headers.get("content-type", "") or "none"
            text = f"Content-Type: the body has to be JSON and say so: with curl, --json or -H 'Content-Type: {JSON}'"
            raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{text} (received: {received[:100]})")

    def get_route_handler(self) -> Callable[[HttpRequest], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = {field.alias for field in self.dependant.query_params}

        async def handled(request: HttpRequest) -> Response:
            received = [name for name, _ in request.query_params.multi_items()]
            if unknown := set(received) - known:
                there = ", ".join(sorted(known)) or "none"
                text = f"query: there is no {', '.join(sorted(unknown))}; there is {there}"
                raise Problem(Kind.INVALID, "Invalid", text)
            if len(received) > len(set(received)):
                raise Problem(Kind.INVALID, "Invalid", "query: says the same twice")
            return await handle(request)

        return handled


def _says_json(request: HttpRequest) -> bool:
    """Return whether the content type of a request is JSON, as FastAPI reads it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == JSON or (kind.startswith("application/") and kind.endswith("+json"))


class _JsonRequest(HttpRequest):
    async def json(self) -> Any:
        try:
            value = msgspec.json.decode(await self.body())
            if is_deeper(value, DEEPEST):
                raise TooDeep
            return _with_kubernetes_numbers(value)
        except RecursionError as error:
            raise HTTPException(Kind.INVALID.http, f"the body can't be read: {TOO_DEEP}") from error
        except (ValueError, OverflowError) as error:
            raise HTTPException(Kind.INVALID.http, f"the body can't be read: {error}") from error


def _with_kubernetes_numbers(value: Any) -> Any:
    """Make 3.0 a whole number, and an integer of more than 64 bits a float, as Kubernetes does."""
    if isinstance(value, dict):
        return {key: _with_kubernetes_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_kubernetes_numbers(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
