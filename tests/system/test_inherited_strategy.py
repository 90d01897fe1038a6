"""An update has the gates that were requested last, whoever approved or rolled back since, and by which road."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from services.planner.api.protos import application_pb2 as app
from services.planner.api.protos import application_pb2_grpc, deployflow_pb2_grpc
from services.planner.api.protos import deployflow_pb2 as df
from shared.domain.json_types import Json
from tests.system.other_system import OtherSystem, press
from tests.system.programs import by_cluster, run
from tests.system.releases import Releases, deployflow, until
from triton_client import AsyncTriton

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

NAMESPACE = "gates"
GATES: Json = {"canary": 1, "batchSize": 1, "mode": "manual"}


class Road:
    """One way to approve a release to its end, and to roll its instance back."""

    def __init__(self, sandbox: Sandbox, releases: Releases, paas: OtherSystem) -> None:
        self.sandbox = sandbox
        self.releases = releases
        self.paas = paas

    async def kubectl(self, instance: str, flow: str) -> None:
        if flow:
            await self.releases.strategy(flow, mode="auto", batches=2, canary=0, batchSize="100%")
            return
        body = deployflow(f"{instance}-back", instance, action="rollback", replicas=2)
        await self.releases.apply(body)

    async def cli(self, instance: str, flow: str) -> None:
        await self.triton(*(("promote", flow) if flow else ("rollback", instance)))

    async def rest(self, instance: str, flow: str) -> None:
        async with self.client() as client:
            await (client.promote(flow) if flow else client.rollback(instance))

    async def grpc(self, instance: str, flow: str) -> None:
        """It has no promote: its clients go on to the last batch."""
        async with grpc.aio.insecure_channel(next(iter(self.sandbox.grpc_addresses.values()))) as channel:
            if flow:
                meta = df.DeployMeta(namespace=NAMESPACE, name=flow)
                flows = deployflow_pb2_grpc.DeployFlowStub(channel)
                await flows.Continue(df.ContinueRequest(deploy=meta, target={"batches": 2}))
                return
            named = app.InstanceMeta(namespace=NAMESPACE, name=instance)
            await application_pb2_grpc.ApplicationStub(channel).Rollback(app.RollbackRequest(instance=named))

    async def kafka(self, instance: str, flow: str) -> None:
        kind = "promote" if flow else "rollback"
        command = press(f"{instance}-{kind}", kind, instance, namespace=NAMESPACE)
        await self.paas.ask(instance, command | ({"deployFlow": flow} if flow else {}))

    async def triton(self, *arguments: str) -> tuple[str, str]:
        """Return what it prints on standard output and standard error."""
        ended = await run(*arguments, "--namespace", NAMESPACE, environment=by_cluster(self.sandbox))
        assert ended.code == 0, ended
        return ended.out.strip(), ended.err

    def client(self) -> AsyncTriton:
        return AsyncTriton(self.sandbox.rest_urls["planner"], namespace=NAMESPACE, requested_by="oncall")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def road(sandbox: Sandbox, paas: OtherSystem) -> AsyncIterator[Road]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield Road(sandbox, client, paas)


async def pass_gates(road: Road, name: str) -> None:
    """Make an instance, release it again with gates, and approve and roll back that release by the road."""
    releases, instance = road.releases, f"by-{name}"
    go: Callable[[str, str], Awaitable[None]] = getattr(road, name)
    first, second = f"{instance}-1", f"{instance}-2"
    await releases.apply(deployflow(first, instance, action="create", replicas=2))
    await releases.finished(first, "Success")
    await releases.apply(deployflow(second, instance, image="nginx:2", replicas=2, **GATES))
    await releases.batch_is(second, 1, "Smoked")
    await go(instance, second)
    await releases.finished(second, "Success")
    await go(instance, "")

    async def others() -> set[str]:
        return set(await releases.names(instance)) - {first, second}

    (back,) = await until(f"the rollback of {instance}", others)
    await releases.finished(back, "Success")


async def update(road: Road, name: str) -> None:
    """Release another image of the instance as a person in a hurry does, and see that its gates are there."""
    releases, instance = road.releases, f"by-{name}"
    if name in {"rest", "kafka"}:
        async with road.client() as client:
            made = (await client.update(instance, "nginx:3")).name
    else:
        made, said = await road.triton("update", instance, "--image", "nginx:3")
        assert said == "plan: 2 pods in 2 batches, canary 1, manual\n"
    assert (await releases.flow(made))["spec"]["updateStrategy"] == GATES, instance
    await releases.batch_is(made, 1, "Smoked")
    images = sorted(pod["spec"]["containers"][0]["image"] for pod in await releases.pods(instance))
    assert images == ["nginx:1", "nginx:1", "nginx:3"], instance


@pytest.mark.parametrize("name", ["kubectl", "cli", "rest", "grpc", "kafka"])
async def test_an_update_after_an_approval_and_a_rollback_has_its_gates(road: Road, name: str) -> None:
    await pass_gates(road, name)
    await update(road, name)
