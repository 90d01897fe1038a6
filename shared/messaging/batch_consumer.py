"""Passes records of all keys on in batches, for a handler that writes many at once as cheaply as one.

A batch is complete by count, by size or by age. While one is being written the next is made ready, so that this
process and the server work at the same time. They begin in the order of Kafka; more than that is for the handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from shared.cancellation import cancel_all
from shared.domain.record import Record
from shared.messaging.lanes import Offsets, PutAside, carry_out

AT_ONCE: Final = 3
"""Batches under way: two at the server, which works on as many, and one that is made ready."""

Write = Callable[[list[Record]], Awaitable[None]]


class Limits(NamedTuple):
    """The limits of a batch: so many records, so many bytes of their values, or so long after its first record."""

    records: int = 1_000
    bytes: int = 400_000
    seconds: float = 0.1


USUAL: Final = Limits()


class BatchConsumer:
    """Runs `write` for batches of records; a record is done when it returns."""

    def __init__(self, write: Write, put_aside: PutAside, limits: Limits) -> None:
        self._write = write
        self._put_aside = put_aside
        self._limits = limits
        self._gathered: list[Record] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._free = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self.offsets = Offsets()

    async def put(self, records: Sequence[Record]) -> None:
        """Take records; wait while too many are under way."""
        # before any wait: a rebalance in it must forget all of these, since they come again from Kafka
        for record in records:
            self.offsets.took((record.topic, record.partition), record.offset, record.timestamp_ms)
        for record in records:
            self._gathered.append(record)
            self._bytes += len(record.value)
            if len(self._gathered) >= self._limits.records or self._bytes >= self._limits.bytes:
                await self._begin()
        if self._gathered and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._limits.seconds, self._begin_soon)

    async def drain(self, seconds: float) -> None:
        """Wait until all records taken are done, at most so many seconds."""
        self._begin_soon()
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._tasks and (left := end - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await cancel_all(self._tasks)

    async def _begin(self) -> None:
        """Begin to write the gathered records, as soon as another batch may be under way."""
        await self._free.acquire()
        records, self._gathered, self._bytes = self._gathered, [], 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if records:
            self._spawn(self._carry_out(records))
        else:
            self._free.release()

    def _begin_soon(self) -> None:
        self._spawn(self._begin())

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, records: list[Record]) -> None:
        try:
            await carry_out(lambda _, some: self._write(some), self._put_aside, "", records)
        finally:
            self._free.release()
        for record in records:
            self.offsets.done((record.topic, record.partition), record.offset)
