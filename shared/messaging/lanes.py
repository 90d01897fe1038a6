"""Handles records at least once and in order for each key, between a consumer and its handlers.

Records of one key are handled one after another, those of different keys in parallel, so that one slow
application delays no other. An offset counts as done when every record before it in its partition is;
only such offsets are committed. A handler that finds a server away is retried with back-off for as long
as it takes; a record that is itself at fault becomes a dead letter, and its lane continues.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from shared.cancellation import cancel_all
from shared.domain.record import Record
from shared.errors import Poison, Unavailable

ATTEMPTS: Final = 3
"""How often a record that raises is tried before it counts as at fault itself."""
BACKOFF_SECONDS: Final = (0.1, 10.0)
FOLD: Final = 200
"""How many waiting records of one key are passed to a handler at once."""
IN_FLIGHT: Final = 2_000
IN_FLIGHT_BYTES: Final = 32 << 20
"""Records taken from Kafka and not done yet, and the bytes of their values; above either no more are taken."""
UNREADABLE: Final = "UnreadableBatch"
"""The reason of a dead letter for records that are beyond the bounds of `shared.messaging.bounded_records`."""

_log = logging.getLogger(__name__)


Partition = tuple[str, int]
Handle = Callable[[str, list[Record]], Awaitable[None]]
PutAside = Callable[[Record, str, str], Awaitable[None]]


class Offsets:
    """Tracks which offsets of each partition are done, and how far each may be committed."""

    def __init__(self) -> None:
        self._pending: dict[Partition, deque[tuple[int, int]]] = {}
        """The offsets taken and not done, with the time of each record (ms since 1970)."""
        self._done: dict[Partition, set[int]] = {}
        self._commit: dict[Partition, int] = {}

    def took(self, partition: Partition, offset: int, at_ms: int = 0) -> None:
        self._pending.setdefault(partition, deque()).append((offset, at_ms))

    def done(self, partition: Partition, offset: int) -> None:
        pending = self._pending.get(partition)
        if pending is None:  # another process owns it since a rebalance
            return
        done = self._done.setdefault(partition, set())
        done.add(offset)
        while pending and pending[0][0] in done:
            first, _ = pending.popleft()
            done.discard(first)
            self._commit[partition] = first + 1

    def take_commits(self) -> dict[Partition, int]:
        """Return the offsets to commit since the last call: the next one to read of each partition."""
        commits, self._commit = self._commit, {}
        return commits

    def forget(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            for table in (self._pending, self._done, self._commit):
                table.pop(partition, None)

    def under_way(self, partition: Partition) -> tuple[int, int]:
        """Return how many records are taken and not done, and the time of the first of them (ms since 1970, 0: none)."""
        pending = self._pending.get(partition)
        if not pending:
            return 0, 0
        return len(pending) - len(self._done.get(partition, ())), pending[0][1]

    def busy(self, partitions: Sequence[Partition]) -> bool:
        return any(self._pending.get(partition) for partition in partitions)


class Lanes:
    """Runs `handle` for the records of each key in order."""

    def __init__(self, handle: Handle, put_aside: PutAside) -> None:
        self._handle = handle
        self._put_aside = put_aside
        self._queues: dict[str, deque[Record]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._space = asyncio.Condition()
        self._in_flight = 0
        self._bytes = 0
        self.offsets = Offsets()

    async def put(self, record: Record) -> None:
        """Queue a record; waits while too many, or too large ones, are under way."""
        # before any wait: a rebalance in it must forget this one too, since it comes again from Kafka
        self.offsets.took((record.topic, record.partition), record.offset, record.timestamp_ms)
        async with self._space:
            await self._space.wait_for(lambda: self._in_flight < IN_FLIGHT and self._bytes < IN_FLIGHT_BYTES)
            self._in_flight += 1
            self._bytes += len(record.value)
        queue = self._queues.get(record.key)
        if queue is not None:
            queue.append(record)
            return
        self._queues[record.key] = deque([record])
        task = asyncio.create_task(self._run(record.key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Wait until all records taken are done, at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def stop(self) -> None:
        await cancel_all(self._tasks)

    async def _run(self, key: str) -> None:
        queue = self._queues[key]
        while queue:
            records = [queue.popleft() for _ in range(min(len(queue), FOLD))]
            await carry_out(self._handle, self._put_aside, key, records)
            for record in records:
                self.offsets.done((record.topic, record.partition), record.offset)
            async with self._space:
                self._in_flight -= len(records)
                self._bytes -= sum(len(record.value) for record in records)
                self._space.notify_all()
        del self._queues[key]


def waits() -> Iterator[float]:
    """Yield the seconds to wait before each retry: growing to a ceiling, with jitter."""
    wait, most = BACKOFF_SECONDS
    while True:
        yield wait * random.uniform(0.5, 1.0)
        wait = min(wait * 2, most)


async def carry_out(handle: Handle, put_aside: PutAside, key: str, records: list[Record]) -> None:
    """Handle all records together; if that fails, each alone, so that only the faulty one becomes a dead letter.

    Those that were not read become dead letters at once.
    """
    for record in (record for record in records if record.unread):
        _log.error("put aside: %s: %s", UNREADABLE, record.unread, extra={"triton.key": key})
        await lay_aside(put_aside, record, UNREADABLE, record.unread)
    records = [record for record in records if not record.unread]
    if not records:
        return
    failures = 0
    for wait in waits():
        try:
            await handle(key, records)
            return
        except Unavailable as error:
            _log.warning("waiting: %s", error, extra={"triton.key": key})
        except Exception as error:
            if len(records) > 1:
                for record in records:
                    await carry_out(handle, put_aside, key, [record])
                return
            failures += 1
            if isinstance(error, Poison) or failures >= ATTEMPTS:
                refused = isinstance(error, Poison)
                reason = error.reason if isinstance(error, Poison) else type(error).__name__
                # a traceback is for a fault of the program; a refused message has its reason
                _log.error(
                    "put aside: %s: %s",
                    reason,
                    error,
                    exc_info=None if refused else error,
                    extra={"triton.key": key},
                )
                await lay_aside(put_aside, records[0], reason, str(error))
                return
            _log.warning("failed, trying again: %r", error, extra={"triton.key": key})
        await asyncio.sleep(wait)


async def lay_aside(put_aside: PutAside, record: Record, reason: str, message: str) -> None:
    """Write a record to the dead letters, retrying for as long as that takes."""
    for wait in waits():
        try:
            await put_aside(record, reason, message)
            return
        except Exception as error:
            _log.warning("waiting to put aside: %s", error, extra={"triton.key": record.key})
        await asyncio.sleep(wait)
