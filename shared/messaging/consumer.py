"""Members of consumer groups: FastStream on aiokafka, set to lose nothing.

FastStream's Kafka defaults are at-most-once (first acknowledge, read from the latest, no group); everything that makes a
consumer at-least-once is set here, once. Records go to `shared.messaging.lanes`, which decides when an offset is done;
commits follow within `COMMIT_SECONDS`, so a crash brings back the last moments' records and every handler must bear a
repetition.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage
from faststream.message import StreamMessage
from prometheus_client import Counter
from pydantic import ValidationError

from shared.domain.deployflow import problems
from shared.domain.messages import ADAPTERS
from shared.domain.record import Record
from shared.errors import Poison
from shared.messaging import consumer_lag
from shared.messaging.batch_consumer import BatchConsumer
from shared.messaging.bounded_records import Unread
from shared.messaging.connection import partition_of
from shared.messaging.lanes import UNREADABLE, Lanes
from shared.settings import Settings

COMMIT_SECONDS: Final = 1.0
REVOKE_SECONDS: Final = 3.0
"""How long a rebalance waits for work under way; well below the session time-out of a production setting."""
POLL_INTERVAL_MS: Final = 24 * 3600 * 1000
"""Waiting for a server that is away must not cost the partitions; heartbeats show that the consumer is alive."""
FETCH_BYTES: Final = 8 << 20
"""Bytes of one fetch, of all partitions of a broker. A larger message still passes."""
INVALID: Final = "InvalidMessage"

_consumed = Counter("triton_kafka_consumed_total", "Messages taken from Kafka", ["topic"])
dead = Counter("triton_dead_letters_total", "Messages put aside", ["topic", "reason"])
_log = logging.getLogger(__name__)


def decode(record: Record) -> Any:
    """Decode the message in a record of one of our topics; raise `Poison` when it is invalid."""
    try:
        return ADAPTERS[record.topic].validate_json(record.value)
    except ValidationError as error:
        raise Poison(INVALID, problems(error)) from error


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._consumer.revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._consumer.assigned(assigned)


class Consumer:
    """One member of a consumer group: feeds its lanes, commits what is done, knows what it owns."""

    def __init__(
        self,
        settings: Settings,
        broker: KafkaBroker,
        names: Sequence[str],
        group: str,
        work: Lanes | BatchConsumer,
        **arguments: Any,
    ) -> None:
        self._settings = settings
        self._group = group
        self._work = work
        self._names = {settings.topic(name): name for name in names}
        self.owned: frozenset[int] = frozenset()
        self.partitions = 0
        self.joined = asyncio.Event()
        self.on_assigned: Callable[[frozenset[int]], Awaitable[None]] | None = None
        self._subscriber = broker.subscriber(
            *self._names,
            group_id=settings.group(group),
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            listener=_Listener(self),
            max_poll_interval_ms=POLL_INTERVAL_MS,
            session_timeout_ms=settings.kafka_session_timeout_ms,
            heartbeat_interval_ms=settings.kafka_session_timeout_ms // 4,
            fetch_max_wait_ms=settings.kafka_fetch_max_wait_ms,
            fetch_max_bytes=FETCH_BYTES,
            # all topics of a group have as many partitions: range gives the same ones of each to a member
            partition_assignment_strategy=(RangePartitionAssignor,),
            parser=_unread,
            decoder=_raw,
            **arguments,
        )
        self._subscriber(self._take if isinstance(work, Lanes) else self._take_many)
        for name in names:
            for reason in (INVALID, UNREADABLE):
                dead.labels(name, reason)  # a first one is a rise only where there was a 0

    @property
    def consumer(self) -> AIOKafkaConsumer:
        consumer = self._subscriber.consumer
        if consumer is None:
            msg = "the consumer has not been started"
            raise RuntimeError(msg)
        return consumer

    def owns(self, key: str) -> bool:
        """Decide whether this process owns the partition of an instance; no other one acts for it then."""
        return bool(self.partitions) and partition_of(key, self.partitions) in self.owned

    async def _take(self, raw: Any) -> None:
        assert isinstance(self._work, Lanes)
        record = self._record(raw)
        _consumed.labels(record.topic).inc()
        await self._work.put(record)

    async def _take_many(self, raws: Sequence[Any]) -> None:
        assert isinstance(self._work, BatchConsumer)
        records = [self._record(raw) for raw in raws]
        for topic, number in collections.Counter(record.topic for record in records).items():
            _consumed.labels(topic).inc(number)
        await self._work.put(records)

    def _record(self, raw: Any) -> Record:
        record = Record(
            self._names[raw.topic],
            (raw.key or b"").decode(errors="replace"),
            raw.value or b"",
            {name: (value or b"").decode(errors="replace") for name, value in raw.headers},
            raw.partition,
            raw.offset,
            raw.timestamp,
        )
        return (
            record._replace(unread=raw.value.why, size=raw.value.size)
            if isinstance(raw.value, Unread)
            else record
        )

    async def revoked(self, revoked: set[TopicPartition]) -> None:
        partitions = [(self._names[tp.topic], tp.partition) for tp in revoked]
        self.owned -= {tp.partition for tp in revoked}
        if self._work.offsets.busy(partitions):
            await self._work.drain(REVOKE_SECONDS)
        await self.commit()
        self._work.offsets.forget(partitions)

    async def assigned(self, assigned: set[TopicPartition]) -> None:
        known = self.consumer.partitions_for_topic(next(iter(self._names))) or set()
        self.partitions = len(known)
        self.owned = frozenset(tp.partition for tp in assigned)
        _log.info("partitions assigned: %s", sorted(self.owned))
        self.joined.set()
        if self.on_assigned:
            await self.on_assigned(self.owned)

    async def commit(self) -> None:
        commits = {
            TopicPartition(self._settings.topic(name), partition): offset
            for (name, partition), offset in self._work.offsets.take_commits().items()
        }
        owned = self.consumer.assignment()
        if commits := {tp: offset for tp, offset in commits.items() if tp in owned}:
            # records that could not be committed are delivered again, which every handler tolerates
            with contextlib.suppress(KafkaError):
                await self.consumer.commit(commits)

    async def measure(self) -> None:
        """Update the metrics of its lag."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMMIT_SECONDS):
                await consumer_lag.measure(self.consumer, self._group, self._names, self._work.offsets)

    async def start(self) -> None:
        await self._subscriber.start()

    async def stop(self) -> None:
        await self._work.drain(REVOKE_SECONDS)
        await self._work.stop()
        await self.commit()


async def _unread(record: Any) -> StreamMessage[Any]:
    """Wrap a record unparsed: FastStream's parser fails on binary headers, and takes one as a reply address."""
    return KafkaMessage(record, b"", consumer=FAKE_CONSUMER)


async def _raw(message: StreamMessage[Any]) -> Any:
    return message.raw_message
