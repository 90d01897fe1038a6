"""Connections that a hostile caller opens stop neither releases nor probes, and cost the services no memory."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import httpx
import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from sandbox.environment import SERVICES, Sandbox
from tests.system import flooding
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

NAMESPACE = "calm-beside-floods"
FLOOD_SECONDS = 4.0
PROBES = 5
DEPLOYMENT = Path(__file__).parents[2] / "deploy/manifests/base/deployment.yaml"
STREAMS = 500
"""Of one caller, as TRITON_API_STREAMS_PER_CALLER is by default."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bystanders(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


def port(url: str) -> str:
    return url.rpartition(":")[2]


def memory_limit() -> int:
    (container,) = yaml.safe_load(DEPLOYMENT.read_text())["spec"]["template"]["spec"]["containers"]
    limit: str = container["resources"]["limits"]["memory"]
    return int(limit.removesuffix("Mi")) * 2**20


def rebalances(sandbox: Sandbox) -> dict[str, int]:
    return {service: sandbox.log(service).read_text().count("partitions assigned") for service in SERVICES}


async def probe_seconds(url: str) -> float:
    """How long a new connection waits for the answer of a probe, as kubelet opens one."""
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=20) as client:
        assert (await client.get(f"{url}/healthz")).status_code == 200
    return time.monotonic() - began


async def probes(sandbox: Sandbox) -> dict[str, float]:
    """How long they take, of each service; the median, since a machine that runs much else may stall any one."""
    return {
        service: median([await probe_seconds(url) for _ in range(PROBES)])
        for service, url in sandbox.health_urls.items()
    }


async def metric(url: str, name: str, **labels: str) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{url}/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_a_flood_of_connections_harms_nobody(sandbox: Sandbox, bystanders: Releases) -> None:
    health = sandbox.health_urls
    pids = {service: sandbox.pid(service) for service in SERVICES}
    before = rebalances(sandbox)
    usual = await probes(sandbox)
    ports = [sandbox.rest_urls["planner"], sandbox.grpc_addresses["planner"], *health.values()]
    flood = await asyncio.create_subprocess_exec(
        sys.executable,
        flooding.__file__,
        str(FLOOD_SECONDS),
        *(port(url) for url in ports),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await until(
            "the flood has begun",
            lambda: metric(health["planner"], "triton_http_refused_total", reason="HeadTooLarge"),
        )
        release = asyncio.create_task(bystanders.create("calm", replicas=2))
        waits = await probes(sandbox)
        assert max(waits.values()) < 1 + max(usual.values()), (waits, usual)
        await release
        # one after the flood has ended, beside the connections that are still held
        body = deployflow("calm-second", "calm", replicas=2, image="nginx:2")
        await bystanders.apply(body)
        await bystanders.finished("calm-second", "Success")
        printed, _ = await flood.communicate()
    finally:
        if flood.returncode is None:
            flood.kill()
            await flood.wait()
    ended = json.loads(printed)
    assert ended["large header"] == {"431": flooding.LARGE * (1 + len(SERVICES))}
    assert ended["endless headers"].keys() <= {"431", "closed"}
    assert ended["half a header"].keys() == {"408"}
    assert ended["silent gRPC"] == {"closed": flooding.HALF_OPEN // 3}
    peaks = sandbox.peak_memory_bytes()
    assert {service: peaks[service] for service in SERVICES if peaks[service] > memory_limit()} == {}
    assert rebalances(sandbox) == before
    assert {service: sandbox.pid(service) for service in SERVICES} == pids


async def test_the_streams_of_one_caller_behind_a_proxy_are_limited(
    sandbox: Sandbox, bystanders: Releases
) -> None:
    await bystanders.create("watched", replicas=2)
    await bystanders.apply(deployflow("watched-second", "watched", replicas=2, image="nginx:2", canary=1))
    await bystanders.batch_is("watched-second", 1, "Smoked")
    path = f"/api/v2/namespaces/{NAMESPACE}/deployflows/watched-second/watch"
    planner = sandbox.rest_urls["planner"]
    writers: list[asyncio.StreamWriter] = []

    async def status(caller: str) -> str:
        """Of an answer to one more stream, once the rate of requests is kept."""
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.250, {caller}\r\n\r\n"
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port(planner)))
            writers.append(writer)
            writer.write(head.encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
            if answer == "200" or b"TooManyRequests" not in await reader.read(1000):
                return answer
            await asyncio.sleep(0.1)

    try:
        answers = Counter([await status("192.0.2.1") for _ in range(STREAMS + 10)])
        assert answers == {"200": STREAMS, "429": 10}
        assert await status("192.0.2.2") == "200", "another caller behind the same proxy"
    finally:
        await closed(writers)

    async def may_watch() -> bool:
        try:
            return await status("192.0.2.1") == "200"
        finally:
            await closed(writers)

    await until("the caller may watch again", may_watch)


async def closed(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
    writers.clear()
