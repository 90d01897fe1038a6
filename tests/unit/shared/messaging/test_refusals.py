"""What Kafka refuses: the numbers of the producer's batches, and the words."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import pytest
from aiokafka.errors import (
    BrokerResponseError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.producer import sender
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.structs import TopicPartition

from shared.messaging import refusals
from shared.messaging.kafka import LARGEST_REQUEST
from shared.messaging.refusals import MESSAGE_AT_FAULT, InvalidRecordError, explain
from shared.settings import Settings

PLACE = TopicPartition("triton.batch-commands", 3)
TOPIC = "triton.planner-facts"


class Batch(NamedTuple):
    tp: TopicPartition = PLACE
    record_count: int = 2


@pytest.mark.parametrize(
    ("error", "next_number"),
    [
        (MessageSizeTooLargeError, 5),
        (TopicAuthorizationFailedError, 5),
        (NotEnoughReplicasError, 7),
        (RequestTimedOutError, 7),
    ],
)
async def test_the_number_of_a_batch_is_taken_back_where_it_is_not_sent_again(
    error: type[BrokerResponseError], next_number: int
) -> None:
    numbers = TransactionManager(None, 1000)
    numbers.increment_sequence_number(PLACE, 5)
    # as aiokafka does before it sends the batch
    numbers.increment_sequence_number(PLACE, Batch().record_count)
    request: Any = sender.SendProduceReqHandler.__new__(sender.SendProduceReqHandler)
    request._sender = cast("Any", _sender(numbers))
    assert request._can_retry(error(), Batch()) is (next_number == 7)
    assert numbers.sequence_number(PLACE) == next_number


def _sender(numbers: TransactionManager) -> Any:
    return type("Sender", (), {"_txn_manager": numbers})()


def test_a_record_that_the_topic_does_not_take_is_known() -> None:
    assert for_code(87) is InvalidRecordError
    assert issubclass(InvalidRecordError, MESSAGE_AT_FAULT)
    assert not issubclass(TopicAuthorizationFailedError, MESSAGE_AT_FAULT)


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (
            1_048_588,
            "its message has 2000000 bytes, 8412 compressed; the topic triton.planner-facts takes 1048588",
        ),
        (None, "the topic triton.planner-facts takes less (max.message.bytes)"),
    ],
)
async def test_what_is_too_large_is_named_with_its_size_and_the_limit(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, says: str
) -> None:
    async def topic_limit(*_: object) -> int | None:
        return limit

    monkeypatch.setattr(refusals, "topic_limit", topic_limit)
    fault = await explain(Settings(), TOPIC, b"x" * 2_000_000, MessageSizeTooLargeError(), LARGEST_REQUEST)
    assert fault.reason == "TooLarge"
    assert says in fault.message


async def test_a_record_that_a_schema_refuses_is_no_matter_of_size() -> None:
    fault = await explain(Settings(), TOPIC, b"x", InvalidRecordError(), LARGEST_REQUEST)
    assert fault.reason == "InvalidRecord"
