"""Two people who do the same at once, and names that begin alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from tests.system.programs import by_cluster, by_server, run
from tests.system.releases import Releases, deployflow

NAMESPACE = "two-people"
pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


async def _triton(environment: Mapping[str, str], *arguments: str) -> str:
    ended = await run(*arguments, "-n", NAMESPACE, environment=environment)
    assert ended.code == 0, ended
    return ended.out


async def _waiting(releases: Releases, instance: str) -> str:
    """Return the name of an update whose canary waits for a person."""
    await releases.create(instance, replicas=2)
    update = deployflow(f"{instance}-new", instance, image="nginx:2", replicas=2, canary=1, mode="manual")
    name = await releases.apply(update)
    await releases.batch_is(name, 1, "Smoked")
    return name


async def test_two_people_who_press_next_at_once_go_one_step(sandbox: Sandbox, releases: Releases) -> None:
    ways = (by_cluster(sandbox), by_server(sandbox), by_server(sandbox))
    # names that begin alike
    name = await _waiting(releases, "two")
    other = await _waiting(releases, "two-b")
    press = ("next", "two", "--batch", "1", "--stage", "Smoked")
    said = await asyncio.gather(*(_triton(way, *press) for way in ways))
    await releases.batch_is(name, 1, "Baking")
    assert [line for line in sorted(said) if "no effect" not in line] == [f"{name}: batch 1 takes traffic\n"]
    assert (await releases.flow(name))["spec"]["updateStrategy"]["stage"] == "Baking"
    await releases.batch_is(other, 1, "Smoked")
