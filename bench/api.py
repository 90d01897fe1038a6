"""How fast one planner answers its APIs, how soon open streams hear of a change, and what idle streams cost.

A sandbox with a real Redis, or the real parts, and 1,000 releases that wait at their canary. GETs come at a fixed rate, whether the last
one has been answered or not, and are timed from when they were due; the most that it answers is measured after that,
beside what the same server answers without any work of ours (a path that does not exist).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from shared.domain.json_types import Json

if __name__ == "__main__":
    # started as a script: the folder above is not on the path then
    root = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(root))
    if importlib.util.find_spec("grpc") is None:
        own = root / ".venv" / "bin" / "python"
        if not own.exists() or Path(sys.prefix) == own.parents[1]:
            sys.exit("error: packages are missing: run `make .venv/.ready` first")
        os.execv(own, [str(own), *sys.argv])

import grpc.aio
import httpx

from bench.errors import BenchError
from bench.progress import say
from sandbox.environment import Sandbox
from sandbox.process import SandboxError, free_port
from sandbox.real.stack import RealStack
from services.planner.api.protos import deployflow_pb2 as pb
from services.planner.api.protos.deployflow_pb2_grpc import DeployFlowStub
from shared.kube import client as k8s
from shared.kube.client import Client

FLOWS: Final = 1_000
RATE: Final = 1_000
SECONDS: Final = 10.0
CONNECTIONS: Final = 16
WATCHERS: Final = 200
CHANGES: Final = 20
IDLE: Final = 500
AIM_P99_MS, AIM_RATE, AIM_TOLD_MS, AIM_MIB = 15.0, 1_000.0, 200.0, 10.0
EXAMPLES: Final = """
examples:
  python bench/api.py
  python bench/api.py --real
  python bench/api.py --flows 100 --seconds 3 -o json
