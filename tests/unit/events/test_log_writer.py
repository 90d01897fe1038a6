"""What becomes of each record of a batch: stored, put aside, or tried again with all the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.events.log_writer import LogWriter
from shared.domain.record import Record
from shared.errors import Unavailable
from shared.event_store import Document, EventStore, Interrupted, Query, Refused
from tests.unit.events.conftest import until
from tests.unit.events.samples import cloneset_event, flow_event, pod, pods_seen, record


class Letters(list[tuple[Record, str, str]]):
    async def put(self, record: Record, reason: str, message: str) -> None:
        self.append((record, reason, message))


@pytest.fixture
def letters() -> Letters:
    return Letters()


class Picky:
    """A store that refuses pods, or everything for now."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.away = False

    async def write(self, documents: Sequence[Document]) -> list[Refused]:
        if self.away:
            raise Unavailable("the store is away")
        pods = [document for document in documents if document.stream == "pod"]
        await self._store.write([document for document in documents if document not in pods])
        return [Refused(document, "pods are not to its taste") for document in pods]

    async def prepare(self) -> None:
        await self._store.prepare()

    async def search(self, query: Query) -> list[dict[str, Any]]:
        return await self._store.search(query)

    async def ping(self) -> None:
        await self._store.ping()

    async def close(self) -> None:
        await self._store.close()


async def ids(store: EventStore) -> list[str]:
    return [source["event"]["id"] for source in await store.search(Query())]


def broken(value: bytes, offset: int = 7) -> Record:
    return record(flow_event())._replace(value=value, offset=offset)


async def test_a_batch_is_stored_whatever_its_topics(store: EventStore, letters: Letters) -> None:
    await LogWriter(store, letters.put).write(
        [record(flow_event(1)), record(pods_seen(pod())), record(flow_event(1))]
    )
    assert len(await ids(store)) == 2
    assert letters == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{not json", "Invalid JSON"),
        (b"{}", "appName: is missing"),
        (b"\xff\xfe", "Invalid JSON"),
        (record(flow_event(at=10**18)).value, "at: "),
    ],
    ids=["not JSON", "fields missing", "not UTF-8", "a time outside of the calendar"],
)
async def test_what_can_not_be_read_is_put_aside_with_the_reason_and_the_rest_is_stored(
    store: EventStore, letters: Letters, value: bytes, reason: str
) -> None:
    await LogWriter(store, letters.put).write([record(flow_event(1)), broken(value), record(flow_event(2))])
    ((letter, name, text),) = letters
    assert letter.offset == 7
    assert name == "InvalidMessage"
    assert reason in text
    assert await ids(store) == ["flow-1:1", "flow-1:2"]


async def test_what_the_store_refuses_is_put_aside_with_the_store_s_reason(
    store: EventStore, letters: Letters
) -> None:
    refused = record(pods_seen(pod()), offset=3)
    await LogWriter(Picky(store), letters.put).write([record(flow_event(1)), refused])
    ((letter, name, text),) = letters
    assert letter == refused
    assert name == "StoreRefused"
    assert "pods are not to its taste" in text
    assert await ids(store) == ["flow-1:1"]


async def test_a_message_of_which_several_documents_are_refused_is_put_aside_once(
    store: EventStore, letters: Letters
) -> None:
    await LogWriter(Picky(store), letters.put).write([record(pods_seen(pod("a"), pod("b")))])
    assert len(letters) == 1


async def test_while_the_store_is_away_nothing_is_put_aside_and_afterwards_everything_is_done_once(
    store: EventStore, letters: Letters
) -> None:
    picky = Picky(store)
    picky.away = True
    reported: list[str] = []
    ago = int(time.time() * 1000) - 60_000
    batch = [one._replace(timestamp_ms=ago) for one in (record(flow_event(1)), broken(b"{"))]
    writing = asyncio.create_task(LogWriter(picky, letters.put, reported.append).write(batch))
    await until(lambda: _is(len(reported) >= 3))
    assert letters == []
    assert set(reported) == {"the store is away"}
    assert metric("triton_events_waiting_documents") == 1
    assert 60 <= metric("triton_events_oldest_waiting_seconds") < 90
    picky.away = False
    await writing
    assert reported[-1] == ""
    assert len(letters) == 1
    assert await ids(store) == ["flow-1:1"]
    assert metric("triton_events_waiting_documents") == 0
    assert metric("triton_events_oldest_waiting_seconds") == 0


async def test_events_of_a_release_are_stored_in_order_though_the_first_has_to_wait(
    store: EventStore, letters: Letters
) -> None:
    stored: list[str] = []
    busy = asyncio.Event()

    class Busy(Picky):
        async def write(self, documents: Sequence[Document]) -> list[Refused]:
            if documents[0].id == "flow-1:1" and not busy.is_set():
                raise Unavailable("busy with that one")
            stored.extend(document.id for document in documents)
            return []

    writer = LogWriter(Busy(store), letters.put)
    first = asyncio.create_task(writer.write([record(flow_event(1))]))
    second = asyncio.create_task(writer.write([record(flow_event(2)), record(cloneset_event())]))
    await until(lambda: _is(stored == ["cs-1:4:101"]))
    assert metric("triton_events_waiting_documents") == 2
    busy.set()
    await asyncio.gather(first, second)
    assert stored == ["cs-1:4:101", "flow-1:1", "flow-1:2"]


async def test_only_what_the_store_has_left_is_written_again(store: EventStore, letters: Letters) -> None:
    written: list[list[str]] = []

    class Halting(Picky):
        async def write(self, documents: Sequence[Document]) -> list[Refused]:
            written.append([document.id for document in documents])
            if len(documents) == 3:
                raise Interrupted("busy", [Refused(documents[0], "no")], documents[1:2])
            return []

    await LogWriter(Halting(store), letters.put).write([record(flow_event(n), offset=n) for n in (1, 2, 3)])
    assert written == [["flow-1:1", "flow-1:2", "flow-1:3"], ["flow-1:2"]]
    assert [letter.offset for letter, _, _ in letters] == [1]


async def test_a_letter_that_can_not_be_put_aside_now_is_put_aside_later_and_the_others_once(
    store: EventStore,
) -> None:
    put: list[int] = []

    async def away_at_first(letter: Record, reason: str, text: str) -> None:
        put.append(letter.offset)
        if put == [1, 2]:
            raise Unavailable("Kafka is away")

    await LogWriter(store, away_at_first).write([broken(b"{", 1), broken(b"{", 2)])
    assert put == [1, 2, 2]


async def test_new_documents_and_those_that_were_there_are_counted_apart(
    store: EventStore, letters: Letters
) -> None:
    before = [counted(outcome) for outcome in ("stored", "duplicate", "refused")]
    writer = LogWriter(store, letters.put)
    await writer.write([record(flow_event(1)), record(flow_event(2)), record(flow_event(1))])
    await writer.write([record(flow_event(2)), record(flow_event(3))])
    after = [counted(outcome) for outcome in ("stored", "duplicate", "refused")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [3, 2, 0]


def counted(outcome: str) -> float:
    return metric("triton_events_documents_total", stream="deployflow", outcome=outcome)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


async def _is(true: bool) -> bool:
    return true
