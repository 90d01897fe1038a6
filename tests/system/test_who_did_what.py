"""Who requested a release, and who changed it, by kubectl, the command line, REST, gRPC and Kafka."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import pytest
import pytest_asyncio
from google.protobuf.json_format import ParseDict

from sandbox.environment import Sandbox
from services.planner.api.protos import deployflow_pb2 as v1
from services.planner.api.protos import deployflow_pb2_grpc as v1_grpc
from services.planner.api.protos import releases_v2_pb2 as v2
from services.planner.api.protos import releases_v2_pb2_grpc as v2_grpc
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.domain.requesters import show_requester
from tests.system.other_system import OtherSystem, press
from tests.system.programs import by_cluster, run
from tests.system.releases import Releases, deployflow, until
from triton_client import AsyncTriton

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

NAMESPACE: Final = "who"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


WAYS: Final = ("kubectl", "cli", "rest", "grpc", "kafka")


class Who(NamedTuple):
    name: str
    claimed: bool
    via: str

    @property
    def shown(self) -> str:
        return show_requester(self.name, claimed=self.claimed, via=self.via)


class Roads:
    """The same release and the same pause by each road."""

    def __init__(self, sandbox: Sandbox, releases: Releases, paas: OtherSystem, folder: Path) -> None:
        self._sandbox = sandbox
        self._releases = releases
        self._paas = paas
        self._folder = folder

    async def create(self, road: str, by: str, instance: str) -> str:
        """Begin a release that waits after its first pod; return its name."""
        body = deployflow(instance, instance, action="create", replicas=2, batchSize=1, mode="manual")
        spec = body["spec"]
        match road:
            case "kubectl":
                body["metadata"]["annotations"] = {df.REQUESTED_BY: by}
                await self._releases.apply(body)
            case "cli":
                file = self._folder / "release.yaml"
                file.write_text(json.dumps(body))
                await self.triton("apply", "-f", str(file), "--requested-by", by)
            case "rest":
                async with self.client(by) as client:
                    await client.create(spec, name=instance)
            case "grpc":
                fields = {key: spec[key] for key in ("application", "updateStrategy")}
                request = ParseDict({"namespace": NAMESPACE, "name": instance} | fields, v2.NewRelease())
                async with self.channel() as channel:
                    await v2_grpc.ReleasesStub(channel).Create(request, metadata=[("x-requested-by", by)])
            case _:
                command = {"id": f"{instance}-1", "type": "deploy", "namespace": NAMESPACE, "spec": spec}
                await self._paas.ask(instance, command | {"requestedBy": by})
                name: str = await until("its DeployFlow", lambda: self._only(instance))
                return name
        return instance

    async def _only(self, instance: str) -> str:
        return next(iter(await self._releases.names(instance)), "")

    async def pause(self, road: str, by: str, flow: str, instance: str) -> None:
        match road:
            case "kubectl":
                await self._releases.strategy(flow, paused=True)
            case "cli":
                await self.triton("pause", flow, "--requested-by", by)
            case "rest":
                async with self.client(by) as client:
                    await client.pause(flow)
            case "grpc":
                request = v1.DeployMetaRequest(deploy=v1.DeployMeta(namespace=NAMESPACE, name=flow))
                async with self.channel() as channel:
                    stream = v1_grpc.DeployFlowStub(channel).Pause(request, metadata=[("x-requested-by", by)])
                    async for _ in stream:
                        pass
            case _:
                command = press(f"{instance}-2", "pause", instance, deployFlow=flow, requestedBy=by)
                await self._paas.ask(instance, {"namespace": NAMESPACE, **command})

    async def triton(self, *arguments: str) -> str:
        ended = await run(*arguments, "-n", NAMESPACE, environment=by_cluster(self._sandbox))
        assert ended.code == 0, ended
        return ended.out

    def client(self, by: str) -> AsyncTriton:
        return AsyncTriton(self._sandbox.rest_urls["planner"], namespace=NAMESPACE, requested_by=by)

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self._sandbox.grpc_addresses["planner"])


@pytest.fixture
def roads(sandbox: Sandbox, releases: Releases, paas: OtherSystem, tmp_path: Path) -> Roads:
    return Roads(sandbox, releases, paas, tmp_path)


async def test_a_release_by_each_road_and_a_pause_by_each_other_are_kept_apart(
    roads: Roads, releases: Releases
) -> None:
    """Status, REST, gRPC and the command line name both people and both roads, and whether somebody proved the names."""

    async def one(road: str, other: str) -> tuple[str, Who, Who]:
        made = Who(f"ci-{road}", road != "kubectl", road)
        changed = Who(f"oncall-{other}" if other != "kubectl" else "kubectl", other != "kubectl", other)
        flow = await roads.create(road, made.name, f"by-{road}")
        await releases.batch_is(flow, 1, "Baked")
        await roads.pause(other, changed.name, flow, f"by-{road}")

        command = "change" if other == "kubectl" else "pause"
        status = await releases.until_status(flow, "its pause", lambda status: status.get("lastCommand"))
        assert _requester(status) == made
        assert (status["lastCommand"]["command"], _requester(status["lastCommand"])) == (command, changed)

        async with roads.client("") as client:
            shown = (await client.deployflow(flow)).status
        last = shown.last_command
        assert last is not None
        assert Who(shown.requested_by, shown.requested_by_claimed, shown.requested_via) == made
        assert Who(last.requested_by, last.requested_by_claimed, last.requested_via) == changed

        request = v1.DeployMetaRequest(deploy=v1.DeployMeta(namespace=NAMESPACE, name=flow))
        async with roads.channel() as channel:
            deploy = (await v1_grpc.DeployFlowStub(channel).Get(request)).deploy
        assert Who(deploy.requestedBy, deploy.requestedByClaimed, deploy.requestedVia) == made
        by = deploy.lastCommand
        assert Who(by.requestedBy, by.requestedByClaimed, by.requestedVia) == changed

        described = await roads.triton("describe", flow)
        assert f"{made.shown}\n" in described
        assert f"{command} by {changed.shown}\n" in described
        return flow, made, changed

    wanted = await asyncio.gather(
        *(one(road, other) for road, other in zip(WAYS, (*WAYS[1:], WAYS[0]), strict=True))
    )

    async def history() -> dict[str, Json]:
        past = {one["name"]: one for one in json.loads(await roads.triton("history", "-o", "json"))}
        return past if all(past.get(flow, {}).get("commands") for flow, *_ in wanted) else {}

    past = await until("the history has all pauses", history)
    for flow, made, changed in wanted:
        assert _requester(past[flow]) == made
        (command,) = past[flow]["commands"]
        assert (command["command"], command["by"], command["byClaimed"], command["via"]) == (
            "pause",
            *changed,
        )


async def test_each_step_has_its_own_requester_and_the_release_keeps_its_own(
    roads: Roads, releases: Releases
) -> None:
    async def last(command: str, by: str, via: str) -> None:
        def is_there(status: Json) -> bool:
            found = status.get("lastCommand") or {}
            place = (found.get("command"), found.get("requestedBy"), found.get("requestedVia"))
            return place == (command, by, via)

        status = await releases.until_status(flow, f"{command} by {by} via {via}", is_there)
        assert (status["requestedBy"], status["requestedVia"]) == ("ci", "cli")

    flow = await roads.create("cli", "ci", "who")
    await releases.batch_is(flow, 1, "Baked")
    await roads.pause("cli", "oncall", flow, "who")
    await last("pause", "oncall", "cli")
    async with roads.client("jane") as client:
        await client.resume(flow)
    await last("resume", "jane", "rest")
    await releases.strategy(flow, paused=True)
    await last("change", "kubectl", "kubectl")
    async with roads.client("boss") as client:
        await client.promote(flow)
    await last("promote", "boss", "rest")


async def test_a_call_without_a_name_is_by_somebody_and_not_by_kubectl(
    roads: Roads, releases: Releases
) -> None:
    body = deployflow("unnamed", "unnamed", action="create", replicas=1)
    async with roads.client("") as client:
        await client.create(body["spec"], name="unnamed")
    status = await releases.finished("unnamed", "Success")
    assert (status["requestedBy"], status["requestedVia"]) == ("", "rest")
    assert "somebody via rest\n" in await roads.triton("describe", "unnamed")


def _requester(of: Json) -> Who:
    return Who(of["requestedBy"], of["requestedByClaimed"], of["requestedVia"])
