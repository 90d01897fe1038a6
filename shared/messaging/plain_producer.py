"""A producer of records that any client of Kafka can read: without compression.

aiokafka compresses all that a producer sends or nothing of it, so answers have a producer of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed

from shared.messaging.connection import connection
from shared.settings import Settings


class PlainProducer:
    """Connects to Kafka with the first record; as sure as the one for messages, but not compressed."""

    def __init__(self, settings: Settings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._stopped = False

    async def send(self, topic: str, key: bytes, value: bytes, headers: Mapping[str, str]) -> None:
        """Publish a record and wait until Kafka has it; raises aiokafka's errors."""
        producer = await self._started()
        sent = [(name, text.encode()) for name, text in headers.items()]
        await producer.send_and_wait(topic, value, key=key, headers=sent)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._stopped:
                raise ProducerClosed
            if self._producer is None:
                producer = AIOKafkaProducer(
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    request_timeout_ms=20_000,
                    **connection(self._settings),
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def stop(self) -> None:
        self._stopped = True
        if self._producer is not None:
            await self._producer.stop()
