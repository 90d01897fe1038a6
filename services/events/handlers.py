"""One batch of records into the store: what can't be read or is refused is put aside, the rest goes in.

Nothing here waits for one bad message, and nothing is put aside because the store is away: then what is left
is written again, however long that takes. Kafka keeps what comes after. Batches may be under way side by side.
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
from shared.messaging.kafka import decode
from shared.messaging.lanes import lay_aside, waits

DeadLetter = Callable[[Record, str, str], Awaitable[None]]
Aside = tuple[Record, str, str]
"""A record, the reason in one word, and the text for people."""

AT_A_TIME: Final = 50
"""Records that are made into documents before others get their turn: a batch on its way to the store must not wait."""

_waiting: Final = Gauge("triton_events_waiting_documents", "Documents that are not stored yet")
_behind: Final = Gauge(
    "triton_events_oldest_waiting_seconds", "Age of the oldest event that is not stored yet"
)
_log = logging.getLogger(__name__)


class Writer:
    """Writes batches of records to the store. `tell` gets why the store does not take them, or nothing when it does."""

    def __init__(
        self,
        store: EventStore,
        dead_letter: DeadLetter,
        tell: Callable[[str], None] = lambda _: None,
        *,
        cluster: str = "",
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._dead_letter = dead_letter
        self._tell = tell
        self._last = asyncio.Event()
        """Set when the batch that began last is stored."""
        self._last.set()
        self._under_way: dict[int, tuple[int, int]] = {}
        """Of each batch when its oldest record was published, in ms, and how many documents are left."""
        _waiting.set_function(lambda: sum(left for _, left in self._under_way.values()))
        _behind.set_function(self._age)

    async def write(self, records: Sequence[Record]) -> None:
        """Returns when every record is stored or put aside."""
        batch: list[Document] = []
        origin: dict[tuple[str, str], Record] = {}
        aside: list[Aside] = []
        for number, record in enumerate(records):
            if number % AT_A_TIME == 0:
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
        with self._noted(records, len(batch)), self._in_order() as before:
            refused = await self._store_all(rest, records)
            # who finds the end of a release in the log shall find all that came before it
            await before.wait()
            refused += await self._store_all(flows, records)
            aside += _refusals(refused, origin)
            # after the store: what comes again meanwhile, after a crash, is not put aside twice
            for record, reason, text in aside:
                _log.warning(
                    "%s@%s/%s put aside: %s: %s", record.topic, record.partition, record.offset, reason, text
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
                    self._less(records, len(left) - len(error.left))
                    left = error.left
                self._tell(str(error))
                _log.warning("waiting: %s", error)
                await asyncio.sleep(wait)
            else:
                self._tell("")
                self._less(records, len(left))
                left = ()
        return refused

    def _less(self, records: Sequence[Record], less: int) -> None:
        since, left = self._under_way[id(records)]
        self._under_way[id(records)] = (since, left - less)

    @contextlib.contextmanager
    def _noted(self, records: Sequence[Record], documents: int) -> Iterator[None]:
        self._under_way[id(records)] = (min(record.timestamp_ms for record in records), documents)
        try:
            yield
        finally:
            del self._under_way[id(records)]

    @contextlib.contextmanager
    def _in_order(self) -> Iterator[asyncio.Event]:
        """Gives what is set when the batch before is stored."""
        before, mine = self._last, asyncio.Event()
        self._last = mine
        try:
            yield before
        finally:
            mine.set()

    def _age(self) -> float:
        oldest = min((since for since, _ in self._under_way.values()), default=None)
        return 0.0 if oldest is None else max(time.time() - oldest / 1000, 0.0)


def _refusals(refused: Sequence[Refused], origin: Mapping[tuple[str, str], Record]) -> list[Aside]:
    """One for each record, though several of its documents may be refused."""
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
