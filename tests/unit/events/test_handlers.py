"""What becomes of each record of a batch: stored, put aside, or tried again with all the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from services.events.handlers import Writer
from shared.errors import Unavailable
from shared.event_store import Document, EventStore, Query, Refused
from shared.lanes import Record
from tests.unit.events.samples import flow_event, pod, pods_seen, record


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
    await Writer(store, letters.put).write(
        [record(flow_event(1)), record(pods_seen(pod())), record(flow_event(1))]
    )
    assert len(await ids(store)) == 2
    assert letters == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{not json", "Invalid JSON"),
        (b"{}", "appName: Field required"),
        (b"\xff\xfe", "Invalid JSON"),
        (record(flow_event(at=10**18)).value, "at: "),
    ],
    ids=["not JSON", "fields missing", "not UTF-8", "a time outside of the calendar"],
)
async def test_what_can_not_be_read_is_put_aside_with_the_reason_and_the_rest_is_stored(
    store: EventStore, letters: Letters, value: bytes, reason: str
) -> None:
    await Writer(store, letters.put).write([record(flow_event(1)), broken(value), record(flow_event(2))])
    ((letter, name, text),) = letters
    assert letter.offset == 7
    assert name == "InvalidMessage"
    assert reason in text
    assert await ids(store) == ["flow-1:1", "flow-1:2"]


async def test_what_the_store_refuses_is_put_aside_with_the_store_s_reason(
    store: EventStore, letters: Letters
) -> None:
    refused = record(pods_seen(pod()), offset=3)
    await Writer(Picky(store), letters.put).write([record(flow_event(1)), refused])
    ((letter, name, text),) = letters
    assert letter == refused
    assert name == "StoreRefused"
    assert "pods are not to its taste" in text
    assert await ids(store) == ["flow-1:1"]


async def test_a_message_of_which_several_documents_are_refused_is_put_aside_once(
    store: EventStore, letters: Letters
) -> None:
    await Writer(Picky(store), letters.put).write([record(pods_seen(pod("a"), pod("b")))])
    assert len(letters) == 1


async def test_while_the_store_is_away_nothing_is_put_aside_and_afterwards_everything_is_done_once(
    store: EventStore, letters: Letters
) -> None:
    picky = Picky(store)
    picky.away = True
    batch = [record(flow_event(1)), broken(b"{")]
    with pytest.raises(Unavailable):
        await Writer(picky, letters.put).write(batch)
    assert letters == []
    picky.away = False
    await Writer(picky, letters.put).write(batch)
    assert len(letters) == 1
    assert await ids(store) == ["flow-1:1"]
