"""The broker factory: FastStream on aiokafka, set to lose nothing.

FastStream's Kafka defaults are at-most-once (first acknowledge, read from the latest, no group, no
idempotence); everything that makes it at-least-once is set here, once. Records go to `shared.messaging.lanes`, which
decides when an offset is done; commits follow within `COMMIT_SECONDS`, so a crash brings back the last
moments' records and every handler must bear a repetition.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import InvalidSessionTimeoutError, KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2
from faststream import AckPolicy
from faststream.exceptions import IncorrectState
from faststream.kafka import KafkaBroker
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage
from faststream.message import StreamMessage
from prometheus_client import Counter
from pydantic import ValidationError

from shared.cancellation import cancel_all
from shared.clock import now_milliseconds
from shared.domain import topics
from shared.domain.deployflow import problems
from shared.domain.messages import ADAPTERS, TOPIC_OF, Message
from shared.domain.record import Record
from shared.errors import ConfigError, Poison, Unavailable
from shared.messaging import consumer_lag
from shared.messaging.batch_consumer import USUAL, BatchConsumer, Limits, Write
from shared.messaging.lanes import Handle, Lanes
from shared.observability import tracing
from shared.settings import Settings

COMMIT_SECONDS: Final = 1.0
REVOKE_SECONDS: Final = 3.0
"""How long a rebalance waits for work under way; well below the session time-out of a production setting."""
STOP_SECONDS: Final = 5.0
"""The time for work under way and its commit, and again for the producer: well below a service's own limit."""
POLL_INTERVAL_MS: Final = 24 * 3600 * 1000
"""Waiting for a server that is away must not cost the partitions; heartbeats show that the consumer is alive."""
BATCH_BYTES: Final = 1 << 14
"""The size of batches, as written and as read: less, or what comes within the longest wait of a fetch."""
POLL_MS: Final = 50
"""So long FastStream waits for a batch to begin, and as long again between two such waits."""
FETCH_BYTES: Final = 8 << 20
PARTITION_BYTES: Final = 256 << 10
"""Bytes read ahead of the batches, of all partitions of a broker and of each. A larger message still passes."""
LARGEST_MESSAGE: Final = 1_000_000
"""Kafka's default for a message; a dead letter keeps at most this much of its value."""
LARGEST_REQUEST: Final = 8 << 20
"""The size of a message before it is compressed: the facts of some 30,000 pods."""
REPLY_SECONDS: Final = 5.0
"""So long an answer may hold up the commands after it."""
APPEAR_SECONDS: Final = 10.0
"""The time from the creation of a topic until a broker lists it: mostly milliseconds."""
LARGEST_HEADERS: Final = 20_000
"""A dead letter keeps no headers that have more: it must fit into a message itself."""

_published = Counter("triton_kafka_published_total", "Messages published", ["topic"])
_consumed = Counter("triton_kafka_consumed_total", "Messages taken from Kafka", ["topic"])
_dead = Counter("triton_dead_letters_total", "Messages put aside", ["topic", "reason"])
INVALID: Final = "InvalidMessage"
_log = logging.getLogger(__name__)


def connection(settings: Settings) -> dict[str, Any]:
    """Return the connection arguments of every aiokafka client."""
    secure = settings.kafka_security_protocol
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap,
        "security_protocol": secure,
    }
    if secure in {"SSL", "SASL_SSL"}:
        context = ssl.create_default_context(
            cafile=str(settings.kafka_ca_file) if settings.kafka_ca_file else None
        )
        if settings.kafka_cert_file:
            context.load_cert_chain(settings.kafka_cert_file, settings.kafka_key_file)
        arguments["ssl_context"] = context
    if secure.startswith("SASL"):
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return arguments


def decode(record: Record) -> Any:
    """Decode the message in a record of one of our topics; raise `Poison` when it is invalid."""
    try:
        return ADAPTERS[record.topic].validate_json(record.value)
    except ValidationError as error:
        raise Poison(INVALID, problems(error)) from error


