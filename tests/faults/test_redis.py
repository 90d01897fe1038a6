"""Redis is killed in the middle of a release, and comes back with what it had written down."""

from __future__ import annotations

import pytest

from sandbox.environment import Sandbox
from tests.faults.disturbed import PHASES, disturbed, missing, saying
from tests.system.releases import Releases, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

TIMES = 4
"""It is said once a second: so long, at least, Redis stays away."""


@pytest.mark.parametrize("phase", PHASES)
async def test_a_release_goes_on_after_redis_was_killed(
    sandbox: Sandbox, releases: Releases, phase: str
) -> None:
    async with disturbed(sandbox, releases, f"redis-{phase.lower()}", phase):
        sandbox.kill("redis")
        await sandbox.start("redis")


async def test_a_release_waits_for_redis_and_goes_on(sandbox: Sandbox, releases: Releases) -> None:
    async with disturbed(sandbox, releases, "redis-away", "Baking") as name:
        says = saying(sandbox, "planner")
        sandbox.kill("redis")
        await until(
            "the planner says what it waits for",
            lambda: says("deadlines: Redis at ", "does not answer") >= TIMES,
        )
        assert "Redis at " in (await missing(sandbox, "planner"))["deadlines"]
        status = await releases.status(name)
        assert not status["finished"]
        assert not status["reason"]
        await sandbox.start("redis")
        await sandbox.ready("planner")
