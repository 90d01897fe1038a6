"""What `triton` says before it starts a release, straight to the cluster and by the REST API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from tests.system.programs import Ended, by_cluster, by_server, run
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

NAMESPACE = "what-comes-next"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


async def triton(sandbox: Sandbox, *arguments: str, server: bool, namespace: str = NAMESPACE) -> Ended:
    environment = by_server(sandbox) if server else by_cluster(sandbox)
    return await run(*arguments, "--namespace", namespace, environment=environment)


@pytest.mark.parametrize("server", [False, True], ids=["cluster", "server"])
async def test_a_namespace_without_releases_is_not_one_that_does_not_exist(
    sandbox: Sandbox, shop: Releases, server: bool
) -> None:
    missing = Ended(1, "", "error: namespace nowhere does not exist\n")
    for command in (("get",), ("describe", "web"), ("update", "web", "--image", "nginx:2")):
        assert await triton(sandbox, *command, server=server, namespace="nowhere") == missing
    empty = await triton(sandbox, "get", server=server)
    assert (empty.code, empty.err.partition(":")[0]) == (0, "no releases in this namespace")


async def test_rest_tells_them_apart_too(sandbox: Sandbox, shop: Releases) -> None:
    async with httpx.AsyncClient(base_url=f"{sandbox.rest_urls['planner']}/api") as client:
        for kind in ("deployflows", "instances"):
            assert (await client.get(f"/v2/namespaces/{NAMESPACE}/{kind}")).json()["items"] == []
            answer = await client.get(f"/v2/namespaces/nowhere/{kind}")
            assert (answer.status_code, answer.json()["detail"]) == (404, "namespace nowhere does not exist")


@pytest.mark.parametrize("server", [False, True], ids=["cluster", "server"])
async def test_what_a_release_takes_over_waits_behind_or_misses_is_said(
    sandbox: Sandbox, shop: Releases, server: bool
) -> None:
    web = "by-server" if server else "straight"
    await shop.apply(deployflow(f"{web}-1", web, action="create", replicas=2, batchSize=1, mode="manual"))
    await shop.batch_is(f"{web}-1", 1, "Baked")
    await shop.strategy(f"{web}-1", mode="auto")
    await shop.finished(f"{web}-1", "Success")
    gates = "plan: 2 pods in 2 batches, manual\n"

    first = await triton(sandbox, "update", web, "--image", "nginx:crash", server=server)
    assert (first.code, first.err) == (0, gates)
    name = first.out.strip()
    await shop.until_status(name, "fails", lambda status: status.get("reason") == "SmokeFailed")
    second = await triton(sandbox, "update", web, "--image", "nginx:2", "--mode", "auto", server=server)
    assert second.err == (
        f"takes over {name} (SmokeFailed)\n"
        "plan: 2 pods in 2 batches, auto\n"
        "warning: fewer approvals than the last request: mode auto (was manual)\n"
    )
    name = second.out.strip()
    await shop.finished(name, "Success")

    waits = await triton(sandbox, "update", web, "--image", "nginx:3", "--mode", "manual", server=server)
    assert waits.err == gates
    await shop.batch_is(waits.out.strip(), 1, "Baked")
    behind = await triton(sandbox, "restart", web, "--batch-size", "1", server=server)
    assert behind.err.startswith(f"waits behind {waits.out.strip()} (Batch")
    missing = await triton(sandbox, "restart", "nobody", server=server)
    assert (missing.code, missing.out, "nobody does not exist" in missing.err) == (1, "", True)
