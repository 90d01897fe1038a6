"""Two of each service share the work, and one of each dies of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from sandbox.environment import SERVICES, Sandbox
from tests.system.conftest import SETTINGS, stack
from tests.system.history import recorded
from tests.system.releases import Releases
from tests.system.undisturbed import begin, whole

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

INSTANCES = [f"two-{number}" for number in range(10)]
KILLED_AT = {
    "executor": ("two-0", 1),
    "planner": ("two-1", 2),
    "events": ("two-2", 2),
    "readiness": ("two-3", 3),
}
"""Each when this batch of this instance has begun."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def doubled() -> AsyncIterator[Sandbox]:
    """A sandbox of its own."""
    replicas = dict.fromkeys(SERVICES, 2)
    async with Sandbox(replicas=replicas, settings=SETTINGS, stack=stack()) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watched(doubled: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(doubled) as client:
        yield client


async def test_ten_releases_are_whole_though_one_of_two_replicas_of_each_service_is_killed(
    doubled: Sandbox, watched: Releases
) -> None:
    async with AsyncExitStack() as stack:
        names = await asyncio.gather(*(begin(watched, instance) for instance in INSTANCES))
        histories = [await stack.enter_async_context(recorded(watched, instance)) for instance in INSTANCES]
        for service, (instance, batch) in KILLED_AT.items():
            await watched.batch_is(f"{instance}-2", batch, "Smoking", "Smoked", "Baking", "Baked")
            doubled.kill(f"{service}-1", signal.SIGKILL)
        await asyncio.gather(*(watched.finished(name, "Success", seconds=90) for name in names))
    for instance, history in zip(INSTANCES, histories, strict=True):
        await whole(watched, instance, history)
