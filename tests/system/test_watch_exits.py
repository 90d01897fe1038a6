"""`triton watch` and `triton status` for scripts: they end with a code that says how the release stands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from tests.system.programs import by_cluster, by_server, run
from tests.system.releases import Releases, deployflow

NAMESPACE = "watch-exits"
pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


@pytest.fixture(params=["by cluster", "by server"])
def way(request: pytest.FixtureRequest, sandbox: Sandbox) -> Mapping[str, str]:
    return by_cluster(sandbox) if request.param == "by cluster" else by_server(sandbox)


async def _triton(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    ended = await run(*arguments, "-n", NAMESPACE, environment=environment)
    return ended.code, ended.out + ended.err


async def _status(environment: Mapping[str, str], name: str) -> tuple[int, str]:
    code, out = await _triton(environment, "status", name, "-o", "json")
    found: Any = json.loads(out)["outcome"]
    return code, found


async def test_the_exit_code_says_how_the_release_stands(releases: Releases, way: Mapping[str, str]) -> None:
    instance = "ends-by-server" if "TRITON_SERVER" in way else "ends"
    await releases.create(instance, replicas=2)
    waiting = await releases.apply(
        deployflow(f"{instance}-2", instance, image="nginx:2", replicas=2, canary=1, batchSize=1)
    )
    code, out = await _triton(way, "watch", waiting, "--exit-on", "failure,wait", "--timeout", "60s")
    assert code == 3, out
    assert out.splitlines()[-1].endswith(f"→ triton next {waiting}")
    assert await _status(way, waiting) == (3, "waiting")
    code, out = await _triton(way, "watch", waiting, "--timeout", "0.5s")
    assert code == 4, out
    assert "timed out after 0.5 s, the release goes on" in out
    await releases.strategy(waiting, batches=9, stage=None)
    assert (await _triton(way, "watch", instance))[0] == 0
    assert await _status(way, waiting) == (0, "success")

    failing = await releases.apply(
        deployflow(f"{instance}-3", instance, image="nginx:crash", replicas=2, batchSize=1)
    )
    code, out = await _triton(way, "watch", failing)
    assert code == 1, out
    assert f"triton retry {failing}" in out.splitlines()[-1]
    assert await _status(way, failing) == (1, "failed")
    _, described = await _triton(way, "describe", failing)
    first = described.splitlines()
    assert first[0].startswith(f"{failing}: nginx:2 → nginx:crash · batch 1 of 2 failed ")
    assert f"brings back nginx:2 of {waiting}, 2 pods" in described
