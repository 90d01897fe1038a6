"""Publishes what watches report to Kafka, in order and in the background: a watch never waits for a broker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from shared.domain.messages import Message
from shared.errors import Fault, Unavailable, Unpublishable
from shared.messaging.kafka import Kafka

AT_ONCE: Final = 500
RETRY_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


class BackgroundPublisher:
    """A queue of messages and the task (`run`) that publishes them, however long Kafka is away.

    Waiting messages are lost with the process; their source publishes them again when the next process lists.
    `most`: how many may wait; beyond it the oldest are dropped. 0: no limit. `instead`: what is published in the place
    of a message that Kafka refuses; nothing by default. Such a message holds up none of the others.
    """

    def __init__(
        self,
        kafka: Kafka,
        most: int = 0,
        instead: Callable[[Message, Fault], Sequence[Message]] = lambda *_: (),
    ) -> None:
        self._kafka = kafka
        self._instead = instead
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
            except Unpublishable as error:
                messages = [
                    other
                    for place, fault in error.faults.items()
                    for other in self._replace(messages[place], fault)
                ]
                if not messages:
                    return
            except Unavailable as error:
                _log.warning("waiting: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    def _replace(self, message: Message, fault: Fault) -> Sequence[Message]:
        kind, about = type(message).__name__, {"triton.key": str(message.key)}
        _log.error("%s not published: %s: %s", kind, fault.reason, fault.message, extra=about)
        return self._instead(message, fault)