def timestamp() -> str:
    """Return the current time in the format of CloudEvents."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


def partition_of(key: str, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner chooses for a key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


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
        self, kafka: Kafka, names: Sequence[str], group: str, work: Lanes | BatchConsumer, **arguments: Any
    ) -> None:
        self._kafka = kafka
        self._group = group
        self._work = work
        self._names = {kafka.settings.topic(name): name for name in names}
        self.owned: frozenset[int] = frozenset()
        self.partitions = 0
        self.joined = asyncio.Event()
        self.on_assigned: Callable[[frozenset[int]], Awaitable[None]] | None = None
        self._subscriber = kafka.broker.subscriber(
            *self._names,
            group_id=kafka.settings.group(group),
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            listener=_Listener(self),
            max_poll_interval_ms=POLL_INTERVAL_MS,
            session_timeout_ms=kafka.settings.kafka_session_timeout_ms,
            heartbeat_interval_ms=kafka.settings.kafka_session_timeout_ms // 4,
            fetch_max_wait_ms=kafka.settings.kafka_fetch_max_wait_ms,
            # all topics of a group have as many partitions: range gives the same ones of each to a member
            partition_assignment_strategy=(RangePartitionAssignor,),
            parser=_unread,
            decoder=_raw,
            **arguments,
        )
        self._subscriber(self._take if isinstance(work, Lanes) else self._take_many)
        for name in names:
            _dead.labels(name, INVALID)  # a first one is a rise only where there was a 0

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
        return Record(
            self._names[raw.topic],
            (raw.key or b"").decode(errors="replace"),
            raw.value or b"",
            {name: (value or b"").decode(errors="replace") for name, value in raw.headers},
            raw.partition,
            raw.offset,
            raw.timestamp,
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
            TopicPartition(self._kafka.settings.topic(name), partition): offset
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


class Kafka:
    """The Kafka clients of a service: its consumers and one idempotent producer."""

    def __init__(self, settings: Settings, service: str) -> None:
        self.settings = settings
        self.service = service
        self._consumers: list[Consumer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.broker = KafkaBroker(
            logger=None,
            client_id=f"{settings.prefix}-{service}",
            acks="all",
            enable_idempotence=True,
            # the pods of an application with thousands of them are, written out, more than a broker takes
            compression_type="lz4",
            max_request_size=LARGEST_REQUEST,
            request_timeout_ms=20_000,
            apply_types=False,
            **_for_broker(connection(settings)),
        )

    def consume_by_key(self, names: Sequence[str], *, group: str, handle: Handle) -> Consumer:
        """Handle the records of these topics in order for each key."""
        consumer = Consumer(self, names, group, Lanes(handle, self.dead_letter))
        self._consumers.append(consumer)
        return consumer

    def consume_batches(
        self, names: Sequence[str], *, group: str, write: Write, limits: Limits = USUAL
    ) -> Consumer:
        """Hand over the records of these topics in batches, whatever their keys; done when `write` returns."""
        consumer = Consumer(
            self,
            names,
            group,
            BatchConsumer(write, self.dead_letter, limits),
            batch=True,
            batch_timeout_ms=POLL_MS,
            max_records=limits.records,
            fetch_min_bytes=BATCH_BYTES,
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
        )
        self._consumers.append(consumer)
        return consumer

    async def start(self) -> None:
        """Start; raise `ConfigError` for a setting that the broker refuses."""
        await self.broker.connect()
        try:
            # each waits for its group to settle: all at once wait as long as one; the broker then finds them started
            await asyncio.gather(*(consumer.start() for consumer in self._consumers))
        except InvalidSessionTimeoutError as error:
            msg = (
                f"TRITON_KAFKA_SESSION_TIMEOUT_MS: Kafka at {self.settings.kafka_bootstrap} refuses "
                f"{self.settings.kafka_session_timeout_ms}: give one between its group.min.session.timeout.ms "
                "(6000 by default) and group.max.session.timeout.ms"
            )
            raise ConfigError(msg) from error
        self._tasks.append(asyncio.create_task(self._commit_forever()))

    async def stop(self) -> None:
        """Finish the work under way. While Kafka is away the work is abandoned: it is delivered again."""
        # a commit and the stop of the producer would wait for as long as Kafka is away
        for ending in (
            cancel_all(self._tasks),
            asyncio.gather(*(consumer.stop() for consumer in self._consumers)),
            self.broker.stop(),
        ):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending, STOP_SECONDS)

    async def _commit_forever(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            for consumer in self._consumers:
                await consumer.commit()
                await consumer.measure()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in this order and wait until Kafka has them all; raises `Unavailable`."""
        await self.send(
            [
                (TOPIC_OF[type(message)], str(message.key), message.model_dump_json().encode())
                for message in messages
            ]
        )

    async def send(self, records: Sequence[tuple[str, str, bytes]]) -> None:
        """Publish (topic, key, value) records, each with CloudEvents headers."""
        stamp = timestamp()
        with _as_unavailable(self.settings):
            futures = [
                await self.broker.publish(
                    value,
                    self.settings.topic(topic),
                    key=key.encode(),
                    headers=self.cloud_event(str(uuid.uuid4()), topic, key, stamp) | tracing.headers(value),
                    no_confirm=True,
                )
                for topic, key, value in records
            ]
            await asyncio.gather(*futures)
        for topic, _, _ in records:
            _published.labels(topic).inc()

    def cloud_event(self, id: str, kind: str, subject: str, at: str) -> dict[str, str]:
        """Return the headers of a JSON message as a CloudEvent in Kafka's binary mode."""
        return {
            "content-type": "application/json",
            "ce_specversion": "1.0",
            "ce_id": id,
            "ce_type": f"io.triton.{kind}",
            "ce_source": f"/triton/{self.service}",
            "ce_subject": subject,
            "ce_time": at,
        }

    async def reply(self, topic: str, key: str, value: bytes, headers: dict[str, str]) -> None:
        """Publish to a topic that somebody else named; raises `Unavailable`.

        A topic that does not take it (it may not exist) gets nothing, and the log says so: others shall not wait
        for it.
        """
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                await self.broker.publish(value, topic, key=key.encode(), headers=headers)
        except (KafkaError, OSError) as error:
            if not await self.broker.ping(REPLY_SECONDS):
                with _as_unavailable(self.settings):
                    raise
            _log.warning("topic %s takes no answer (%r): is there such a topic?", topic, error)

    async def dead_letter(self, record: Record, reason: str, message: str) -> None:
        """Write a record to the dead letters with the reason, so that its partition continues."""
        size = sum(len(name) + len(value.encode()) for name, value in record.headers.items())
        whole = size <= LARGEST_HEADERS
        headers = {
            **(record.headers if whole else {}),
            "triton_topic": record.topic,
            "triton_partition": str(record.partition),
            "triton_offset": str(record.offset),
            "triton_reason": reason,
            "triton_message": message[:4000],
            "triton_at": str(now_milliseconds()),
            "triton_service": self.service,
        }
        value = record.value
        room = LARGEST_MESSAGE - LARGEST_HEADERS - 20_000
        if len(value) > room or not whole:
            value = value[:room]
            headers["triton_truncated"] = str(len(record.value))
        await self.reply(self.settings.topic(topics.DEAD_LETTERS), record.key, value, headers)
        _dead.labels(record.topic, reason).inc()


