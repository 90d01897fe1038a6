from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
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


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Wait for a condition; fails the test when it does not come true in time."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)
