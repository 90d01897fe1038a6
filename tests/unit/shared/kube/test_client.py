"""The client against a server that writes down what arrives: names stay names, and callers share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.aio import client as official

from shared.errors import Unavailable
from shared.kube import client as module
from shared.kube.client import CALLER, CLONESETS, PODS, ApiError, Client, label_selector

PREFIX = "/apis/apps.kruise.io/v1alpha1/namespaces/shop/clonesets/"


class Server:
    """An API server that records the targets of requests, and answers none that begins with `holds`."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.holds = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.targets.append(request.raw_path)
        if self.holds and request.raw_path.startswith(self.holds):
            await asyncio.sleep(3600)
        return web.json_response({})


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client]:
    runner = web.ServerRunner(web.Server(server.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration: Any = official.Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    configuration.connection_pool_maxsize = module.CONNECTIONS
    client = Client(official.ApiClient(configuration), agent="test")
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    "name",
    [
        "web?watch=1",
        "?watch=1&",
        "../../../../api/v1/namespaces/kube-system/pods",
        "web/scale",
        "web#",
        "%2e%2e",
        "a\nb",
        "a\0b",
        "\ud800",
        "ä",
    ],
)
async def test_a_name_is_one_segment_of_the_path_whatever_is_in_it(name: str) -> None:
    server = Server()
    async with connected(server) as client:
        await client.get(CLONESETS, "shop", name)
        await client.patch(CLONESETS, name, "web", {})
        await client.log("shop", name, {"tailLines": "5"})
    got, patched, log = server.targets
    assert got.startswith(PREFIX)
    assert not set("/?#") & set(got.removeprefix(PREFIX))
    assert patched.startswith("/apis/apps.kruise.io/v1alpha1/namespaces/")
    assert patched.endswith("/clonesets/web")
    assert patched.count("/") == PREFIX.count("/")
    assert log.endswith("/log?tailLines=5")
    assert log.count("/") == "/api/v1/namespaces/shop/pods/x/log".count("/")


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_name_that_no_object_has_is_not_requested(name: str) -> None:
    server = Server()
    async with connected(server) as client:
        for request in (client.get(CLONESETS, "shop", name), client.delete(PODS, "shop", name)):
            with pytest.raises(ApiError, match="no name of an object") as refused:
                await request
            assert refused.value.code == 404
    assert server.targets == []


@given(st.text())
def test_every_path_has_as_many_segments_as_names(name: str) -> None:
    with suppress(ApiError):
        path = CLONESETS.path(name, name)
        assert path.count("/") == (PREFIX if name else PREFIX.replace("/namespaces/shop", "")).count("/")
        assert path.isascii()
        assert not set("?# ") & set(path)


def test_a_sound_path_is_as_before() -> None:
    assert CLONESETS.path("shop", "web-1.a", "status") == PREFIX + "web-1.a/status"
    assert CLONESETS.path() == "/apis/apps.kruise.io/v1alpha1/clonesets"


@pytest.mark.parametrize("value", ["web,app!=1", "web=x", "web\n", "a" * 64, "-a", "a b", "ä"])
def test_a_selector_selects_by_values_only(value: str) -> None:
    with pytest.raises(ApiError, match="no value of the label instance"):
        label_selector({"instance": value})


def test_a_selector_has_all_its_labels() -> None:
    assert label_selector({"a": "1", "b": "x-y.Z"}) == "a=1,b=x-y.Z"


async def _get(client: Client, caller: str, name: str) -> object:
    CALLER.set(caller)
    return await client.get(CLONESETS, "shop", name)


async def test_a_caller_whose_requests_are_not_answered_keeps_the_connections_of_nobody_else() -> None:
    server = Server()
    server.holds = PREFIX + "slow"
    async with connected(server) as client:
        held = [asyncio.create_task(_get(client, "mallory", f"slow-{number}")) for number in range(66)]
        try:
            async with asyncio.timeout(5):
                while len(server.targets) < module.CONNECTIONS_PER_CALLER:
                    await asyncio.sleep(0.01)
                await _get(client, "ada", "web")
                await asyncio.create_task(_get(client, "", "web"))
            assert len(server.targets) == module.CONNECTIONS_PER_CALLER + 2
        finally:
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)
        async with asyncio.timeout(5):
            await _get(client, "mallory", "web")
    assert client._shares._callers == {}


async def test_a_caller_with_too_many_requests_learns_that_they_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server()
    server.holds = PREFIX + "slow"
    monkeypatch.setattr(module, "CONNECTIONS_PER_CALLER", 1)
    async with connected(server) as client:
        held = asyncio.create_task(_get(client, "ada", "slow"))
        async with asyncio.timeout(5):
            while not server.targets:
                await asyncio.sleep(0.01)
        monkeypatch.setattr(module, "REQUEST_TIMEOUT_SECONDS", 0.01)
        with pytest.raises(Unavailable, match="1 requests of the same caller wait for Kubernetes already"):
            await _get(client, "ada", "web")
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