class _as_unavailable:  # noqa: N801 - reads as a statement
    def __init__(self, settings: Settings) -> None:
        self._where = settings.kafka_bootstrap

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        # IncorrectState: FastStream has closed its producer, as in a stop
        if isinstance(error, (KafkaError, OSError, IncorrectState)):
            msg = f"Kafka at {self._where} did not take a message: {error!r}"
            raise Unavailable(msg) from error


def _for_broker(arguments: dict[str, Any]) -> dict[str, Any]:
    """Convert the arguments: FastStream takes security as an object of its own."""
    from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

    protocol = arguments["security_protocol"]
    context = arguments.get("ssl_context")
    base: dict[str, Any] = {"bootstrap_servers": arguments["bootstrap_servers"]}
    if protocol == "PLAINTEXT":
        return base
    if protocol == "SSL":
        return {**base, "security": BaseSecurity(ssl_context=context, use_ssl=True)}
    kinds = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    kind = kinds[arguments["sasl_mechanism"]]
    security = kind(
        username=arguments["sasl_plain_username"],
        password=arguments["sasl_plain_password"],
        ssl_context=context,
        use_ssl=protocol == "SASL_SSL",
    )
    return {**base, "security": security}


async def ensure_topics(settings: Settings) -> None:
    """Create the missing topics; existing ones keep their partitions. Raise `Unavailable`."""
    admin = AIOKafkaAdminClient(client_id=f"{settings.prefix}-topics", **connection(settings))
    try:
        await admin.start()
        there = set(await admin.list_topics())
        missing = [settings.topic(name) for name in topics.ALL if settings.topic(name) not in there]
        if missing:
            brokers = len((await admin.describe_cluster())["brokers"])
            answer = await admin.create_topics(
                [
                    NewTopic(
                        name=name,
                        num_partitions=settings.kafka_partitions,
                        replication_factor=settings.kafka_replication or min(brokers, 3),
                    )
                    for name in missing
                ]
            )
            for name, code, *details in answer.topic_errors:
                # another replica may have been faster
                if code not in {0, TopicAlreadyExistsError.errno}:
                    why = ": ".join([for_code(code).__name__, *filter(None, details)])
                    msg = f"Kafka at {settings.kafka_bootstrap} did not create the topic {name}: {why}"
                    raise Unavailable(msg)
            # a consumer that finds its topics missing does not retry soon
            async with asyncio.timeout(APPEAR_SECONDS):
                while not set(missing) <= set(await admin.list_topics()):
                    await asyncio.sleep(0.05)
            _log.info("topics created: %s", ", ".join(missing))
    except (KafkaError, OSError) as error:
        msg = f"Kafka at {settings.kafka_bootstrap} does not answer yet ({error})"
        raise Unavailable(msg) from error
    finally:
        await admin.close()
