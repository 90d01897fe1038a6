"""The store in a file: what it keeps, how it is searched, and several processes at once."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.errors import Unavailable
from shared.event_store import Document, EventStore, Query, Stream, from_ms, open_store
from shared.settings import Settings
from tests.unit.events.samples import START


def document(
    number: int,
    stream: Stream = Stream.DEPLOYFLOW,
    *,
    at: int | None = None,
    sequence: int = 0,
    namespace: str = "shop",
    instance: str = "web",
    deployflow: str = "web-kvn6b",
) -> Document:
    source = {
        "@timestamp": from_ms(START + (number if at is None else at)),
        "message": f"event {number}",
        "event": {"id": str(number), "sequence": sequence},
        "kubernetes": {"namespace": namespace},
        "triton": {"instance": instance, "deployflow": deployflow, "uid": f"uid-{deployflow}"},
    }
    return Document(stream, str(number), source)


async def found(store: EventStore, query: Query | None = None) -> list[str]:
    return [item["message"] for item in await store.search(query or Query())]


async def test_what_was_written_is_found_in_the_order_of_time(store: EventStore) -> None:
    assert await store.write([document(3), document(1), document(2, Stream.POD)]) == []
    assert await found(store) == ["event 1", "event 2", "event 3"]


async def test_events_of_the_same_millisecond_keep_the_order_that_kafka_had(store: EventStore) -> None:
    await store.write(
        [document(1, at=0, sequence=12), document(2, at=0, sequence=11), document(3, at=0, sequence=10)]
    )
    assert await found(store) == ["event 3", "event 2", "event 1"]


async def test_an_event_written_twice_is_there_once(store: EventStore) -> None:
    await store.write([document(1)])
    assert await store.write([document(1), document(2), document(2)]) == []
    assert await found(store) == ["event 1", "event 2"]


async def test_the_same_id_in_another_stream_is_another_event(store: EventStore) -> None:
    await store.write([document(1), document(1, Stream.POD)])
    assert len(await found(store)) == 2
    assert len(await found(store, Query(streams=[Stream.POD]))) == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(deployflow="web-kvn6b"), ["event 1", "event 2"]),
        (Query(uid="uid-web-older"), ["event 3"]),
        (Query(instance="web"), ["event 1", "event 2", "event 3"]),
        (Query(instance="web", namespace="shop"), ["event 1", "event 2"]),
        (Query(since=datetime.fromtimestamp(START / 1000 + 0.003, UTC)), ["event 3", "event 4"]),
        (Query(until=datetime.fromtimestamp(START / 1000 + 0.002, UTC)), ["event 1", "event 2"]),
        (Query(limit=2), ["event 3", "event 4"]),
        (Query(deployflow="nobody"), []),
    ],
    ids=["deployflow", "uid", "instance", "namespace", "since", "until", "the newest", "nothing"],
)
async def test_search(store: EventStore, query: Query, expected: list[str]) -> None:
    await store.write(
        [
            document(1),
            document(2),
            document(3, namespace="test", deployflow="web-older"),
            document(4, namespace="test", instance="api", deployflow="api-1"),
        ]
    )
    assert await found(store, query) == expected


async def test_a_document_that_elasticsearch_would_refuse_is_refused_and_the_others_are_kept(
    store: EventStore,
) -> None:
    timeless = document(2)
    del timeless.source["@timestamp"]
    endless = document(3)._replace(id="x" * 513)
    refused = await store.write([document(1), timeless, endless])
    assert [(item.document, item.reason) for item in refused] == [
        (timeless, "@timestamp: missing"),
        (endless, "id: must have 1 to 512 bytes, has 513"),
    ]
    assert await found(store) == ["event 1"]


WRITER = """
import asyncio, sys
from shared.event_store import Document, Stream, from_ms, open_store
from shared.settings import Settings

async def main():
    store = open_store(Settings(event_store=sys.argv[1]))
    await store.prepare()
    for number in range(200):
        source = {"@timestamp": from_ms(number), "message": str(number), "event": {"id": str(number), "sequence": 0}}
        await store.write([Document(Stream.POD, str(number), source)])
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def writers(settings: Settings) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", WRITER, settings.event_store]) for _ in range(2)]


async def test_two_processes_write_the_same_events_while_a_third_reads(
    settings: Settings, writers: list[subprocess.Popen[bytes]]
) -> None:
    reader = open_store(settings)
    await reader.prepare()
    seen = 0
    while any(writer.poll() is None for writer in writers):
        now = len(await found(reader))
        assert now >= seen
        seen = now
    assert [writer.wait() for writer in writers] == [0, 0]
    assert await found(reader) == [str(number) for number in range(200)]
    await reader.close()


async def test_preparing_again_keeps_what_is_there(settings: Settings, store: EventStore) -> None:
    await store.write([document(1)])
    other = open_store(settings)
    await other.prepare()
    assert await found(other) == ["event 1"]
    await other.close()


async def test_a_store_that_nobody_made_is_not_made_by_reading(tmp_path: Path) -> None:
    settings = Settings(event_store=f"sqlite:///{tmp_path}/none.db")
    for _ in range(2):  # the first reading has made nothing that the second one would find
        store = open_store(settings)
        with pytest.raises(Unavailable, match=r"none\.db.*triton sandbox"):
            await store.search(Query())
        await store.close()


async def test_a_file_that_is_no_store_is_left_alone_and_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, not a database, and they are longer than a header is\n" * 9)
    store = open_store(Settings(event_store=f"sqlite:///{path}"))
    with pytest.raises(Unavailable, match=r"notes\.txt.*not a database"):
        await store.prepare()
    await store.close()
    assert path.read_text().startswith("these are my notes")


def test_another_scheme_is_refused_by_the_settings_name() -> None:
    with pytest.raises(ValueError, match=r"TRITON_EVENT_STORE: 'mysql://x'"):
        open_store(Settings.model_construct(event_store="mysql://x"))
