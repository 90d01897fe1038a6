from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

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
def kafka() -> Iterator[str]:
    """The address of a fresh broker with Triton's topics: the sandbox's own, in its process."""
    command = [sys.executable, "-m", "sandbox.backends"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield json.loads(process.stdout.readline())["kafka"]
        process.terminate()


@pytest.fixture
def kafka_settings(settings: Settings, kafka: str) -> Settings:
    return settings.model_copy(update={"kafka_bootstrap": kafka, "kafka_fetch_max_wait_ms": 10})


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Wait for a condition; fails the test when it does not come true in time."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)
