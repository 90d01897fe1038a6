"""The release log's store: what the events service writes into it, and what `triton log` finds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from sandbox.process import free_port
from shared.errors import Unavailable
from shared.event_store import Document, EventStore, Query, Stream, from_ms, open_store
from shared.settings import Settings

from .kube import PATIENCE

START = 1_763_720_000_000
WEB = {"namespace": "shop", "instance": "web", "deployflow": "web-kvn6b"}


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[EventStore]:
    async with _opened(settings) as store:
        await store.prepare()
        yield store


@contextlib.asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[EventStore]:
    store = open_store(settings)
    try:
        yield store
    finally:
        await store.close()


def event(
    number: int,
    stream: Stream = Stream.DEPLOYFLOW,
    *,
    at: int | None = None,
    sequence: int | None = 0,
    id: str = "",
    about: dict[str, str] | None = None,
    **fields: Any,
) -> Document:
    """An event so many ms after `START`; `fields` are further ones, dots written as `__`."""
    about = WEB | (about or {})
    source: dict[str, Any] = {
        "@timestamp": from_ms(START + (number if at is None else at)),
        "message": f"event {number}",
        "event": {"id": id or str(number)},
        "kubernetes": {"namespace": about["namespace"]},
        "triton": {"instance": about["instance"]},
    }
    if stream == Stream.DEPLOYFLOW:
        source["triton"] |= {"deployflow": about["deployflow"], "uid": f"uid-{about['deployflow']}"}
    if sequence is not None:
        source["event"]["sequence"] = sequence
    for name, value in fields.items():
        *parents, leaf = name.split("__")
        place = source
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return Document(stream, source["event"]["id"], source)


def timed(timestamp: object) -> Document:
    document = event(0)
    document.source["@timestamp"] = timestamp
    return document


async def shows(store: EventStore, expected: Sequence[str], query: Query | None = None) -> None:
    """Wait until a search finds exactly these messages: what was written is found within a second or so."""
    found: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while True:
                found = [item["message"] for item in await store.search(query or Query())]
                if found == list(expected):
                    return
                await asyncio.sleep(0.05)
    assert found == list(expected)


def events(*numbers: int) -> list[str]:
    return [f"event {number}" for number in numbers]


async def test_preparing_again_keeps_what_is_there(settings: Settings, store: EventStore) -> None:
    await store.write([event(1)])
    await store.prepare()
    async with _opened(settings) as other:
        await other.prepare()
        assert await other.write([event(2)]) == []
        await shows(other, events(1, 2))


async def test_several_replicas_prepare_at_once(settings: Settings) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(_opened(settings)) for _ in range(4)]
        await asyncio.gather(*(store.prepare() for store in stores))
        for number, store in enumerate(stores):
            assert await store.write([event(number)]) == []
        await shows(stores[0], events(0, 1, 2, 3))


async def test_an_event_is_found_as_it_was_written(store: EventStore) -> None:
    written = event(
        1,
        ecs__version="9.2.0",
        event__kind="event",
        event__category=["configuration"],
        event__type=["error", "end"],
        event__created=from_ms(START + 30),
        event__duration=812_000_000,
        triton__batch=1,
        triton__batches=3,
        triton__canary=True,
        triton__failed_replicas=0,
        triton__message="2 of 3 pods failed",
        triton__score=0.5,
        later__version={"knows": [{"more": None}, 2**40]},
    )
    await store.write([written])
    await shows(store, events(1))
    assert await store.search(Query()) == [written.source]


async def test_no_events_are_written_and_none_is_found(store: EventStore) -> None:
    assert await store.write([]) == []
    assert await store.search(Query()) == []
    await store.ping()


async def test_an_event_published_again_is_stored_once_as_it_was_first(store: EventStore) -> None:
    await store.write([event(1), event(2)])
    again = event(1, message="in other words")
    assert await store.write([again, event(3), event(3), event(4)]) == []
    await shows(store, events(1, 2, 3, 4))


async def test_the_same_id_about_something_else_is_another_event(store: EventStore) -> None:
    assert await store.write([event(1, stream) for stream in Stream]) == []
    await shows(store, events(1, 1, 1))
    for stream in Stream:
        await shows(store, events(1), Query(streams=[stream]))


async def test_events_of_another_prefix_are_others(settings: Settings, store: EventStore) -> None:
    async with _opened(settings.model_copy(update={"prefix": f"{settings.prefix}-other"})) as other:
        await other.prepare()
        assert await other.write([event(1, message="theirs")]) == []
        await shows(other, ["theirs"])
        assert await store.write([event(1)]) == []
        await shows(store, events(1))
        await shows(store, events(1), Query(streams=[]))
        await shows(other, ["theirs"])


REFUSED: dict[str, Document] = {
    "a number that is a word": event(1, triton__batch="many"),
    "a number that is too large": event(1, triton__batch=2**63),
    "a number that is true": event(1, triton__batch=True),
    "a number that is an object": event(1, triton__batch={"of": 3}),
    "one number of several": event(1, triton__batch=[1, "two"]),
    "yes for true": event(1, triton__canary="yes"),
    "a date that is a word": event(1, event__created="yesterday"),
    "a date that is empty": event(1, event__created=""),
    "a day that is none": event(1, event__created="2025-02-30T10:00:00Z"),
    "a word that is an object": event(1, triton__phase={"name": "Smoking"}),
    "a text that is an object": event(1, triton__message={"de": "kaputt"}),
    "an address that is an object": event(1, Stream.POD, kubernetes__pod__ip={"v4": "10.0.0.1"}),
    "an object that is a word": event(1, triton="web"),
    "no time": timed(None),
    "two times": timed([from_ms(START), from_ms(START + 1)]),
    "a time that is none": timed("now"),
    "a number that JSON does not have": event(1, triton__batch=float("nan")),
    "a long id": event(1, id="é" * 257),
}
NAMED = {
    "no time": "@timestamp",
    "two times": "@timestamp",
    "a time that is none": "@timestamp",
    "a number that JSON does not have": "",
    "a long id": "512 bytes",
    "yes for true": "triton.canary",
    "a date that is a word": "event.created",
    "a date that is empty": "event.created",
    "a day that is none": "event.created",
    "a word that is an object": "triton.phase",
    "a text that is an object": "triton.message",
    "an address that is an object": "kubernetes.pod.ip",
    "an object that is a word": "triton",
}


@pytest.mark.parametrize("fault", REFUSED)
async def test_what_does_not_fit_is_refused_by_the_name_of_its_field(store: EventStore, fault: str) -> None:
    [refused] = await store.write([REFUSED[fault]])
    assert refused.document is REFUSED[fault]
    assert NAMED.get(fault, "triton.batch") in refused.reason


async def test_a_refused_event_costs_no_other(store: EventStore) -> None:
    batch = [
        event(1),
        event(2, triton__batch="many"),
        timed(None),
        event(4),
        event(5, id="x" * 513),
        event(6),
    ]
    refused = await store.write(batch)
    assert [item.document for item in refused] == [batch[1], batch[2], batch[4]]
    await shows(store, events(1, 4, 6))


async def test_what_fits_by_a_stretch_is_taken(store: EventStore) -> None:
    batch = [
        event(1, triton__batch="10"),
        event(2, triton__batch=1.5),
        event(3, triton__batch=None, container=None),
        event(4, triton__canary="true"),
        event(5, triton__phase=7, triton__message=False),
        event(6, triton__phase=["Smoking", ["Baking"]]),
        event(7, Stream.POD, kubernetes__pod__ip="nowhere"),
        event(8, event__created=START),
        event(9, event__created="2025-11-21T10:00:00.123456+02:00"),
        event(10, triton__phase="x" * 40_000),
        event(11, id="y" * 512),
    ]
    assert await store.write(batch) == []
    await shows(store, events(*range(1, 12)))
    assert await store.search(Query()) == [document.source for document in batch]


async def test_events_come_in_the_order_of_time_then_kafkas_then_their_ids(store: EventStore) -> None:
    await store.write(
        [
            event(5, at=1, sequence=10, id="é"),
            event(7, at=2, sequence=0),
            event(4, at=1, sequence=10, id="a"),
            event(1, at=1, sequence=None),
            event(8, Stream.POD, at=3, sequence=0),
            event(2, at=1, sequence=9, id="z"),
            event(3, at=1, sequence=10, id="B"),
            event(6, at=1, sequence=10, id="🚀"),
            event(0, Stream.CLONESET, at=-1, sequence=99),
        ]
    )
    await shows(store, events(*range(9)))


def _after(ms: int, zone: timezone = UTC, microseconds: int = 0) -> datetime:
    return datetime.fromtimestamp(START / 1000, zone) + timedelta(milliseconds=ms, microseconds=microseconds)


EAST = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), [1, 2, 3, 4, 5]),
        (Query(deployflow="web-kvn6b"), [1, 2]),
        (Query(uid="uid-web-older"), [4]),
        (Query(instance="web"), [1, 2, 3, 4]),
        (Query(instance="web", namespace="shop"), [1, 2, 3]),
        (Query(instance="web", streams=[Stream.POD]), [3]),
        (Query(streams=[Stream.POD, Stream.DEPLOYFLOW], namespace="test"), [4, 5]),
        (Query(since=_after(3)), [3, 4, 5]),
        (Query(until=_after(2)), [1, 2]),
        (Query(since=_after(2), until=_after(4)), [2, 3, 4]),
        (Query(since=_after(2, EAST), until=_after(2, EAST)), [2]),
        (Query(since=_after(2, microseconds=900), until=_after(3, microseconds=900)), [2, 3]),
        (Query(since=_after(4), until=_after(2)), []),
        (Query(limit=2), [4, 5]),
        (Query(limit=2, instance="web"), [3, 4]),
        (Query(limit=0), []),
        (Query(deployflow="nobody"), []),
        (Query(instance="we*"), []),
        (Query(instance="WEB"), []),
        (Query(instance="web' OR '1'='1"), []),
    ],
    ids=[
        "everything",
        "deployflow",
        "uid",
        "instance",
        "namespace",
        "stream",
        "streams",
        "since",
        "until",
        "from until",
        "one moment in another zone",
        "less than a millisecond",
        "backwards",
        "the newest",
        "the newest of some",
        "none wanted",
        "nothing",
        "no wildcards",
        "no other case",
        "no language",
    ],
)
async def test_search(store: EventStore, query: Query, expected: list[int]) -> None:
    await store.write(
        [
            event(1),
            event(2),
            event(3, Stream.POD),
            event(4, about={"namespace": "test", "deployflow": "web-older"}),
            event(5, about={"namespace": "test", "instance": "api", "deployflow": "api-1"}),
        ]
    )
    await shows(store, events(1, 2, 3, 4, 5))
    assert [item["message"] for item in await store.search(query)] == events(*expected)


async def test_unusual_characters_are_kept_and_searched(store: EventStore) -> None:
    odd = "\"'%_*?\\/\u0000\u0007\n\u2028é漢字🚀\ud800 "
    about = {"namespace": "a b/ç", "instance": "*", "deployflow": "100%_'\"\\"}
    written = event(1, id="_🚀/ %?#\n'", about=about, triton__message=odd)
    written.source[odd] = odd
    assert await store.write([written, event(2)]) == []
    await shows(store, events(1, 2))
    for query in (
        Query(namespace=about["namespace"]),
        Query(instance="*"),
        Query(deployflow=about["deployflow"]),
    ):
        assert await store.search(query) == [written.source]


async def test_a_large_batch_is_stored_and_read_in_order(store: EventStore) -> None:
    batch = [event(number, triton__message="x" * 500) for number in range(4_500)]
    assert await store.write(batch) == []
    await shows(store, events(*range(4_500)))
    await shows(store, events(*range(1_999, 4_500)), Query(limit=2_501))
    assert await store.write(batch) == []


async def test_one_large_event_is_stored(store: EventStore) -> None:
    large = event(2, triton__message="long " * 180_000)
    assert await store.write([event(1), large, event(3)]) == []
    await shows(store, events(1, 2, 3))
    assert (await store.search(Query()))[1] == large.source


async def test_writers_at_the_same_time_store_each_event_once(settings: Settings, store: EventStore) -> None:
    async def write(store: EventStore, first: int) -> None:
        for start in range(first, first + 200, 20):
            assert await store.write([event(number) for number in range(start, start + 20)]) == []

    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(_opened(settings)) for _ in range(4)]
        await asyncio.gather(*(write(one, 50 * number) for number, one in enumerate(stores)))
    await shows(store, events(*range(350)))


class Away(NamedTuple):
    """A store that does not answer until `back` is called."""

    settings: Settings
    back: Callable[[], Awaitable[None]]


@pytest.fixture
async def away(settings: Settings, tmp_path: Path) -> AsyncIterator[Away]:
    async with contextlib.AsyncExitStack() as stack:
        if settings.event_store.startswith("sqlite"):
            folder = tmp_path / "away"
            folder.write_text("no folder")
            where = f"sqlite:///{folder}/events.db"

            async def back() -> None:
                folder.unlink()

        else:
            real = urlsplit(settings.event_store)
            port = free_port()
            where = real._replace(netloc=f"127.0.0.1:{port}").geturl()

            async def back() -> None:
                await stack.enter_async_context(_relay(port, str(real.hostname), int(real.port or 80)))

        yield Away(settings.model_copy(update={"event_store": where}), back)


@contextlib.asynccontextmanager
async def _relay(port: int, host: str, upstream: int) -> AsyncIterator[None]:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, upstream)
        await asyncio.gather(carry(reader, back), carry(there, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


async def test_a_store_that_is_away_is_unavailable_and_works_when_it_is_back(away: Away) -> None:
    async with _opened(away.settings) as store:
        for call in (store.prepare(), store.ping(), store.write([event(1)]), store.search(Query())):
            with pytest.raises(Unavailable, match="does not answer"):
                await call
        await away.back()
        await store.prepare()
        await store.ping()
        assert await store.write([event(1)]) == []
        await shows(store, events(1))
