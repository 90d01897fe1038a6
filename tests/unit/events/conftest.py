from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from sandbox.kafka import MockCluster
from shared import topics
from shared.event_store import EventStore, open_store
from shared.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(event_store=f"sqlite:///{tmp_path}/events.db")


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[EventStore]:
    store = open_store(settings)
    await store.prepare()
    yield store
    await store.close()


@pytest.fixture
def broker() -> Iterator[MockCluster]:
    broker = MockCluster([f"triton.{name}" for name in topics.ALL], ["triton.events"])
    yield broker
    broker.close()


@pytest.fixture
def kafka_settings(settings: Settings, broker: MockCluster) -> Settings:
    return settings.model_copy(update={"kafka_bootstrap": broker.bootstrap, "kafka_fetch_max_wait_ms": 10})


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Wait for a condition; fails the test when it does not come true in time."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)
