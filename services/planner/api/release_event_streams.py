"""Streams the events of a release from Kafka: from its beginning or any event on, then live, no gap, no repetition.

All events of an instance are in one partition, so the offset of an event identifies it and orders the events.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.planner.api.kafka_tail import KafkaTail
from services.planner.api.problem import Kind, Problem
from shared.domain.deployflow import FlowPhase
from shared.domain.json_types import Json
from shared.domain.record import Record
from shared.domain.topics import DEPLOYFLOW_EVENTS, Key
from shared.errors import Unavailable
from shared.kube.reflector import milliseconds
from shared.messaging.connection import connection, partition_of
from shared.settings import Settings

CONCURRENT_READS: Final = 4
"""Streams whose past is being read at the same time."""
MOST_WAITING: Final = 100
"""Streams that may wait for their past to be read; more are refused."""
MOST_UNREAD: Final = 500
"""Events that one reader may leave unread; then its stream ends, and it resumes from the id of its last event."""
QUIET_SECONDS: Final = 15.0
SOON_SECONDS: Final = 1.0
"""The event of a release's end arrives a moment after its status shows the end."""
START_SECONDS: Final = 10.0
PAST_SECONDS: Final = 60.0
"""How long reading the past of one release may take."""
BEFORE_MS: Final = 60_000
"""Clocks may differ: how long before the creation of a release its events are searched."""

_log = logging.getLogger(__name__)


class StreamedEvent(NamedTuple):
    """An event, as it was published; `id` is its offset. `last`: the release finishes with it.

    `value` is empty where the release has finished and no event says so any more, or the reader has had it.
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
    """The events of one instance from now on, as one reader gets them."""

    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self.news = asyncio.Event()
        self.cut = False
        """Something is missing from here on."""

    def put(self, record: Record) -> None:
        if len(self.records) >= MOST_UNREAD:
            self.cut = True
        if not self.cut:
            self.records.append(record)
        self.news.set()

    def lose(self) -> None:
        self.cut = True
        self.news.set()


class ReleaseEventStreams:
    """All open event streams of this replica."""

    def __init__(self, settings: Settings, tail: KafkaTail) -> None:
        self._settings = settings
        self._tail = tail
        self._live: dict[str, set[_LiveEvents]] = {}
        self._room = asyncio.Semaphore(CONCURRENT_READS)
        self._waiting = 0
        tail.listeners.append(self._receive)
        tail.lost.append(self._lost)

    def __len__(self) -> int:
        return sum(len(readers) for readers in self._live.values())

    async def of(
        self, flow: Json, after: int | None, has_finished: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[StreamedEvent | None]:
        """Yield the events of a release, behind the event `after` if any, until it finishes or events were missed.

        Yields None once the past is read, and where no event came for a while; then `has_finished` is called too.
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
            for event in past:
                at = event.id
                yield event
                if event.last:
                    return
            quiet = SOON_SECONDS if await has_finished() else QUIET_SECONDS
            async with aclosing(_follow(live, uid, at, has_finished, quiet)) as live_events:
                async for live_event in live_events:
                    yield live_event
        finally:
            self._live[key].discard(live)
            if not self._live[key]:
                del self._live[key]

    async def _past(self, key: str, uid: str, after: int | None, since: int) -> list[StreamedEvent]:
        """Read the events that Kafka has up to now."""
        if self._waiting >= MOST_WAITING:
            text = "too many read the past at once"
            raise Problem(Kind.UNAVAILABLE, "Busy", text, retry_after=2)
        self._waiting += 1
        try:
            async with self._room:
                async with asyncio.timeout(PAST_SECONDS):
                    return await self._read(key, uid, after, since)
        except (KafkaError, OSError, TimeoutError) as error:
            text = f"Kafka at {self._settings.kafka_bootstrap} can't be read for past events: {error!r}"
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
            at = await _start_offset(consumer, where, after, since)
            consumer.seek(where, at)
            return await _read_up_to(consumer, where, end, key, uid)
        finally:
            await consumer.stop()

    def _receive(self, record: Record) -> None:
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


async def _start_offset(
    consumer: AIOKafkaConsumer, where: TopicPartition, after: int | None, since: int
) -> int:
    """Return the offset to read from; events that Kafka has deleted are left out."""
    oldest = int((await consumer.beginning_offsets([where]))[where])
    if after is not None:
        return max(after + 1, oldest)
    try:
        found = (await consumer.offsets_for_times({where: since}))[where]
    except KafkaError as error:
        _log.info("reading events from the beginning of its partition: %r", error)
        return oldest
    return max(int(found.offset), oldest) if found else oldest


async def _read_up_to(
    consumer: AIOKafkaConsumer, where: TopicPartition, end: int, key: str, uid: str
) -> list[StreamedEvent]:
    found: list[StreamedEvent] = []
    while await consumer.position(where) < end:
        async with asyncio.timeout(START_SECONDS):
            batch = await consumer.getmany(where, timeout_ms=1000)
        for raw in batch.get(where, ()):
            if raw.key == key.encode() and (event := _streamed(raw.offset, raw.value or b"", uid)):
                found.append(event)
                if event.last:
                    return found
    return found


async def _follow(
    live: _LiveEvents, uid: str, at: int, has_finished: Callable[[], Awaitable[bool]], quiet: float
) -> AsyncGenerator[StreamedEvent | None]:
    while True:
        while live.records:
            record = live.records.popleft()
            event = _streamed(record.offset, record.value, uid) if record.offset > at else None
            if event is not None:
                yield event
                if event.last:
                    return
        if live.cut:
            return
        live.news.clear()
        try:
            async with asyncio.timeout(quiet):
                await live.news.wait()
        except TimeoutError:
            if await has_finished():
                yield StreamedEvent(at, b"", last=True)
                return
            yield None


def _streamed(offset: int, value: bytes, uid: str) -> StreamedEvent | None:
    try:
        event = msgspec.json.decode(value, type=_Event)
    except msgspec.DecodeError:
        return None
    if event.flow.uid != uid:
        return None
    ends = event.reason == event.phase and event.phase in list(FlowPhase) and FlowPhase(event.phase).finished
    return StreamedEvent(offset, value, bool(ends))
