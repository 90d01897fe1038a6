"""The Kafka clients of a service: its consumers and idempotent producers, set to lose nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from aiokafka.errors import InvalidSessionTimeoutError, KafkaError
from faststream.exceptions import IncorrectState
from faststream.kafka import KafkaBroker
from prometheus_client import Counter

from shared.cancellation import cancel_all
from shared.clock import now_milliseconds
from shared.domain import topics
from shared.domain.messages import TOPIC_OF, Message
from shared.domain.record import Record
from shared.domain.reply_topics import REPLY_NOT_DELIVERED
from shared.errors import ConfigError, Fault, Unavailable, Unpublishable
from shared.messaging.batch_consumer import USUAL, BatchConsumer, Limits, Write
from shared.messaging.connection import connection, for_broker
from shared.messaging.consumer import COMMIT_SECONDS, Consumer, dead
from shared.messaging.lanes import Handle, Lanes
from shared.messaging.plain_producer import PlainProducer
from shared.messaging.refusals import MESSAGE_AT_FAULT, explain, refused
from shared.observability import tracing
from shared.settings import Settings

STOP_SECONDS: Final = 5.0
"""The time for work under way and its commit, and again for the producer: well below a service's own limit."""
BATCH_BYTES: Final = 1 << 14
"""The size of batches, as written and as read: less, or what comes within the longest wait of a fetch."""
POLL_MS: Final = 50
"""So long FastStream waits for a batch to begin, and as long again between two such waits."""
PARTITION_BYTES: Final = 256 << 10
"""Bytes of one partition that are read ahead of the batches. A larger message still passes."""
LARGEST_MESSAGE: Final = 1_000_000
"""Kafka's default for a message; a dead letter keeps at most this much of its value."""
LARGEST_REQUEST: Final = 8 << 20
"""The size of a message before it is compressed: the facts of some 30,000 pods."""
REPLY_SECONDS: Final = 5.0
"""So long an answer may hold up the commands after it."""
LARGEST_HEADERS: Final = 20_000
LARGEST_KEY: Final = 100_000
"""A dead letter keeps no headers that have more, and no longer key: it must fit into a message itself."""
LEAST_KEPT: Final = 1_000
"""The bytes of a value that a dead letter keeps where its topic takes no large ones."""
NO_JSON: Final = "NotSerializable"
REPLIES: Final = "replies"
"""The topics of answers in metrics: whoever sends a command chooses their names."""

_published = Counter("triton_kafka_published_total", "Messages published", ["topic"])
dead.labels(REPLIES, REPLY_NOT_DELIVERED)  # a first one is a rise only where there was a 0
_log = logging.getLogger(__name__)


