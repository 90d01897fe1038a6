"""Answers those who asked for a release over Kafka."""

from __future__ import annotations

from typing import Final

from shared.kafka import Kafka, timestamp
from shared.replies import DeployCommandReply

KIND: Final = "reply"


async def send(kafka: Kafka, topic: str, reply: DeployCommandReply, at: str = "") -> None:
    """Publish it on the topic that the command named; `at` is when what it tells of happened, now if not given.

    Its event id is the same each time that it is sent. Raises `Unavailable`; a topic that is not there gets nothing.
    """
    event = kafka.cloud_event(f"{reply.id}:{reply.result}", KIND, reply.id, at or timestamp())
    headers = event | {"correlation_id": reply.id}
    await kafka.reply(topic, reply.id, reply.model_dump_json(exclude_none=True).encode(), headers)
