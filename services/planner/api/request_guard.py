"""Guards the REST API against bodies that are too large or too slow and against web pages; counts its requests.

Also finds the callers behind trusted proxies, and limits the requests that each of them has in progress.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from prometheus_client import Counter
from starlette.exceptions import HTTPException

from services.planner.api.caller_shares import CallerShares
from services.planner.api.problem import Kind, Problem
from services.planner.api.rest_responses import V1_PREFIX, problem_response
from services.planner.api.sse import HANDED_OVER, EventStream
from shared.service.browser_guard import refusal_of
from shared.service.connections import BODY_SECONDS
from shared.service.proxies import Proxies

BODIES_BYTES: Final = 64 * 2**20
"""What all bodies together may have that have not arrived whole."""
_METHODS: Final = {"GET", "POST", "PATCH", "DELETE"}
_requests = Counter("triton_api_requests_total", "Requests to the APIs", ["api", "method", "code"])

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class RequestGuard:
    """ASGI middleware: counts the requests, and refuses a body that is too large or does not arrive in time.

    `refuses_web_pages`: it refuses what a browser sends for a page of another site, too. `requests_of_caller`: what
    each caller behind one of the `proxies` may have in progress.
    """

    def __init__(
        self, app: App, body_bytes: int, refuses_web_pages: bool, proxies: Proxies, requests_of_caller: int
    ) -> None:
        self._app = app
        self._proxies = proxies
        self._in_progress = CallerShares(requests_of_caller, "requests", "TooManyRequests")
        self._bodies_bytes = 0
        self._body_bytes = body_bytes
        self._refuses_web_pages = refuses_web_pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        api = "v1" if scope["path"].startswith(V1_PREFIX) else "v2"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        deadline = time.monotonic() + BODY_SECONDS
        read_bytes = 0
        held_bytes = 0
        complete = False

        async def receive_limited() -> Message:
            nonlocal read_bytes, held_bytes, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), deadline - time.monotonic())
            except TimeoutError:
                text = f"the body was not there after {BODY_SECONDS:g} s"
                raise HTTPException(408, text, {"Connection": "close"}) from None
            size = len(message.get("body") or b"")
            read_bytes += size
            complete = not message.get("more_body", False)
            if not complete:
                held_bytes += size
                self._bodies_bytes += size
            if self._bodies_bytes > BODIES_BYTES:
                text = "too many large requests arrive at the same time: send it again"
                raise HTTPException(503, text, {"Connection": "close", "Retry-After": "5"})
            if read_bytes > self._body_bytes:
                text = f"the body has more than the {self._body_bytes} bytes that are allowed"
                raise HTTPException(Kind.TOO_LARGE.http, text, {"Connection": "close"})
            return message

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                _requests.labels(api, method, str(message["status"])).inc()
            await send(message)

        streams: list[EventStream] = []
        try:
            self._check_origin(scope)
            with self._share(scope):
                await self._app({**scope, HANDED_OVER: streams}, receive_limited, send_counted)
        except Problem as problem:
            await problem_response(scope["path"], problem)(scope, receive, send_counted)
        except Exception:
            # the server itself answers it
            _requests.labels(api, method, "500").inc()
            raise
        finally:
            self._bodies_bytes -= held_bytes
        for stream in streams:
            await stream.run(receive, send_counted)

    def _check_origin(self, scope: Scope) -> None:
        if self._refuses_web_pages and (why := refusal_of(scope["headers"])):
            raise Problem(Kind.FORBIDDEN, why.reason, why.text)

    def _share(self, scope: Scope) -> AbstractContextManager[None]:
        """Note the caller that a trusted proxy names, and count its request until the end of the block.

        Raises `Problem` where it has too many. Callers without a proxy are limited by their connections.
        """
        host, _ = scope.get("client") or ("", 0)
        if self._proxies.trusted(host):
            # several are one list, in the order in which proxies have added them
            names = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
            if names and (caller := self._proxies.caller(host, b",".join(names).decode("latin-1"))) != host:
                scope["client"] = (caller, 0)
                return self._in_progress.one(caller)
        return nullcontext()
