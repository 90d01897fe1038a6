"""Distinguishes a message that Kafka refuses from a Kafka that is away, and keeps the producer going after a refusal.

An idempotent producer numbers the batches of each partition. aiokafka counts a refused batch too, and the broker then
refuses every later one of that partition as out of order, until the process ends: one message stops all others. Kafka's
own client takes the number back, and so does this one. Importing this module puts that into aiokafka, which has no setting
for it.
"""

from __future__ import annotations

from typing import Any, Final

import aiokafka.producer.sender
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.codec import lz4_encode
from aiokafka.errors import (
    BrokerResponseError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    kafka_errors,
)
from aiokafka.producer.sender import SendProduceReqHandler
from prometheus_client import Counter

from shared.errors import Fault
from shared.messaging.connection import connection
from shared.settings import Settings

TOO_LARGE: Final = "TooLarge"
INVALID_RECORD: Final = "InvalidRecord"
MAX_MESSAGE_BYTES: Final = "max.message.bytes"
"""The setting of a topic: the bytes of a batch as it is sent, compressed."""
LOOK_UP_MS: Final = 3_000

refused = Counter("triton_kafka_refused_total", "Messages that Kafka refuses", ["topic", "reason"])


class InvalidRecordError(BrokerResponseError):  # type: ignore[misc]
    """The broker's answer to a record that the topic does not take, as by a schema; aiokafka does not know it."""

    errno = 87
    message = "INVALID_RECORD"
    description = "This record has failed the validation on the broker, and hence will be rejected."


kafka_errors[InvalidRecordError.errno] = InvalidRecordError
MESSAGE_AT_FAULT: Final = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError)
"""What Kafka answers to this message alone. A missing right or topic stops all messages, and is waited for."""


class _ProduceRequest(SendProduceReqHandler):  # type: ignore[misc]
    def _can_retry(self, error: BrokerResponseError, batch: Any) -> bool:
        if super()._can_retry(error, batch):
            return True
        numbers = self._sender._txn_manager
        if numbers is not None:
            # no later batch of the partition has a number yet: one at a time is under way
            numbers.increment_sequence_number(batch.tp, -batch.record_count)
        return False


aiokafka.producer.sender.SendProduceReqHandler = _ProduceRequest


async def explain(settings: Settings, topic: str, value: bytes, error: Exception, largest: int) -> Fault:
    """Return why Kafka refuses a message, with its size and what the topic takes. `topic`: with the prefix."""
    if isinstance(error, InvalidRecordError):
        text = (
            f"the topic {topic} does not take the message ({error}): does a schema of the broker refuse it?"
        )
        return Fault(INVALID_RECORD, text)
    if len(value) > largest:
        return Fault(TOO_LARGE, f"its message has {len(value)} bytes; Triton sends at most {largest}")
    size = f"{len(value)} bytes, {len(lz4_encode(value))} compressed"
    limit = await topic_limit(settings, topic)
    text = f"its message has {size}; the topic {topic} takes {limit or 'less'} ({MAX_MESSAGE_BYTES}): raise that, or shorten it"
    return Fault(TOO_LARGE, text)


async def topic_limit(settings: Settings, topic: str) -> int | None:
    """Return the bytes that a message of this topic may have; None where Kafka does not say it."""
    return (await topic_limits(settings, [topic])).get(topic)


async def topic_limits(settings: Settings, names: list[str]) -> dict[str, int]:
    """Return the limits of these topics, as far as Kafka says them: it needs the right to describe their settings."""
    admin = AIOKafkaAdminClient(request_timeout_ms=LOOK_UP_MS, **connection(settings))
    found: dict[str, int] = {}
    try:
        await admin.start()
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name, {MAX_MESSAGE_BYTES: None}) for name in names]
        for answer in await admin.describe_configs(wanted):
            for _code, _why, _kind, name, entries, *_ in answer.resources:
                for key, value, *_ in entries:
                    if key == MAX_MESSAGE_BYTES:
                        found[name] = int(value)
    except (KafkaError, OSError):
        return found
    finally:
        await admin.close()
    return found
