"""What one caller has in progress leaves room for the others, also behind a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from services.planner.api import grpc_server, request_guard
from services.planner.api.access import Caller
from services.planner.api.caller_shares import CallerShares
from services.planner.api.flow_queries import FlowFilter
from services.planner.api.problem import Kind, Problem
from services.planner.api.protos import deployflow_pb2
from services.planner.api.request_guard import RequestGuard
from shared.kube.client import CALLER
from shared.service.proxies import Proxies
from shared.settings import Settings
from tests.unit.parts import until
from tests.unit.planner.api.surroundings import World, served

LOOPBACK = Proxies(Settings().api_trusted_proxies)
GET = "/deployflow.DeployFlow/Get"
WATCHES = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


def test_each_caller_has_a_share_and_this_machine_is_exempt() -> None:
    shares = CallerShares(2, "calls", "TooManyRequests")
    with shares.one("ada"), shares.one("ada"):
        with pytest.raises(Problem, match="2 calls of ada") as refused, shares.one("ada"):
            pass
        assert (refused.value.kind, refused.value.retry_after) == (Kind.TOO_MANY, 5)
        with shares.one("grace"), shares.one("127.0.0.1"), shares.one("127.0.0.1"), shares.one("127.0.0.1"):
            pass
    with shares.one("ada"):
        pass
    assert not shares._counts


class Requests:
    """Requests that a guard passes on, and that end when the test says so."""

    def __init__(self, **bounds: Any) -> None:
        self.callers: list[str] = []
        self.end = asyncio.Event()
        usual = {"body_bytes": 100, "refuses_web_pages": False, "proxies": LOOPBACK, "requests_of_caller": 2}
        self._guard = RequestGuard(self._work, **{**usual, **bounds})

    async def _work(self, scope: Any, receive: Any, send: Any) -> None:
        self.callers.append(scope["client"][0])
        await receive()
        await self.end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def status(self, forwarded: str, peer: str = "127.0.0.1") -> int:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"x" * 60, "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
        scope = {"type": "http", "path": "/", "method": "POST", "headers": headers, "client": (peer, 1)}
        await self._guard(scope, receive, send)
        return int(sent[0]["status"])


async def test_the_requests_of_one_caller_behind_a_proxy_are_limited() -> None:
    requests = Requests()
    running = [
        asyncio.create_task(requests.status(caller))
        for caller in ("192.0.2.1", "192.0.2.9, 192.0.2.1", "192.0.2.2")
    ]
    await until(lambda: len(requests.callers) == 3)
    assert requests.callers == ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
    assert await requests.status("192.0.2.1") == 429
    # one that names others itself is known by its connection
    running += [asyncio.create_task(requests.status("192.0.2.1", "198.51.100.1"))]
    await until(lambda: requests.callers[3:] == ["198.51.100.1"])
    requests.end.set()
    assert await asyncio.gather(*running) == [200] * 4
    assert await requests.status("192.0.2.1") == 200


async def test_all_bodies_that_arrive_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_guard, "BODIES_BYTES", 150)
    requests = Requests()
    running = [asyncio.create_task(requests.status("")) for _ in range(2)]
    await until(lambda: len(requests.callers) == 2)
    with pytest.raises(Exception, match="too many large requests") as refused:
        await requests.status("")
    assert getattr(refused.value, "status_code", None) == 503
    requests.end.set()
    await asyncio.gather(*running)
    assert await requests.status("") == 200, "there is room again"


async def test_the_streams_of_one_account_are_limited() -> None:
    world = World()
    world.flow("web-1", status={"phase": "BatchStarted"})
    world.calls.streaming._shares = CallerShares(2, "streams", "TooManyStreams")

    async def watch(who: str) -> AsyncIterator[object]:
        CALLER.set(who)
        states = world.calls.streaming.watch(Caller(who), "shop", "web-1")
        await anext(states)
        return states

    streams = [await watch("ada") for _ in range(2)]
    with pytest.raises(Problem) as refused:
        await watch("ada")
    assert (refused.value.kind, refused.value.reason) == (Kind.TOO_MANY, "TooManyStreams")
    CALLER.set("ada")
    with pytest.raises(Problem):
        await anext(world.calls.streaming.watch_all(Caller("ada"), FlowFilter("shop")))
    streams.append(await watch("grace"))
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]
    assert len(world.streams) == 0
    await (await watch("ada")).aclose()  # type: ignore[attr-defined]


async def code(call: Any) -> StatusCode:
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    return StatusCode.OK


@pytest.mark.parametrize("method", [WATCHES, REFLECTION])
async def test_calls_without_login_are_limited_by_address(method: str) -> None:
    async with served(World(), proxies=LOOPBACK, calls_of_caller=2) as channel:
        request: Any = health_pb2.HealthCheckRequest()
        if method == REFLECTION:
            request = reflection_pb2.ServerReflectionRequest(list_services="*")

        async def opened(address: str) -> Any:
            stub: Any = channel.stream_stream(method)
            call = stub(metadata=(("x-forwarded-for", address),))
            await call.write(request.SerializeToString())
            return call

        calls = [await opened(address) for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2")]
        assert [await code(call) for call in calls] == [StatusCode.OK] * 3
        assert await code(await opened("192.0.2.1")) == StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()


async def test_a_grpc_request_that_never_comes_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "BODY_SECONDS", 0.1)
    async with served(World()) as channel:
        stub: Any = channel.stream_stream(GET)
        assert await code(stub()) == StatusCode.DEADLINE_EXCEEDED
        empty = stub()
        await empty.done_writing()
        assert await code(empty) == StatusCode.INVALID_ARGUMENT
        request = deployflow_pb2.DeployMetaRequest(deploy={"namespace": "shop", "name": "none"})
        call = stub()
        await call.write(request.SerializeToString())
        assert await code(call) == StatusCode.NOT_FOUND
