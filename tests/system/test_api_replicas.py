"""Two planners behind one address: both answer the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc.aio
import httpx
import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from services.planner.api.protos import deployflow_pb2 as pb
from services.planner.api.protos.deployflow_pb2_grpc import DeployFlowStub
from shared.domain.json_types import Json
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

NAMESPACE = "behind-one-address"
SECONDS = 30


class Balancer:
    """One address for several: each new connection goes to the next of them."""

    def __init__(self, backends: Sequence[str]) -> None:
        self._backends = backends
        self.went_to: list[str] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backend = self._backends[len(self.went_to) % len(self._backends)]
        self.went_to.append(backend)
        host, _, port = backend.rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    @asynccontextmanager
    async def listens(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def planners(sandbox: Sandbox) -> AsyncIterator[Sandbox]:
    await sandbox.scale("planner", 2)
    yield sandbox
    await sandbox.scale("planner", 1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def names(planners: Sandbox) -> AsyncIterator[list[str]]:
    """Two releases that wait at their canary."""
    async with Releases(planners, NAMESPACE) as releases:
        await releases.make_namespace()
        made = []
        for instance in ("web", "shop"):
            await releases.apply(deployflow(f"{instance}-1", instance, action="create", replicas=2, canary=1))
            await releases.batch_is(f"{instance}-1", 1, "Smoked")
            made.append(f"{instance}-1")
        yield made


async def test_a_stream_on_one_reports_a_change_through_the_other(
    planners: Sandbox, names: list[str]
) -> None:
    url = f"/api/v2/namespaces/{NAMESPACE}/deployflows/{names[0]}"
    backends = [planner.removeprefix("http://") for planner in planners.rest_urls.values()]
    balancer = Balancer(backends)
    async with (
        asyncio.timeout(SECONDS),
        balancer.listens() as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
        client.stream("GET", f"{url}/watch") as stream,
    ):
        lines = stream.aiter_lines()
        assert not await _paused(lines)
        answer = await client.post(f"{url}/pause")
        assert answer.status_code == 200, answer.text
        while not await _paused(lines):
            pass
    assert set(balancer.went_to[:2]) == set(backends)


async def _paused(lines: AsyncIterator[str]) -> bool:
    async for line in lines:
        if line.startswith("data:"):
            flow: Json = json.loads(line.removeprefix("data:"))
            return bool(flow["status"]["paused"])
    raise AssertionError("the stream has ended")


async def test_the_same_by_grpc(planners: Sandbox, names: list[str]) -> None:
    balancer = Balancer(list(planners.grpc_addresses.values()))
    own = [("grpc.use_local_subchannel_pool", 1)]
    about = pb.DeployMeta(namespace=NAMESPACE, name=names[1])
    async with (
        asyncio.timeout(SECONDS),
        balancer.listens() as address,
        grpc.aio.insecure_channel(address, options=own) as one,
        grpc.aio.insecure_channel(address, options=own) as other,
    ):
        # to its end: the stream goes on until the release is over
        watching = DeployFlowStub(one).Watch(pb.WatchRequest(deploy=about, target=pb.TargetState(batches=9)))
        states = aiter(watching)
        assert (await anext(states)).deploy.phase == "BatchStarted"
        received = [
            reply.deploy.phase
            async for reply in DeployFlowStub(other).Cancel(pb.DeployMetaRequest(deploy=about))
        ]
        assert received[-1] == "Canceled"
        seen = [reply.deploy.phase async for reply in states]
        assert seen[-1] == "Canceled"
    assert set(balancer.went_to[:2]) == set(planners.grpc_addresses.values())
