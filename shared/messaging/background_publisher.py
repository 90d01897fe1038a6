"""Publishes what watches report to Kafka, in order and in the background: a watch never waits for a broker."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from shared.domain.messages import Message
from shared.errors import Unavailable
from shared.messaging.kafka import Kafka

AT_ONCE: Final = 500
RETRY_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


class BackgroundPublisher:
    """A queue of messages and the task (`run`) that publishes them, however long Kafka is away.

    Waiting messages are lost with the process; their source publishes them again when the next process lists.
    `most`: how many may wait; beyond it the oldest are dropped. 0: no limit.
    """

    def __init__(self, kafka: Kafka, most: int = 0) -> None:
        self._kafka = kafka
        self._queue: asyncio.Queue[Message] = asyncio.Queue(most)

    def put(self, message: Message) -> None:
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(message)

    async def run(self) -> None:
        while True:
            messages = [await self._queue.get()]
            while not self._queue.empty() and len(messages) < AT_ONCE:
                messages.append(self._queue.get_nowait())
            await self._publish(messages)

    async def _publish(self, messages: list[Message]) -> None:
        while True:
            try:
                await self._kafka.publish(messages)
                return
            except Unavailable as error:
                _log.warning("waiting: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
