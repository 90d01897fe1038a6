"""A proxy in front of the mock broker that corrects three differences from a real one.

The mock holds a fetch without records until its timeout, whatever arrives: the proxy sends it again as soon as
somebody writes to one of its topics, so that a message is delivered at once and waiting costs nothing.

In a group of several members, the mock refuses a follower's SyncGroup after the leader's as invalid, on which
aiokafka gives up: the proxy holds the leader's back until its followers' are sent.

A client may create topics, with as many partitions as it wants (`sandbox.kafka_topics`).

Requests of one connection are carried out one after another, as Kafka does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from sandbox import kafka_topics
from sandbox.kafka_frames import Fetch, Produce, Sync, is_empty, read
from sandbox.kafka_topics import NewTopic

_HOLD_SECONDS: Final = 1.0
"""For a follower that died in between; the mock starts over by itself then."""
_SETTLE_SECONDS: Final = 0.02
"""The time until the mock's thread has read a follower's request from its socket."""
_BUFFER_BYTES: Final = 1 << 20


class KafkaProxy:
    """Listens on a free port of 127.0.0.1 from `start` to `close`.

    `make_topic` makes one of that name and number of partitions, and returns Kafka's error code.
    """

    def __init__(self, upstream_port: int, make_topic: Callable[[str, int], int]) -> None:
        self._upstream_port = upstream_port
        self._make_topic = make_topic
        self._followers: Counter[tuple[str, int]] = Counter()
        self._written: Counter[str] = Counter()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Start the proxy and return its port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_BUFFER_BYTES)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port, limit=_BUFFER_BYTES)
            broker = _Broker(*upstream)
            try:
                while True:
                    answer = await self._carry_out(broker, await _read_frame(reader))
                    if answer is not None:
                        await _write_frame(writer, answer)
            finally:
                broker.close()
        writer.close()

    async def _carry_out(self, broker: _Broker, frame: bytes) -> bytes | None:
        match read(frame):
            case Fetch() as fetch:
                return await self._fetch(broker, fetch)
            case Produce(topics, acks):
                answer = await broker.ask(frame, answered=acks != 0)
                self._wake(topics)
                return answer
            case Sync() as sync:
                return await self._sync(broker, sync, frame)
            case None if wanted := kafka_topics.wanted(frame):
                return kafka_topics.answer(frame, wanted, [await self._made(topic) for topic in wanted])
            case None:
                answer = await broker.ask(frame)
                return answer and kafka_topics.mended(frame, answer)

    async def _made(self, topic: NewTopic) -> int:
        return topic.fault or await asyncio.to_thread(self._make_topic, topic.name, topic.partitions)

    async def _fetch(self, broker: _Broker, fetch: Fetch) -> bytes | None:
        deadline = asyncio.get_running_loop().time() + fetch.max_wait_ms / 1000
        while True:
            written = self._count(fetch.topics)
            answer = await broker.ask(fetch.frame)
            if answer is None or not is_empty(answer):
                return answer
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or (
                written == self._count(fetch.topics) and not await self._news(fetch.topics, left)
            ):
                return answer

    def _count(self, topics: Iterable[str]) -> int:
        return sum(self._written[topic] for topic in topics)

    async def _news(self, topics: Iterable[str], within: float) -> bool:
        """Wait for a write to one of the topics; return False after `within` seconds."""
        event = asyncio.Event()
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(event)
        try:
            await asyncio.wait_for(event.wait(), within)
        except TimeoutError:
            return False
        finally:
            for topic in topics:
                self._waiting[topic].discard(event)
        return True

    def _wake(self, topics: Iterable[str]) -> None:
        for topic in topics:
            self._written[topic] += 1
            for event in self._waiting.get(topic, ()):
                event.set()

    async def _sync(self, broker: _Broker, sync: Sync, frame: bytes) -> bytes | None:
        if sync.assignments > 1:
            await self._followers_first(sync)
        elif sync.assignments == 0:
            self._followers[sync.group, sync.generation] += 1
        return await broker.ask(frame)

    async def _followers_first(self, sync: Sync) -> None:
        deadline = asyncio.get_running_loop().time() + _HOLD_SECONDS
        while self._followers[sync.group, sync.generation] < sync.assignments - 1:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(_SETTLE_SECONDS / 4)
        await asyncio.sleep(_SETTLE_SECONDS)
        del self._followers[sync.group, sync.generation]


class _Broker:
    """The connection behind one client's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, frame: bytes, *, answered: bool = True) -> bytes | None:
        await _write_frame(self._writer, frame)
        return await _read_frame(self._reader) if answered else None

    def close(self) -> None:
        self._writer.close()


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4)))


async def _write_frame(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(len(frame).to_bytes(4) + frame)
    await writer.drain()
