"""Replies to those who requested a release over Kafka."""

from __future__ import annotations

import logging
from typing import Final

from shared.domain.replies import DeployCommandReply
from shared.messaging.kafka import Kafka, timestamp

KIND: Final = "reply"
_log = logging.getLogger(__name__)


async def send(kafka: Kafka, topic: str, reply: DeployCommandReply, at: str = "") -> None:
    """Publish a reply on the topic that the command named. `at`: when its event happened; empty: now.

    The event id is the same each time that the reply is sent. Nothing is sent to a topic that does not exist, nor to one
    on which Triton does not answer: the log has the reply then. Raises `Unavailable`.
    """
    if why := kafka.settings.refuse_reply(topic):
        _log.warning(
            "no answer to %s: %s. It was: %s", reply.id, why, reply.model_dump_json(exclude_none=True)
        )
        return
    event = kafka.cloud_event(f"{reply.id}:{reply.result}", KIND, reply.id, at or timestamp())
    headers = event | {"correlation_id": reply.id}
    await kafka.reply(topic, reply.id, reply.model_dump_json(exclude_none=True).encode(), headers)
