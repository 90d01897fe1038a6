"""The status store under what a planner asks of it at once."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.environment import Sandbox
from shared.domain.topics import Key
from shared.status_store import CONNECTIONS, FIRING_MS, StatusStore

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


async def test_as_many_instances_as_there_are_can_be_written_at_once(sandbox: Sandbox) -> None:
    store = StatusStore(sandbox.redis_url, "crowd")
    keys = [Key("default", f"instance-{number}") for number in range(6 * CONNECTIONS)]

    async def write(key: Key) -> bool:
        return await store.commit(
            key, expected=0, version=1, state=b"{}", outbox=b"", deadline=None, ttl_seconds=60
        )

    try:
        assert all(await asyncio.gather(*(write(key) for key in keys)))
        assert await store.versions(keys) == [1] * len(keys)
    finally:
        await store.close()


async def test_a_deadline_that_has_passed_is_reported_with_its_time_and_comes_again(sandbox: Sandbox) -> None:
    store = StatusStore(sandbox.redis_url, "deadlines")
    past, future = Key("default", "past"), Key("default", "future")
    try:
        for key, deadline in ((past, 5_000), (future, 9_000)):
            assert await store.commit(
                key, expected=0, version=1, state=b"{}", outbox=b"", deadline=deadline, ttl_seconds=60
            )
        assert await store.fire(5_250) == {past: 5_000}
        assert await store.fire(5_250) == {}
        assert await store.fire(5_250 + FIRING_MS) == {past: 5_250 + FIRING_MS}
    finally:
        await store.close()
