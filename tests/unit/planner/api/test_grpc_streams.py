"""The streams of the gRPC API: what they report, where they end, and that none is in the way of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc
import pytest

from services.planner.api import grpc_messages
from services.planner.api.grpc_server import start
from services.planner.api.protos import deployflow_pb2 as df
from services.planner.api.protos.deployflow_pb2_grpc import DeployFlowStub
from shared.domain.json_types import Json
from shared.kube.client import DEPLOYFLOWS
from tests.unit.planner.api.surroundings import World, batch, served

RELEASE: Json = {"namespace": "shop", "name": "web-aaaaa"}
ABOUT = df.DeployMetaRequest(deploy=RELEASE)
SUCCESS: Json = {"phase": "Success", "finished": True}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def flows(world: World) -> AsyncGenerator[Any]:
    async with served(world) as channel:
        yield DeployFlowStub(channel)


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


async def phase(stream: Any) -> str:
    """Return the phase that it reports next."""
    reply = await stream.read()
    assert reply is not grpc.aio.EOF
    return str(reply.deploy.phase)


async def ended(world: World, stream: Any) -> None:
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() == grpc.StatusCode.OK
    await eventually(lambda: not len(world.streams))


@pytest.mark.parametrize(
    ("command", "field", "value", "before", "after"),
    [
        ("Pause", "paused", True, {}, {"paused": True}),
        ("Resume", "paused", False, {"paused": True}, {"paused": False}),
        ("Cancel", "canceled", True, {}, {"phase": "Canceled"}),
        ("Pause", "paused", True, {}, SUCCESS),
    ],
)
async def test_a_command_streams_its_results(
    world: World, flows: Any, command: str, field: str, value: bool, before: Json, after: Json
) -> None:
    world.flow("web-aaaaa", status={"phase": "BatchStarted", **before})
    stream = getattr(flows, command)(ABOUT)
    assert await phase(stream) == "BatchStarted"
    assert world.cluster.objects[DEPLOYFLOWS, "shop", "web-aaaaa"]["spec"]["updateStrategy"][field] is value
    world.says("web-aaaaa", phase="BatchFinished")
    assert await phase(stream) == "BatchFinished"
    world.says("web-aaaaa", **after)
    assert await phase(stream) == after.get("phase", "BatchFinished")
    await ended(world, stream)


async def test_what_is_so_already_is_reported_once(world: World, flows: Any) -> None:
    world.flow("web-aaaaa", status={"phase": "BatchStarted", "paused": True})
    stream = flows.Pause(ABOUT)
    assert await phase(stream) == "BatchStarted"
    await ended(world, stream)


@pytest.mark.parametrize(
    ("target", "strategy", "short_of_it", "there"),
    [
        ({"batches": 1, "stage": "Baking"}, {}, batch(1, "Smoked"), batch(1, "Baking")),
        ({"batches": 1}, {}, batch(1, "Baked"), batch(2, "Pending")),
        ({"stage": "Smoked"}, {}, batch(1, "Smoking"), batch(1, "Smoked")),
        ({"stage": "Baked"}, {}, batch(1, "Baked"), batch(2, "Pending")),
        ({}, {"canary": 1}, batch(1, "Smoking", canary=True), batch(1, "Smoked", canary=True)),
    ],
)
async def test_a_watch_ends_at_its_target(
    world: World, flows: Any, target: Json, strategy: Json, short_of_it: Json, there: Json
) -> None:
    started = {"phase": "BatchStarted", "batches": 3}
    world.flow("web-aaaaa", status={**started, "conditions": [batch(1, "Pending")]}, **strategy)
    stream = flows.Watch(df.WatchRequest(deploy=RELEASE, target=target))
    await stream.read()
    for condition in (short_of_it, there):
        world.says("web-aaaaa", conditions=[condition])
        reply = await stream.read()
        assert reply.deploy.conditions[-1].phase == condition["phase"]
    await ended(world, stream)


@pytest.mark.parametrize(
    ("target", "strategy"),
    [
        ({}, {}),
        ({}, {"mode": "auto"}),
        ({"batches": 1, "stage": "Baked"}, {"batches": 3}),
        ({"batches": 2, "stage": "Pending"}, {}),
    ],
)
async def test_after_a_watch_of_a_batch_next_is_accepted(
    world: World, flows: Any, target: Json, strategy: Json
) -> None:
    status = {"phase": "BatchStarted", "batches": 3, "conditions": [batch(1, "Baked")]}
    world.flow("web-aaaaa", status=status, **strategy)
    given = {"target": target} if target else {}
    stream = flows.Watch(df.WatchRequest(deploy=RELEASE, **given))
    # its old pods are on their way out
    assert await phase(stream) == "BatchStarted"
    world.says("web-aaaaa", phase="BatchFinished", finishedBatches=1)
    assert await phase(stream) == "BatchFinished"
    await ended(world, stream)
    assert (await flows.Next(df.NextRequest(deploy=RELEASE))).deploy.phase == "BatchFinished"


@pytest.mark.parametrize("target", [{}, {"batches": 3}, {"batches": 9}])
async def test_a_watch_to_the_end_ends_there(world: World, flows: Any, target: Json) -> None:
    started = {"phase": "BatchStarted", "batches": 3, "conditions": [batch(3, "Baked")]}
    world.flow("web-aaaaa", status=started, mode="auto", batches=2)
    stream = flows.Watch(df.WatchRequest(deploy=RELEASE, target=target))
    assert await phase(stream) == "BatchStarted"
    world.says("web-aaaaa", phase="BatchFinished")
    assert await phase(stream) == "BatchFinished"
    world.says("web-aaaaa", **SUCCESS)
    assert await phase(stream) == "Success"
    await ended(world, stream)


async def test_a_watch_ends_when_the_release_is_deleted(world: World, flows: Any) -> None:
    world.flow("web-aaaaa", status={"phase": "Pending"})
    stream = flows.Watch(df.WatchRequest(deploy=RELEASE))
    assert await phase(stream) == "Pending"
    world.gone("web-aaaaa")
    await ended(world, stream)


async def test_the_list_comes_first_and_then_each_that_changes(world: World, flows: Any) -> None:
    world.flow("web-aaaaa", status={"phase": "Pending"})
    world.flow("web-bbbbb", status={"phase": "Pending"}, action="restart")
    stream = flows.ListAndWatch(df.DeploysRequest(filter={"namespace": "shop", "pageSize": 1}))
    restarts = flows.ListAndWatch(df.DeploysRequest(filter={"action": "restart"}))

    async def names(stream: Any) -> list[str]:
        return [deploy.name for deploy in (await stream.read()).deploys]

    assert await names(stream) == ["web-bbbbb", "web-aaaaa"]
    assert await names(restarts) == ["web-bbbbb"]
    world.says("web-aaaaa", **SUCCESS)
    assert await names(stream) == ["web-aaaaa"]
    world.says("web-bbbbb", **SUCCESS)
    assert await names(stream) == await names(restarts) == ["web-bbbbb"]
    for opened in (stream, restarts):
        opened.cancel()
    await eventually(lambda: not len(world.streams))


@pytest.mark.parametrize("target", [{"stage": "Nowhere"}, {"stage": "SmokeFailed"}, {"batches": -1}])
async def test_a_watch_to_nowhere(world: World, flows: Any, target: Json) -> None:
    world.flow("web-aaaaa")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await flows.Watch(df.WatchRequest(deploy=RELEASE, target=target)).read()
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_500_idle_streams_on_one_connection_are_in_nobodys_way(world: World, flows: Any) -> None:
    world.flow("web-aaaaa", status={"phase": "Pending"})
    idle = [flows.Watch(df.WatchRequest(deploy=RELEASE)) for _ in range(500)]
    assert set(await asyncio.gather(*map(phase, idle))) == {"Pending"}
    assert len(world.streams) == 500
    assert (await flows.Get(ABOUT)).deploy.phase == "Pending"
    world.says("web-aaaaa", phase="Initializing")
    assert set(await asyncio.gather(*map(phase, idle))) == {"Initializing"}
    for stream in idle:
        stream.cancel()
    await eventually(lambda: not len(world.streams))


async def test_who_never_reads_holds_up_nobody_and_costs_little(
    world: World, flows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    deploy = grpc_messages.deploy

    def counted(flow: Json) -> df.Deploy:
        nonlocal made
        made += flow["metadata"]["name"] == "web-aaaaa"
        return deploy(flow)

    monkeypatch.setattr(grpc_messages, "deploy", counted)
    large = [batch(1, "Smoking", pods=[{"name": f"{number:01000}"} for number in range(100)])]
    world.flow("web-aaaaa", status={"phase": "Pending", "conditions": large})
    world.flow("web-bbbbb", status={"phase": "Pending"})
    deaf = flows.Watch(df.WatchRequest(deploy=RELEASE))
    await eventually(lambda: len(world.streams) == 1)
    other = flows.Watch(df.WatchRequest(deploy={**RELEASE, "name": "web-bbbbb"}))
    assert await phase(other) == "Pending"
    for number in range(300):
        world.says("web-aaaaa", finishedReplicas=number)
        world.says("web-bbbbb", phase=f"Pending{number}")
        assert await phase(other) == f"Pending{number}"
    assert (
        await flows.Get(df.DeployMetaRequest(deploy={**RELEASE, "name": "web-bbbbb"}))
    ).deploy.finished is False
    assert made < 100, "of 300 changes of 100 kB each so many were sent to who does not read"
    # whenever it reads on, it comes to the last
    async with asyncio.timeout(20):
        while (await deaf.read()).deploy.finishedReplicas != 299:
            pass
    deaf.cancel()
    other.cancel()
    await eventually(lambda: not len(world.streams))


async def test_who_is_cut_off_while_it_does_not_read_leaves_nothing_behind(world: World, flows: Any) -> None:
    large = [batch(1, "Smoking", pods=[{"name": f"{number:01000}"} for number in range(1000)])]
    world.flow("web-aaaaa", status={"phase": "Pending", "conditions": large})
    deaf = flows.Watch(df.WatchRequest(deploy=RELEASE))
    await eventually(lambda: len(world.streams) == 1)
    deaf.cancel()
    await eventually(lambda: not len(world.streams))


async def test_a_server_that_stops_ends_its_streams(world: World) -> None:
    world.flow("web-aaaaa", status={"phase": "Pending"})
    server, port = await start(world.calls, host="127.0.0.1", port=0, body_bytes=1000)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = DeployFlowStub(channel).Watch(df.WatchRequest(deploy=RELEASE))
        assert await phase(stream) == "Pending"
        await server.stop(0)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stream.read()
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    await eventually(lambda: not len(world.streams))
