"""Server-sent events: a stream that costs little while nothing happens, and that waits for its reader."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Final

from fastapi.responses import Response

from services.planner.api.problem import Problem

HEARTBEAT_SECONDS: Final = 15.0
HEARTBEAT: Final = b":\n\n"
"""A comment: it keeps proxies from closing the connection."""
HANDED_OVER: Final = "triton.streams"
"""The key in the scope of a request for the streams that are to be sent."""
END: Final = b"event: end\ndata: {}\n\n"
"""The last event, also on a new connection: a reader need not connect again."""


def event(data: bytes, at: int | None = None) -> bytes:
    """Format an event; `data` is one line, `at` its id."""
    where = b"" if at is None else b"id: %d\n" % at
    return where + b"data: " + data + b"\n\n"


class EventStream(Response):
    """Sends the events of a generator, each once the reader has received the one before it; b"" is a heartbeat."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand the stream over to the outermost middleware, if any: the objects that began it are then freed."""
        if HANDED_OVER in scope:
            scope[HANDED_OVER].append(self)
        else:
            await self.run(receive, send)

    async def run(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        this = asyncio.current_task()
        assert this is not None
        gone = asyncio.ensure_future(_disconnected(receive))

        def leave(_: object) -> None:
            this.cancel()

        gone.add_done_callback(leave)
        try:
            await self._send(send)
        except asyncio.CancelledError:
            if not gone.done() or this.uncancel():
                raise
        finally:
            gone.remove_done_callback(leave)
            gone.cancel()
            await self._events.aclose()

    async def _send(self, send: Any) -> None:
        # the reader connects again, and gets the Problem then
        with contextlib.suppress(Problem):
            async for data in self._events:
                await _part(send, data or HEARTBEAT)
                del data
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _part(send: Any, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _disconnected(receive: Any) -> None:
    """Wait until the reader has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
