"""The `triton` command as a process of its own, started as a person or a Deployment starts it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.system.releases import until

TRITON: Final = Path(__file__).parents[2] / ".venv" / "bin" / "triton"
START_SECONDS: Final = 20.0


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens."""
    with socket.socket() as attempt:
        attempt.bind(("127.0.0.1", 0))
        port: int = attempt.getsockname()[1]
        return port


class Program:
    """A `triton` process that runs, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process, health: str) -> None:
        self.process = process
        self._health = health
        self.said = ""

    async def listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.said += line.decode()

    async def says(self, text: str) -> None:
        try:
            await until(f"it says {text!r}", lambda: text in self.said, START_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.said}") from None

    async def answers(self, path: str) -> tuple[int, Json]:
        """The code and body of its health, once it listens."""
        answer: tuple[int, Json] | None = None

        async def answered() -> bool:
            nonlocal answer
            with suppress(aiohttp.ClientError):
                async with session.get(self._health + path) as response:
                    answer = response.status, await response.json()
            return answer is not None

        async with aiohttp.ClientSession() as session:
            await until(f"{path} is answered", answered, START_SECONDS)
        assert answer is not None
        return answer

    async def is_ready(self) -> bool:
        code, _ = await self.answers("/readyz")
        return code == 200

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    async def ends(self, within: float) -> int:
        """Its exit code, of itself."""
        return await asyncio.wait_for(self.process.wait(), within)

    async def stops(self, number: signal.Signals, within: float) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        return await self.ends(within)


@asynccontextmanager
async def triton(*arguments: str, environment: Mapping[str, str]) -> AsyncIterator[Program]:
    """Runs to the end of the block at most."""
    port = free_port()
    own = {"TRITON_HEALTH_PORT": str(port)} if arguments != ("run",) else {}
    process = await asyncio.create_subprocess_exec(
        TRITON,
        *arguments,
        env={**_usual(), **own, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,
    )
    program = Program(process, f"http://127.0.0.1:{port}")
    listening = asyncio.create_task(program.listen())
    try:
        yield program
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await listening


class Ended(NamedTuple):
    """A command that has ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


def by_cluster(sandbox: Sandbox) -> dict[str, str]:
    """Return the environment of a command that uses the cluster."""
    return _usual() | sandbox.environment


def by_server(sandbox: Sandbox) -> dict[str, str]:
    """Return the environment of a command that uses the REST API."""
    return _usual() | {"TRITON_SERVER": sandbox.rest_urls["planner"]}


def _usual() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("TRITON_", "KUBE"))}


async def run(*arguments: str, environment: Mapping[str, str]) -> Ended:
    """Run one command without a terminal to its end."""
    process = await asyncio.create_subprocess_exec(
        TRITON,
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def printed(*arguments: str, environment: Mapping[str, str]) -> str:
    """What a command that ends well prints."""
    async with triton(*arguments, environment=environment) as program:
        code = await program.ends(START_SECONDS)
        await until("all of it is read", lambda: program.process.stdout and program.process.stdout.at_eof())
    assert code == 0, program.said
    return program.said


@asynccontextmanager
async def bare_cluster(folder: Path) -> AsyncIterator[Path]:
    """A Kubernetes that knows no DeployFlows yet; gives its kubeconfig."""
    kubeconfig = folder / "kubeconfig"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sandbox.kubernetes",
        "--kubeconfig",
        str(kubeconfig),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        assert json.loads(line)["ready"]
        yield kubeconfig
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def passed_on(port: int, address: str) -> AsyncIterator[None]:
    """Whoever connects to the port reaches the address."""
    host, _, target = address.rpartition(":")
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(host, int(target))
        for ends in ((reader, other_writer), (other_reader, writer)):
            task = asyncio.create_task(pump(*ends))
            pumps.add(task)
            task.add_done_callback(pumps.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
