"""Reads the events of all releases from Kafka, whichever replica decided on them.

It reads from the end of the topics and without a group: nothing is committed, and earlier events are not read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from shared.domain.record import Record
from shared.domain.topics import DEPLOYFLOW_EVENTS, PHASE_EVENTS
from shared.messaging.connection import connection
from shared.settings import Settings

RETRY_SECONDS: Final = 1.0
_TOPICS: Final = (DEPLOYFLOW_EVENTS, PHASE_EVENTS)
_log = logging.getLogger(__name__)


class KafkaTail:
    """Calls `listeners` with each record, and those of `lost` when records may have been missed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.listeners: list[Callable[[Record], None]] = []
        self.lost: list[Callable[[], None]] = []
        self.follows = asyncio.Event()
        """Set once records arrive."""

    async def run(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError) as error:
                _log.warning("following Kafka for the open streams: %r, trying again", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        names = {self._settings.topic(name): name for name in _TOPICS}
        consumer = AIOKafkaConsumer(
            *names,
            client_id=f"{self._settings.prefix}-api",
            group_id=None,
            auto_offset_reset="latest",
            fetch_max_wait_ms=self._settings.kafka_fetch_max_wait_ms,
            **connection(self._settings),
        )
        await consumer.start()
        try:
            # no record is missed once the position is settled
            for partition in consumer.assignment():
                await consumer.position(partition)
            self.follows.set()
            for lost in self.lost:
                lost()
            async for raw in consumer:
                record = Record(
                    names[raw.topic],
                    (raw.key or b"").decode(errors="replace"),
                    raw.value or b"",
                    {},
                    raw.partition,
                    raw.offset,
                    raw.timestamp,
                )
                for listener in self.listeners:
                    listener(record)
        finally:
            await consumer.stop()