"""


class Times(NamedTuple):
    """Milliseconds."""

    median: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        ordered = sorted(second * 1000 for second in seconds)
        return cls(statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1])


class Connection:
    """One connection that is kept, with one GET at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def get(self, path: str) -> int:
        """The status code."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        await self._reader.readexactly(length)
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def connections(port: int) -> AsyncIterator[list[Connection]]:
    opened = [await Connection.to(port) for _ in range(CONNECTIONS)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()


async def at_rate(port: int, paths: Sequence[str], rate: float, seconds: float) -> Times:
    """GETs that are due at a fixed rate."""
    taken: list[float] = []
    async with connections(port) as opened:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for connection in opened:
            free.put_nowait(connection)

        async def one(due: float, path: str) -> None:
            connection = await free.get()
            if await connection.get(path) != 200:
                msg = f"GET {path} failed"
                raise BenchError(msg)
            free.put_nowait(connection)
            taken.append(time.perf_counter() - due)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                due = began + number / rate
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                group.create_task(one(due, paths[number * 7919 % len(paths)]))
    return Times.of(taken)


async def most(port: int, paths: Sequence[str], seconds: float, status: int = 200) -> float:
    """GETs a second, each connection as fast as it is answered."""
    done = 0
    async with connections(port) as opened:
        until = time.perf_counter() + seconds

        async def work(connection: Connection, first: int) -> None:
            nonlocal done
            number = first
            while time.perf_counter() < until:
                if await connection.get(paths[number * 7919 % len(paths)]) != status:
                    msg = f"GET {paths[number * 7919 % len(paths)]} failed"
                    raise BenchError(msg)
                number += CONNECTIONS
                done += 1

        await asyncio.gather(*(work(connection, first) for first, connection in enumerate(opened)))
    return done / seconds


async def releases(sandbox: Sandbox, count: int) -> list[str]:
    """So many that wait at their canary; their names."""
    client = await Client.connect(sandbox.kubeconfig, agent="bench")
    try:
        names = [f"app-{number:04}" for number in range(count)]
        for start in range(0, count, 50):
            await asyncio.gather(
                *(
                    client.create(k8s.DEPLOYFLOWS, "default", _flow(name))
                    for name in names[start : start + 50]
                )
            )
        await _until("all canaries are smoked", lambda: _all_smoked(client, count))
        return names
    finally:
        await client.close()


async def _all_smoked(client: Client, count: int) -> bool:
    flows = await client.list(k8s.DEPLOYFLOWS, "default")
    waiting = [flow for flow in flows if (flow.get("status") or {}).get("reason") == "WaitingForNext"]
    say(f"  {len(waiting)} of {count} wait")
    return len(waiting) == count


def _flow(name: str) -> Json:
    container = {"name": "main", "image": "nginx:1", "ports": [{"containerPort": 80}]}
    start = {"sandbox.triton.io/start-seconds": "0.1-0.2"}
    return {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": "DeployFlow",
        "metadata": {"name": name},
        "spec": {
            "action": "create",
            "application": {
                "appID": 1,
                "groupID": 1,
                "appName": name,
                "instanceName": name,
                "replicas": 2,
                "template": {"metadata": {"annotations": start}, "spec": {"containers": [container]}},
            },
            "updateStrategy": {"canary": 1, "mode": "auto"},
        },
    }


async def _until(what: str, condition: Callable[[], Awaitable[bool]], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            msg = f"not within {seconds:g} s: {what}"
            raise BenchError(msg)
        await asyncio.sleep(1)


class Heard:
    """What the open streams of one release have been told."""

    def __init__(self) -> None:
        self.at: list[tuple[bool, float]] = []
        self.begun = 0

    def __call__(self, paused: bool) -> None:
        self.at.append((paused, time.perf_counter()))


async def _by_grpc(stub: Any, name: str, heard: Heard) -> None:
    # to batch 9, which it never has: until it is canceled
    request = pb.WatchRequest(
        deploy=pb.DeployMeta(namespace="default", name=name), target=pb.TargetState(batches=9)
    )
    async for reply in stub.Watch(request):
        heard.begun += not heard.at
        heard(reply.deploy.paused)


async def _by_rest(http: httpx.AsyncClient, name: str, heard: Heard) -> None:
    url = f"/api/v2/namespaces/default/deployflows/{name}/watch"
    async with http.stream("GET", url) as response:
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                heard.begun += not heard.at
                heard(bool(json.loads(line[5:])["status"]["paused"]))


async def told(sandbox: Sandbox, name: str, open_one: Callable[[Heard], Awaitable[None]]) -> Times:
    """From a change, asked for by REST, until each of the streams has it."""
    each = [Heard() for _ in range(WATCHERS)]
    tasks = [asyncio.ensure_future(open_one(heard)) for heard in each]
    taken: list[float] = []
    try:
        await _soon("all streams have begun", lambda: all(heard.at for heard in each), tasks)
        url = f"{sandbox.rest_urls['planner']}/api/v1/namespaces/default/deployflows/{name}"
        async with httpx.AsyncClient() as http:
            for number in range(CHANGES):
                paused = number % 2 == 0
                for heard in each:
                    heard.at.clear()
                began = time.perf_counter()
                (await http.patch(url, json={"paused": paused})).raise_for_status()
                await _soon(
                    "all streams have heard of it",
                    functools.partial(_all_told, each, paused),
                    tasks,
                )
                taken += [next(at for p, at in heard.at if p == paused) - began for heard in each]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Times.of(taken)


def _all_told(each: Sequence[Heard], paused: bool) -> bool:
    return all(any(told == paused for told, _ in heard.at) for heard in each)


async def _soon(what: str, condition: Callable[[], bool], tasks: Sequence[asyncio.Future[None]]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        for task in tasks:
            if task.done():
                task.result()
        if time.monotonic() > deadline:
            msg = f"not within 30 s: {what}"
            raise BenchError(msg)
        await asyncio.sleep(0.002)


async def idle_mib(
    sandbox: Sandbox, names: Sequence[str], open_one: Callable[[str, Heard], Awaitable[None]]
) -> float:
    """MiB that the planner needs more for so many streams that nobody tells anything."""
    before = _rss(sandbox)
    each = [Heard() for _ in range(IDLE)]
    tasks = [
        asyncio.ensure_future(open_one(names[number % len(names)], heard))
        for number, heard in enumerate(each)
    ]
    try:
        await _soon("all streams have begun", lambda: all(heard.at for heard in each), tasks)
        await asyncio.sleep(3)
        return (_rss(sandbox) - before) / 2**20
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _rss(sandbox: Sandbox) -> int:
    status = Path(f"/proc/{sandbox.pid('planner')}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


@contextlib.asynccontextmanager
async def redis_server() -> AsyncIterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        try:
            server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        except FileNotFoundError:
            msg = "redis-server is missing: apt-get install redis-server"
            raise BenchError(msg) from None
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            await server.wait()


async def measure(flows: int, seconds: float, *, real: bool) -> Json:
    unlimited = {"TRITON_API_REQUESTS_PER_SECOND": "1000000"}
    async with contextlib.nullcontext("") if real else redis_server() as url:
        own = unlimited if real else {**unlimited, "TRITON_REDIS_URL": url}
        async with Sandbox(settings=own, stack=RealStack(say) if real else None) as sandbox:
            say(f"making {flows} releases ...")
            names = await releases(sandbox, flows)
            # their last writes
            await asyncio.sleep(3)
            rest = sandbox.rest_urls["planner"]
            port = int(rest.rpartition(":")[2])
            paths = [f"/api/v1/namespaces/default/deployflows/{name}" for name in names]
            say(f"GETs, {RATE} a second ...")
            await at_rate(port, paths, RATE / 4, 2)
            gets = await at_rate(port, paths, RATE, seconds)
            say("GETs, as many as it answers ...")
            rate = await most(port, paths, seconds)
            floor = await most(port, ["/nothing"], seconds / 2, 404)
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            result: Json = {"get": gets._asdict(), "getsPerSecond": rate, "emptyPerSecond": floor}
            async with (
                httpx.AsyncClient(base_url=rest, timeout=None, limits=limits) as http,  # noqa: S113
                grpc.aio.insecure_channel(sandbox.grpc_addresses["planner"]) as channel,
            ):
                stub = DeployFlowStub(channel)
                ways: dict[str, Callable[[str, Heard], Awaitable[None]]] = {
                    "grpc": functools.partial(_by_grpc, stub),
                    "rest": functools.partial(_by_rest, http),
                }
                for api, open_one in ways.items():
                    say(f"{WATCHERS} streams of one release, {api} ...")
                    heard = await told(sandbox, names[0], functools.partial(open_one, names[0]))
                    say(f"{IDLE} idle streams, {api} ...")
                    idle = await idle_mib(sandbox, names[1:], open_one)
                    result[api] = {"told": heard._asdict(), "idleMiB": idle}
            return result


def lines(result: Json) -> list[str]:
    gets = result["get"]
    rows = [
        (f"GET at {RATE}/s, p99", gets["p99"], "ms", AIM_P99_MS),
        ("GETs a second at most", -result["getsPerSecond"], "/s", -AIM_RATE),
    ]
    for api in ("grpc", "rest"):
        rows += [
            (
                f"{api}: a change reaches {WATCHERS} streams, p99",
                result[api]["told"]["p99"],
                "ms",
                AIM_TOLD_MS,
            ),
            (f"{api}: {IDLE} idle streams", result[api]["idleMiB"], "MiB", AIM_MIB),
        ]
    told = [
        f"{what:<48} {abs(value):9.1f} {unit:<4} aim {abs(aim):g}{'' if value <= aim else '  MISSED'}"
        for what, value, unit, aim in rows
    ]
    share = result["getsPerSecond"] / result["emptyPerSecond"]
    return [*told, f"of what the same server answers without any work of ours: {share:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python bench/api.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--flows", type=int, default=FLOWS, metavar="N", help=f"default: {FLOWS}")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=f"default: {SECONDS:g}")
    parser.add_argument("--real", action="store_true", help="on the real parts (triton sandbox --real)")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args()
    try:
        result = asyncio.run(measure(given.flows, given.seconds, real=given.real))
    except (BenchError, SandboxError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(result, indent=2) if given.output == "json" else "\n".join(lines(result)))


if __name__ == "__main__":
    main()
