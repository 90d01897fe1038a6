"""Makes the mock broker's consumer groups bearable for groups of several members.

The mock takes the leader's word that everybody has synced: a follower whose SyncGroup comes after the leader's
is told that its request is invalid, and aiokafka gives up on that. Real brokers have no such order. So the
groups of the services are coordinated by a second mock broker that clients reach through this proxy; it passes
every request on as it is, but holds a leader's SyncGroup back until its followers' have gone ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from typing import Final, NamedTuple

_SYNC_GROUP: Final = 14
_STATIC_MEMBERS_SINCE: Final = 3
"""The version of SyncGroup that has a group instance id between the member id and the assignments."""
_FLEXIBLE_SINCE: Final = 4
"""The version that has another encoding; the mock does not offer it."""
_HOLD_SECONDS: Final = 1.0
"""For a follower that died in between; the mock starts over by itself then."""
_SETTLE_SECONDS: Final = 0.02
"""From a follower's request on its socket until the mock's thread has read it."""


class Sync(NamedTuple):
    """A SyncGroup request: of which generation, and how many assignments it carries (0: from a follower)."""

    group: str
    generation: int
    assignments: int


def read_sync(frame: bytes) -> Sync | None:
    """The SyncGroup in a request (without its length); None for every other request."""
    api, version = struct.unpack_from(">hh", frame)
    if api != _SYNC_GROUP or version >= _FLEXIBLE_SINCE:
        return None
    _, at = _text(frame, 8)
    group, at = _text(frame, at)
    (generation,) = struct.unpack_from(">i", frame, at)
    _, at = _text(frame, at + 4)
    if version >= _STATIC_MEMBERS_SINCE:
        _, at = _text(frame, at)
    (assignments,) = struct.unpack_from(">i", frame, at)
    return Sync(group, generation, assignments)


def _text(frame: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">h", frame, at)
    if length < 0:
        return "", at + 2
    return frame[at + 2 : at + 2 + length].decode(), at + 2 + length


class CoordinatorProxy:
    """Listens on a free port of 127.0.0.1 from `start` to `close`."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._followers: Counter[tuple[str, int]] = Counter()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Returns the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            answers, requests = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            back = asyncio.create_task(_copy(answers, writer))
            try:
                await self._forward(reader, requests)
            finally:
                back.cancel()
                requests.close()
        writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            size = await reader.readexactly(4)
            frame = await reader.readexactly(int.from_bytes(size))
            sync = read_sync(frame)
            if sync is not None and sync.assignments > 1:
                await self._followers_first(sync)
            writer.write(size + frame)
            await writer.drain()
            if sync is not None and sync.assignments == 0:
                self._followers[sync.group, sync.generation] += 1

    async def _followers_first(self, sync: Sync) -> None:
        deadline = asyncio.get_running_loop().time() + _HOLD_SECONDS
        while self._followers[sync.group, sync.generation] < sync.assignments - 1:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(_SETTLE_SECONDS / 4)
        await asyncio.sleep(_SETTLE_SECONDS)
        del self._followers[sync.group, sync.generation]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
