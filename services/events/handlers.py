"""One batch of records into the store: what can't be read or is refused is put aside, the rest goes in.

Nothing here waits for one bad message, and nothing is put aside because the store is away: then the whole
batch comes again, which the documents' ids make harmless.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import prometheus_client

from services.events.documents import documents
from shared.errors import Poison
from shared.event_store import Document, EventStore, Refused
from shared.kafka import decode
from shared.lanes import Record

DeadLetter = Callable[[Record, str, str], Awaitable[None]]
Aside = tuple[Record, str, str]
"""A record, the reason in one word, and the text for people."""

_written = prometheus_client.Counter(
    "triton_events_documents_total", "Documents stored or refused", ["stream", "outcome"]
)
_log = logging.getLogger(__name__)


class Writer:
    """Writes batches of records to the store."""

    def __init__(self, store: EventStore, dead_letter: DeadLetter, cluster: str = "") -> None:
        self._store = store
        self._cluster = cluster
        self._dead_letter = dead_letter

    async def write(self, records: Sequence[Record]) -> None:
        """Returns when every record is stored or put aside; raises `Unavailable` when that can't be done now."""
        batch: list[Document] = []
        origin: dict[tuple[str, str], Record] = {}
        aside: list[Aside] = []
        for record in records:
            try:
                made = _documents(record, self._cluster)
            except Poison as error:
                aside.append((record, error.reason, str(error)))
                continue
            batch += made
            origin |= {(document.stream, document.id): record for document in made}
        refused = await self._store.write(batch) if batch else []
        aside += _refusals(refused, origin)
        # after the store: if it is away, the batch comes again, and nothing is put aside twice
        for record, reason, text in aside:
            _log.warning(
                "%s@%s/%s put aside: %s: %s", record.topic, record.partition, record.offset, reason, text
            )
            await self._dead_letter(record, reason, text)
        _count(batch, refused)


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


def _count(batch: Sequence[Document], refused: Sequence[Refused]) -> None:
    outcomes = Counter((str(document.stream), "stored") for document in batch)
    for document, _ in refused:
        outcomes[document.stream, "stored"] -= 1
        outcomes[document.stream, "refused"] += 1
    for (stream, outcome), number in outcomes.items():
        _written.labels(stream, outcome).inc(number)
