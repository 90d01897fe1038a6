"""The story of a release as Kafka keeps it: from its beginning or any event on, then live, without gap or repetition.

All that is told of an instance is in one partition, so the offset of an event is its place in the story.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.planner.api.kafka_tail import KafkaTail
from services.planner.api.problem import Kind, Problem
from shared.domain.deployflow import FlowPhase
from shared.domain.record import Record
from shared.domain.topics import DEPLOYFLOW_EVENTS, Key
from shared.errors import Unavailable
from shared.kube.reflector import milliseconds
from shared.messaging.kafka import connection, partition_of
from shared.settings import Settings

AT_ONCE: Final = 4
"""Streams whose past is being read."""
WAITING: Final = 100
"""More than so many that want to be are refused."""
BEHIND: Final = 500
"""Events that one reader may leave unread; then it is cut off, and goes on by the id of the last one it has."""
QUIET_SECONDS: Final = 15.0
SOON_SECONDS: Final = 1.0
"""The end of a release is told a moment after it can be seen."""
START_SECONDS: Final = 10.0
PAST_SECONDS: Final = 60.0
"""So long reading the past of one story may take."""
BEFORE_MS: Final = 60_000
"""Clocks may differ: so much before the release was made its story is looked for."""

_log = logging.getLogger(__name__)
Json = dict[str, Any]


class StreamedEvent(NamedTuple):
    """An event, as it was published; `id` is its place. `last`: with it the release is over.

    `value` is empty where it is over and nothing tells of that any more, or the reader has had it.
    """

    id: int
    value: bytes
    last: bool


class _Flow(msgspec.Struct):
    uid: str = ""


class _Event(msgspec.Struct):
    flow: _Flow
    phase: str = ""
    reason: str = ""


class _LiveEvents:
    """What is told of one instance from now on."""

    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self.news = asyncio.Event()
        self.cut = False
        """Something is missing from here on."""

    def put(self, record: Record) -> None:
        if len(self.records) >= BEHIND:
            self.cut = True
        if not self.cut:
            self.records.append(record)
        self.news.set()

    def lose(self) -> None:
        self.cut = True
        self.news.set()


class ReleaseEventStreams:
    """All stories that are being told by this replica."""

    def __init__(self, settings: Settings, tail: KafkaTail) -> None:
        self._settings = settings
        self._tail = tail
        self._live: dict[str, set[_LiveEvents]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        tail.listeners.append(self._heard)
        tail.lost.append(self._lost)

    def __len__(self) -> int:
        return sum(len(readers) for readers in self._live.values())

    async def of(
        self, flow: Json, after: int | None, over: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[StreamedEvent | None]:
        """The events of a release, those behind `after` where that is given, until it is over or, having missed one,
        until the reader has to ask anew. None once the past is known, and where nothing came for a while; then `over`
        is asked too.
        """
        uid = flow["metadata"]["uid"]
        key = str(Key(flow["metadata"]["namespace"], flow["spec"]["application"]["instanceName"]))
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._tail.follows.wait()
        except TimeoutError:
            text = f"Kafka at {self._settings.kafka_bootstrap} does not answer yet"
            raise Unavailable(text) from None
        live = _LiveEvents()
        self._live.setdefault(key, set()).add(live)
        try:
            at = -1 if after is None else after
            since = milliseconds(flow["metadata"]["creationTimestamp"]) - BEFORE_MS
            past = await self._past(key, uid, after, since)
            yield None
            for told in past:
                at = told.id
                yield told
                if told.last:
                    return
            quiet = SOON_SECONDS if await over() else QUIET_SECONDS
            async with aclosing(_follow(live, uid, at, over, quiet)) as now:
                async for heard in now:
                    yield heard
        finally:
            self._live[key].discard(live)
            if not self._live[key]:
                del self._live[key]

    async def _past(self, key: str, uid: str, after: int | None, since: int) -> list[StreamedEvent]:
        """What Kafka has up to now."""
        if self._waiting >= WAITING:
            text = "too many read the past at once"
            raise Problem(Kind.UNAVAILABLE, "Busy", text, retry_after=2)
        self._waiting += 1
        try:
            async with self._room:
                async with asyncio.timeout(PAST_SECONDS):
                    return await self._read(key, uid, after, since)
        except (KafkaError, OSError, TimeoutError) as error:
            text = f"Kafka at {self._settings.kafka_bootstrap} does not tell of the past: {error!r}"
            raise Unavailable(text) from error
        finally:
            self._waiting -= 1

    async def _read(self, key: str, uid: str, after: int | None, since: int) -> list[StreamedEvent]:
        consumer = AIOKafkaConsumer(
            client_id=f"{self._settings.prefix}-api-past",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._settings.kafka_fetch_max_wait_ms,
            **connection(self._settings),
        )
        name = self._settings.topic(DEPLOYFLOW_EVENTS)
        await consumer.start()
        try:
            known = await _partitions(consumer, name)
            where = TopicPartition(name, partition_of(key, known))
            consumer.assign([where])
            end = (await consumer.end_offsets([where]))[where]
            at = await _begin(consumer, where, after, since)
            consumer.seek(where, at)
            return await _up_to(consumer, where, end, key, uid)
        finally:
            await consumer.stop()

    def _heard(self, record: Record) -> None:
        if record.topic == DEPLOYFLOW_EVENTS:
            for live in self._live.get(record.key, ()):
                live.put(record)

    def _lost(self) -> None:
        for readers in self._live.values():
            for live in readers:
                live.lose()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> int:
    async with asyncio.timeout(START_SECONDS):
        while not (known := consumer.partitions_for_topic(topic)):
            await consumer._client.add_topic(topic)
            await asyncio.sleep(0.05)
    return len(known)


async def _begin(consumer: AIOKafkaConsumer, where: TopicPartition, after: int | None, since: int) -> int:
    """Where to read from; what Kafka has given up is left out."""
    oldest = int((await consumer.beginning_offsets([where]))[where])
    if after is not None:
        return max(after + 1, oldest)
    try:
        found = (await consumer.offsets_for_times({where: since}))[where]
    except KafkaError as error:
        _log.info("reading a story from the beginning of its partition: %r", error)
        return oldest
    return max(int(found.offset), oldest) if found else oldest


async def _up_to(
    consumer: AIOKafkaConsumer, where: TopicPartition, end: int, key: str, uid: str
) -> list[StreamedEvent]:
    found: list[StreamedEvent] = []
    while await consumer.position(where) < end:
        async with asyncio.timeout(START_SECONDS):
            batch = await consumer.getmany(where, timeout_ms=1000)
        for raw in batch.get(where, ()):
            if raw.key == key.encode() and (told := _told(raw.offset, raw.value or b"", uid)):
                found.append(told)
                if told.last:
                    return found
    return found


async def _follow(
    live: _LiveEvents, uid: str, at: int, over: Callable[[], Awaitable[bool]], quiet: float
) -> AsyncGenerator[StreamedEvent | None]:
    while True:
        while live.records:
            record = live.records.popleft()
            told = _told(record.offset, record.value, uid) if record.offset > at else None
            if told is not None:
                yield told
                if told.last:
                    return
        if live.cut:
            return
        live.news.clear()
        try:
            async with asyncio.timeout(quiet):
                await live.news.wait()
        except TimeoutError:
            if await over():
                yield StreamedEvent(at, b"", last=True)
                return
            yield None


def _told(offset: int, value: bytes, uid: str) -> StreamedEvent | None:
    try:
        event = msgspec.json.decode(value, type=_Event)
    except msgspec.DecodeError:
        return None
    if event.flow.uid != uid:
        return None
    ends = event.reason == event.phase and event.phase in list(FlowPhase) and FlowPhase(event.phase).finished
    return StreamedEvent(offset, value, bool(ends))
