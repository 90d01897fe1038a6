"""A namespace is deleted in the middle of a release: all of it goes soon, and the planner does not race meanwhile."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.deployflow import FINALIZER
from shared.domain.json_types import Json
from shared.kube.client import DEPLOYFLOWS, ApiError
from tests.system.releases import NAMESPACES, Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

ENDS_WITHIN = 10
"""Seconds from the deletion of the namespace to the end of the releases, and of the finalizers with them."""
MOST_COMMANDS = 20
"""A cancel, an observation, and what is sent again meanwhile; without a wait it would be hundreds."""
INSTANCE = "going"
_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    """In a namespace of each test's own."""
    async with Releases(sandbox, f"going-{next(_numbers)}") as client:
        await client.make_namespace()
        yield client


async def _commands(sandbox: Sandbox) -> float:
    """Return how many batch commands the planners have issued."""
    total = 0.0
    async with aiohttp.ClientSession() as session:
        for name, url in sandbox.health_urls.items():
            if not name.startswith("planner"):
                continue
            async with session.get(f"{url}/metrics") as response:
                text = await response.text()
            found = re.findall(r"^triton_batch_commands_total\{[^}]*\} (\S+)$", text, re.MULTILINE)
            total += sum(map(float, found))
    return total


async def _is_gone(releases: Releases) -> bool:
    try:
        await releases.client.get(NAMESPACES, "", releases.namespace)
    except ApiError as error:
        return error.code == 404
    return False


@pytest.mark.parametrize("step", ["waiting", "smoking"])
async def test_its_releases_end_and_their_finalizers_go(
    sandbox: Sandbox, releases: Releases, step: str
) -> None:
    await releases.create(INSTANCE, 3)
    slow = {"sandbox.triton.io/start-seconds": "60-60"} if step == "smoking" else None
    await releases.apply(deployflow("new", INSTANCE, image="nginx:2", replicas=3, canary=1, annotations=slow))
    await releases.batch_is("new", 1, "Smoking" if step == "smoking" else "Smoked")
    before = await _commands(sandbox)
    await releases.client.delete(NAMESPACES, "", releases.namespace)

    async def have_ended() -> bool:
        """A real cluster deletes the pods first: the DeployFlows may stay until these are gone."""
        flows = await releases.client.list(DEPLOYFLOWS, releases.namespace)
        return all(_has_ended(flow) for flow in flows)

    await until("every DeployFlow has ended, without a finalizer", have_ended, ENDS_WITHIN)
    await until("the namespace is gone", lambda: _is_gone(releases))
    assert await _commands(sandbox) - before <= MOST_COMMANDS


def _has_ended(flow: Json) -> bool:
    finished = (flow.get("status") or {}).get("finished")
    return bool(finished) and FINALIZER not in flow["metadata"].get("finalizers", [])
