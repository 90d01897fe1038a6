"""Two of each service share the work, and one of each dies of it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack

import aiohttp
import pytest

from sandbox.environment import SERVICES, Sandbox
from tests.system.history import recorded
from tests.system.releases import Releases, until
from tests.system.undisturbed import begin, whole

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
    pytest.mark.parametrize("replicas", [2], ids=["2-replicas"], indirect=True),
    pytest.mark.usefixtures("replicas"),
]

INSTANCES = [f"two-{number}" for number in range(10)]
KILLED_AT = {
    "executor": ("two-0", 1),
    "planner": ("two-1", 2),
    "events": ("two-2", 2),
    "readiness": ("two-3", 3),
}
"""Each when this batch of this instance has begun."""


async def test_ten_releases_are_whole_though_one_of_two_replicas_of_each_service_is_killed(
    sandbox: Sandbox, releases: Releases
) -> None:
    async with AsyncExitStack() as stack:
        names = await asyncio.gather(*(begin(releases, instance) for instance in INSTANCES))
        histories = [await stack.enter_async_context(recorded(releases, instance)) for instance in INSTANCES]
        await until("both replicas of each service have work", lambda: _have_work(sandbox))
        for service, (instance, batch) in KILLED_AT.items():
            await releases.batch_is(f"{instance}-2", batch, "Smoking", "Smoked", "Baking", "Baked")
            sandbox.kill(f"{service}-2", signal.SIGKILL)
        await asyncio.gather(*(releases.finished(name, "Success", seconds=90) for name in names))
    for instance, history in zip(INSTANCES, histories, strict=True):
        await whole(releases, instance, history)


async def _have_work(sandbox: Sandbox) -> bool:
    """Each process of a service has taken messages from Kafka."""
    assert len(sandbox.health_urls) == 2 * len(SERVICES)
    async with aiohttp.ClientSession() as session:
        for url in sandbox.health_urls.values():
            async with session.get(f"{url}/metrics") as response:
                if "\ntriton_kafka_consumed_total{" not in await response.text():
                    return False
    return True
