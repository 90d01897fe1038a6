"""Guards the REST API against bodies that are too large or too slow and against web pages; counts its requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from prometheus_client import Counter
from starlette.exceptions import HTTPException

from services.planner.api.problem import Kind
from services.planner.api.rest_responses import V1_PREFIX, refusal
from services.planner.api.sse import HANDED_OVER, EventStream
from shared.service.browser_guard import refusal_of

BODY_SECONDS: Final = 30
"""How long a body may take to arrive."""
_METHODS: Final = {"GET", "POST", "PATCH", "DELETE"}
_requests = Counter("triton_api_requests_total", "Requests to the APIs", ["api", "method", "code"])

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class RequestGuard:
    """ASGI middleware: counts the requests, and refuses a body that is too large or does not arrive in time.

    `refuses_web_pages`: it refuses what a browser sends for a page of another site, too.
    """

    def __init__(self, app: App, body_bytes: int, refuses_web_pages: bool) -> None:
        self._app = app
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
        complete = False

        async def receive_limited() -> Message:
            nonlocal read_bytes, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), deadline - time.monotonic())
            except TimeoutError:
                text = f"the body was not there after {BODY_SECONDS} s"
                raise HTTPException(408, text, {"Connection": "close"}) from None
            read_bytes += len(message.get("body") or b"")
            complete = not message.get("more_body", False)
            if read_bytes > self._body_bytes:
                text = f"the body has more than the {self._body_bytes} bytes that are allowed"
                raise HTTPException(Kind.TOO_LARGE.http, text, {"Connection": "close"})
            return message

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                _requests.labels(api, method, str(message["status"])).inc()
            await send(message)

        if self._refuses_web_pages and (why := refusal_of(scope["headers"])):
            answer = refusal(scope["path"], Kind.FORBIDDEN.http, why.reason, why.text)
            await answer(scope, receive, send_counted)
            return
        streams: list[EventStream] = []
        try:
            await self._app({**scope, HANDED_OVER: streams}, receive_limited, send_counted)
        except Exception:
            # the server itself answers it
            _requests.labels(api, method, "500").inc()
            raise
        for stream in streams:
            await stream.run(receive, send_counted)
