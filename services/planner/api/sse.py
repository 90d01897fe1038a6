"""Server-sent events: a stream that costs little while nothing happens, and that waits for its reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from fastapi.responses import Response

from services.planner.api.problem import Problem

HEARTBEAT_SECONDS: Final = 15.0
HEARTBEAT: Final = b":\n\n"
"""A comment: it keeps what lies in between from giving up the connection."""
END: Final = b"event: end\ndata: {}\n\n"
"""After it nothing comes, also on a new connection: a reader need not connect again."""


def event(data: bytes, at: int | None = None) -> bytes:
    """`data` is one line."""
    where = b"" if at is None else b"id: %d\n" % at
    return where + b"data: " + data + b"\n\n"


class EventStream(Response):
    """Sends what the generator gives, each when the reader has taken the one before it; b"" is a heartbeat."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not sending.done():
                sending.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)
            await self._events.aclose()
        if not sending.cancelled() and (error := sending.exception()):
            raise error

    async def _send(self, send: Any) -> None:
        following = asyncio.ensure_future(anext(self._events, None))
        try:
            while True:
                done, _ = await asyncio.wait((following,), timeout=HEARTBEAT_SECONDS)
                if not done:
                    await _part(send, HEARTBEAT)
                    continue
                try:
                    data = following.result()
                except Problem:
                    # the reader connects again and is told then
                    break
                if data is None:
                    break
                following = asyncio.ensure_future(anext(self._events, None))
                await _part(send, data or HEARTBEAT)
        finally:
            if not following.done():
                following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _part(send: Any, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _gone(receive: Any) -> None:
    """Until the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
