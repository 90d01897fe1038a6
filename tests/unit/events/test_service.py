"""The events service as a process, on a real Kafka protocol: what others publish gets into the release log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from shared.domain import topics
from shared.domain.messages import Message
from shared.event_store import EventStore, Query
from shared.messaging.connection import connection
from shared.settings import Settings
from tests.unit.events.conftest import until
from tests.unit.events.samples import flow_event, pod, pods_seen, record


@pytest.fixture
async def producer(kafka_settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(**connection(kafka_settings)) as producer:
        yield producer


@contextlib.contextmanager
def events_service(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "TRITON_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "TRITON_KAFKA_FETCH_MAX_WAIT_MS": "10",
        "TRITON_EVENT_STORE": settings.event_store,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", "from services.events.app import main; main()"], env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def publish(producer: AIOKafkaProducer, *messages: Message) -> None:
    for message in messages:
        published = record(message)
        await producer.send_and_wait(f"triton.{published.topic}", published.value, key=published.key.encode())


async def ids(store: EventStore) -> list[str]:
    return [document["event"]["id"] for document in await store.search(Query())]


async def test_what_the_others_publish_is_in_the_log_once_however_often_it_is_published(
    kafka_settings: Settings, store: EventStore, producer: AIOKafkaProducer
) -> None:
    with events_service(kafka_settings) as service:
        await publish(producer, flow_event(1), flow_event(1), pods_seen(pod()), flow_event(2))
        await until(lambda: _has(store, 3))
        service.send_signal(signal.SIGTERM)
        assert service.wait(15) == 0
    assert "flow-1:1" in await ids(store)


async def test_a_message_that_is_none_is_put_aside_and_the_next_one_gets_through(
    kafka_settings: Settings, store: EventStore, producer: AIOKafkaProducer
) -> None:
    topic = f"triton.{topics.DEPLOYFLOW_EVENTS}"
    await producer.send_and_wait(topic, b"{not json", key=b"shop/web", headers=[("ce_id", b"7")])
    await publish(producer, flow_event(1))
    with events_service(kafka_settings):
        await until(lambda: _has(store, 1))
        consumer = AIOKafkaConsumer(
            f"triton.{topics.DEAD_LETTERS}", auto_offset_reset="earliest", **connection(kafka_settings)
        )
        async with consumer:
            letter = await consumer.getone()
    assert letter.value == b"{not json"
    assert letter.key == b"shop/web"
    headers = {name: value.decode() for name, value in letter.headers}
    assert headers["ce_id"] == "7"
    assert headers["triton_topic"] == topics.DEPLOYFLOW_EVENTS
    assert headers["triton_reason"] == "InvalidMessage"
    assert "Invalid JSON" in headers["triton_message"]


async def _has(store: EventStore, number: int) -> bool:
    return len(await ids(store)) == number
