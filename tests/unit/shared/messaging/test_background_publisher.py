"""Messages on their way to Kafka: in order, and of those that only the log needs not more than have room."""

from __future__ import annotations

import asyncio
from typing import cast

from shared.domain.messages import Due, Message
from shared.messaging.background_publisher import BackgroundPublisher
from shared.messaging.kafka import Kafka
from tests.unit.parts import MemoryKafka, until


async def sent(kafka: MemoryKafka, outgoing: BackgroundPublisher, number: int) -> list[str]:
    task = asyncio.create_task(outgoing.run())
    try:
        await until(lambda: len(kafka.published) >= number)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return [message.instance for message in kafka.published]


def due(instance: str) -> Message:
    return Due(namespace="default", instance=instance)


async def test_messages_are_sent_in_their_order(kafka: MemoryKafka) -> None:
    outgoing = BackgroundPublisher(cast("Kafka", kafka))
    for name in "abc":
        outgoing.put(due(name))
    assert await sent(kafka, outgoing, 3) == ["a", "b", "c"]


async def test_where_not_all_have_room_the_oldest_are_dropped(kafka: MemoryKafka) -> None:
    outgoing = BackgroundPublisher(cast("Kafka", kafka), most=2)
    for name in "abcd":
        outgoing.put(due(name))
    assert await sent(kafka, outgoing, 2) == ["c", "d"]


async def test_a_message_that_kafka_refuses_holds_up_no_other(kafka: MemoryKafka) -> None:
    kafka.refuses = lambda message: message.instance == "b"
    outgoing = BackgroundPublisher(cast("Kafka", kafka))
    for name in "abcd":
        outgoing.put(due(name))
    assert await sent(kafka, outgoing, 3) == ["a", "c", "d"]


async def test_something_smaller_is_published_in_its_place(kafka: MemoryKafka) -> None:
    kafka.refuses = lambda message: len(message.instance) > 2
    outgoing = BackgroundPublisher(
        cast("Kafka", kafka), instead=lambda message, fault: [due(message.instance[1:]), due(fault.reason[0])]
    )
    for name in ("long", "c"):
        outgoing.put(due(name))
    assert await sent(kafka, outgoing, 4) == ["c", "T", "ng", "T"]
