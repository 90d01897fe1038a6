"""Writes batches of records to the event store; a record that is unreadable or refused becomes a dead letter.

A bad record does not delay the others. While the store is away nothing becomes a dead letter: the rest of the batch is
retried for as long as it takes, and Kafka keeps what follows. Several batches may be under way at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import Gauge

from services.events.documents import documents
from shared.domain.record import Record
from shared.errors import Poison, Unavailable
from shared.event_store import Document, EventStore, Interrupted, Refused, Stream
from shared.messaging.consumer import decode
from shared.messaging.lanes import lay_aside, waits

DeadLetter = Callable[[Record, str, str], Awaitable[None]]
Aside = tuple[Record, str, str]
"""A record, the reason in one word, and the message."""

PER_TURN: Final = 50
"""Records that are converted before other tasks get their turn: a batch on its way to the store must not wait."""

_waiting: Final = Gauge("triton_events_waiting_documents", "Documents that are not stored yet")
_behind: Final = Gauge(
    "triton_events_oldest_waiting_seconds", "Age of the oldest event that is not stored yet"
)
_log = logging.getLogger(__name__)


class LogWriter:
    """Writes batches of records to the store. `report` gets why the store does not accept them; empty when it does."""

    def __init__(
        self,
        store: EventStore,
        dead_letter: DeadLetter,
        report: Callable[[str], None] = lambda _: None,
        *,
        cluster: str = "",
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._dead_letter = dead_letter
        self._report = report
        self._last = asyncio.Event()
        """Set when the batch that was begun last is stored."""
        self._last.set()
        self._under_way: dict[int, tuple[int, int]] = {}
        """For each batch the time of its oldest record, in ms, and how many documents are left to write."""
        _waiting.set_function(lambda: sum(left for _, left in self._under_way.values()))
        _behind.set_function(self._age)

    async def write(self, records: Sequence[Record]) -> None:
        """Write the records; return when each is stored or a dead letter."""
        batch: list[Document] = []
        origin: dict[tuple[str, str], Record] = {}
        aside: list[Aside] = []
        for number, record in enumerate(records):
            if number % PER_TURN == 0:
                await asyncio.sleep(0)
            try:
                made = _documents(record, self._cluster)
            except Poison as error:
                aside.append((record, error.reason, str(error)))
                continue
            batch += made
            origin.update(((document.stream, document.id), record) for document in made)
        flows = [document for document in batch if document.stream == Stream.DEPLOYFLOW]
        rest = [document for document in batch if document.stream != Stream.DEPLOYFLOW]
        with self._counted(records, len(batch)), self._in_order() as before:
            refused = await self._store_all(rest, records)
            # whoever finds the end of a release in the log must find everything before it, too
            await before.wait()
            refused += await self._store_all(flows, records)
            aside += _refusals(refused, origin)
            # last, because a crash before this point repeats the batch: no dead letter is written twice
            for record, reason, text in aside:
                _log.warning(
                    "%s@%s/%s put aside: %s: %s",
                    record.topic,
                    record.partition,
                    record.offset,
                    reason,
                    text,
                )
                await lay_aside(self._dead_letter, record, reason, text)

    async def _store_all(self, left: Sequence[Document], records: Sequence[Record]) -> list[Refused]:
        refused: list[Refused] = []
        for wait in waits():
            if not left:
                break
            try:
                refused += await self._store.write(left)
            except Unavailable as error:
                if isinstance(error, Interrupted):
                    refused += error.refused
                    self._count_written(records, len(left) - len(error.left))
                    left = error.left
                self._report(str(error))
                _log.warning("waiting: %s", error)
                await asyncio.sleep(wait)
            else:
                self._report("")
                self._count_written(records, len(left))
                left = ()
        return refused

    def _count_written(self, records: Sequence[Record], written: int) -> None:
        since, left = self._under_way[id(records)]
        self._under_way[id(records)] = (since, left - written)

    @contextlib.contextmanager
    def _counted(self, records: Sequence[Record], documents: int) -> Iterator[None]:
        self._under_way[id(records)] = (min(record.timestamp_ms for record in records), documents)
        try:
            yield
        finally:
            del self._under_way[id(records)]

    @contextlib.contextmanager
    def _in_order(self) -> Iterator[asyncio.Event]:
        """Yield an event that is set when the batch before is stored."""
        before, stored = self._last, asyncio.Event()
        self._last = stored
        try:
            yield before
        finally:
            stored.set()

    def _age(self) -> float:
        oldest = min((since for since, _ in self._under_way.values()), default=None)
        return 0.0 if oldest is None else max(time.time() - oldest / 1000, 0.0)


def _refusals(refused: Sequence[Refused], origin: Mapping[tuple[str, str], Record]) -> list[Aside]:
    """Return one dead letter for each record, also when several of its documents are refused."""
    records: dict[tuple[str, int, int], Record] = {}
    reasons: dict[tuple[str, int, int], list[str]] = {}
    for document, reason in refused:
        record = origin[document.stream, document.id]
        place = (record.topic, record.partition, record.offset)
        records[place] = record
        reasons.setdefault(place, []).append(f"{document.id}: {reason}")
    return [(records[place], "StoreRefused", "; ".join(texts)) for place, texts in reasons.items()]


def _documents(record: Record, cluster: str) -> list[Document]:
    message = decode(record)
    try:
        return documents(message, record.offset, cluster)
    except (ValueError, OverflowError) as error:
        # a time outside of the calendar
        raise Poison("InvalidMessage", f"at: {error}") from error
