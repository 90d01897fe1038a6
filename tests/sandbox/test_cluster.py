"""The sandbox as a program: how it starts, what it counts, and where its bounds are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from sandbox.kubernetes import Cluster, Options, Timing
from sandbox.kubernetes.behaviours import Span
from tests.contract.kube import Kube, a_config, read_kubeconfig

CONFIGS = "/api/v1/namespaces/{}/configmaps"


async def _kube(cluster: Cluster, folder: Path, session: aiohttp.ClientSession) -> Kube:
    path = folder / "kubeconfig"
    path.write_text(cluster.kubeconfig)
    return Kube(session, read_kubeconfig(path), "default")


async def test_it_runs_inside_another_program_and_says_what_it_is(tmp_path: Path) -> None:
    async with Cluster() as cluster, aiohttp.ClientSession() as session:
        kube = await _kube(cluster, tmp_path, session)
        version = (await kube.get("/version")).body
        assert version["gitVersion"].endswith("+triton-sandbox")
        assert "trying and testing" in version["gitTreeState"]
        for path in ("/healthz", "/readyz", "/livez"):
            assert (await kube.get(path)).body["text"] == "ok"


async def test_requests_are_counted_by_client(kube: Kube) -> None:
    await kube.ask("GET", kube.path(CONFIGS))
    text = str((await kube.get("/metrics")).body["text"])
    assert 'verb="list",resource="configmaps",client="Python' in text


async def test_a_forgotten_history_is_gone_for_watchers(tmp_path: Path) -> None:
    options = Options(history_events=5)
    async with Cluster(options=options) as cluster, aiohttp.ClientSession() as session:
        kube = await _kube(cluster, tmp_path, session)
        version = (await kube.get(kube.path(CONFIGS))).body["metadata"]["resourceVersion"]
        for n in range(7):
            await kube.made(kube.path(CONFIGS), a_config(f"c{n}"))
        async with kube.watch(kube.path(CONFIGS), resourceVersion=version) as watching:
            event = await watching.event()
            assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_an_expired_continue_token_asks_to_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster() as cluster, aiohttp.ClientSession() as session:
        kube = await _kube(cluster, tmp_path, session)
        monkeypatch.setattr(cluster.server.lists, "limit", 1)
        for n in range(3):
            await kube.made(kube.path(CONFIGS), a_config(f"c{n}"))
        token = (await kube.get(kube.path(CONFIGS), limit="1")).body["metadata"]["continue"]
        await kube.get(kube.path(CONFIGS), limit="1")
        answer = await kube.get(kube.path(CONFIGS), limit="1", **{"continue": token})
        assert (answer.code, answer.reason) == (410, "Expired")


async def test_a_reader_that_does_not_read_loses_its_watch(tmp_path: Path) -> None:
    async with Cluster() as cluster, aiohttp.ClientSession() as session:
        kube = await _kube(cluster, tmp_path, session)
        version = (await kube.get(kube.path(CONFIGS))).body["metadata"]["resourceVersion"]
        big = {**a_config("big"), "data": {"a": "x" * 900_000}}
        async with kube.watch(kube.path(CONFIGS), resourceVersion=version) as watching:
            await kube.made(kube.path(CONFIGS), big)
            for n in range(40):
                await kube.patch(kube.path(CONFIGS, "big"), {"data": {"b": str(n)}})
            assert await watching.is_ended()


async def test_it_stops_in_time_with_watches_open(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        async with Cluster(options=Options(timing=Timing(Span(0, 0), Span(0, 0)))) as cluster:
            kube = await _kube(cluster, tmp_path, session)
            response = await session.get(f"{cluster.url}{kube.path(CONFIGS)}?watch=true")
        async with asyncio.timeout(2):
            assert await response.read() == b""