def timestamp() -> str:
    """Return the current time in the format of CloudEvents."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


class Kafka:
    """The Kafka clients of a service: its consumers, an idempotent producer, and one of answers where it sends some."""

    def __init__(self, settings: Settings, service: str) -> None:
        self.settings = settings
        self.service = service
        self._consumers: list[Consumer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._answers = PlainProducer(settings, f"{settings.prefix}-{service}-answers")
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
            **for_broker(connection(settings)),
        )

    def consume_by_key(self, names: Sequence[str], *, group: str, handle: Handle) -> Consumer:
        """Handle the records of these topics in order for each key."""
        consumer = Consumer(self.settings, self.broker, names, group, Lanes(handle, self.dead_letter))
        self._consumers.append(consumer)
        return consumer

    def consume_batches(
        self, names: Sequence[str], *, group: str, write: Write, limits: Limits = USUAL
    ) -> Consumer:
        """Hand over the records of these topics in batches, whatever their keys; done when `write` returns."""
        consumer = Consumer(
            self.settings,
            self.broker,
            names,
            group,
            BatchConsumer(write, self.dead_letter, limits),
            batch=True,
            batch_timeout_ms=POLL_MS,
            max_records=limits.records,
            fetch_min_bytes=BATCH_BYTES,
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
            asyncio.gather(self.broker.stop(), self._answers.stop()),
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
        """Publish in this order and wait until Kafka has them all.

        Raises `Unavailable`, and `Unpublishable` when it has all but those that are at fault.
        """
        records: list[tuple[str, str, bytes]] = []
        places: list[int] = []
        faults: dict[int, Fault] = {}
        for place, message in enumerate(messages):
            topic = TOPIC_OF[type(message)]
            try:
                records.append((topic, str(message.key), message.model_dump_json().encode()))
                places.append(place)
            except ValueError as error:
                refused.labels(topic, NO_JSON).inc()
                faults[place] = Fault(NO_JSON, f"its message can't be written as JSON: {error}")
        try:
            await self.send(records)
        except Unpublishable as error:
            faults |= {places[number]: fault for number, fault in error.faults.items()}
        if faults:
            raise Unpublishable(faults)

    async def send(self, records: Sequence[tuple[str, str, bytes]]) -> None:
        """Publish (topic, key, value) records, each with CloudEvents headers.

        Raises `Unavailable`, and `Unpublishable` when Kafka has all but those that it refuses.
        """
        errors = await self._send(records)
        for number in list(errors):
            # a small one went in one batch with others, and that is refused as a whole
            if len(records[number][2]) < BATCH_BYTES and not await self._send([records[number]]):
                del errors[number]
        faults = {}
        for number, error in errors.items():
            name, _, value = records[number]
            faults[number] = await explain(
                self.settings, self.settings.topic(name), value, error, LARGEST_REQUEST
            )
            refused.labels(name, faults[number].reason).inc()
        for number, (name, _, _) in enumerate(records):
            if number not in faults:
                _published.labels(name).inc()
        if faults:
            raise Unpublishable(faults)

    async def _send(self, records: Sequence[tuple[str, str, bytes]]) -> dict[int, Exception]:
        """Publish the records and return those that Kafka refuses, by their place. Raises `Unavailable`."""
        stamp = timestamp()
        under_way: dict[int, asyncio.Future[Any]] = {}
        errors: dict[int, Exception] = {}
        with _as_unavailable(self.settings):
            for number, (topic, key, value) in enumerate(records):
                try:
                    under_way[number] = await self.broker.publish(
                        value,
                        self.settings.topic(topic),
                        key=key.encode(),
                        headers=self.cloud_event(str(uuid.uuid4()), topic, key, stamp)
                        | tracing.headers(value),
                        no_confirm=True,
                    )
                except MESSAGE_AT_FAULT as error:
                    errors[number] = error
            answers = await asyncio.gather(*under_way.values(), return_exceptions=True)
            for number, answer in zip(under_way, answers, strict=True):
                if isinstance(answer, MESSAGE_AT_FAULT):
                    errors[number] = answer
                elif isinstance(answer, BaseException):
                    raise answer
        return errors

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

        It is not compressed: many clients lack the program that unpacks it. What a topic does not take (it may not
        exist) goes to the dead letters: others shall not wait for it.
        """
        why = await self._deliver(topic, value, self._answers.send(topic, key.encode(), value, headers))
        if why is not None:
            text = (
                f"the topic {topic} did not take this answer ({why!r}): make it, or give Triton the right to "
                "write to it; then triton dead-letters replay"
            )
            letter = Record(topic, key, value, headers, 0, 0, now_milliseconds())
            await self.dead_letter(letter, REPLY_NOT_DELIVERED, text, counted_as=REPLIES)

    async def _deliver(self, topic: str, value: bytes, sent: Awaitable[object]) -> Exception | None:
        """Wait until a record is sent; return why the topic does not take it. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                await sent
        except MESSAGE_AT_FAULT as error:
            _log.warning("topic %s does not take %s bytes (%r)", topic, len(value), error)
            return error
        except (KafkaError, OSError) as error:
            if not await self.broker.ping(REPLY_SECONDS):
                with _as_unavailable(self.settings):
                    raise
            _log.warning("topic %s takes no answer (%r): is there such a topic?", topic, error)
            return error
        return None

    async def dead_letter(self, record: Record, reason: str, message: str, *, counted_as: str = "") -> None:
        """Write a record to the dead letters with the reason, so that its partition continues. Raises `Unavailable`.

        `counted_as`: the name of its topic in the metric, where others choose the topic.
        """
        size = sum(len(name.encode()) + len(value.encode()) for name, value in record.headers.items())
        key = record.key.encode()[:LARGEST_KEY]
        kept = record.value[: LARGEST_MESSAGE - 2 * LARGEST_HEADERS - len(key)]
        about = {
            "triton_topic": record.topic,
            "triton_partition": str(record.partition),
            "triton_offset": str(record.offset),
            "triton_reason": reason,
            "triton_message": message[:4000],
            "triton_at": str(now_milliseconds()),
            "triton_service": self.service,
        }
        # a text may quote what the record has, which need not be text
        about = {name: value.encode(errors="backslashreplace").decode() for name, value in about.items()}
        cut = {"triton_truncated": str(record.size or len(record.value))}
        whole = (
            size <= LARGEST_HEADERS
            and (key, kept) == (record.key.encode(), record.value)
            and not record.unread
        )
        headers = {**(record.headers if size <= LARGEST_HEADERS else {}), **about, **({} if whole else cut)}
        topic = self.settings.topic(topics.DEAD_LETTERS)
        sent = self.broker.publish(kept, topic, key=key, headers=headers)
        if isinstance(await self._deliver(topic, kept, sent), MESSAGE_AT_FAULT):
            key, kept = key[:LEAST_KEPT], kept[:LEAST_KEPT]
            sent = self.broker.publish(kept, topic, key=key, headers=about | cut)
            await self._deliver(topic, kept, sent)
        dead.labels(counted_as or record.topic, reason).inc()


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
