"""What a measurement needs of the place where it runs, so that the same one runs on the sandbox and elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Protocol

import aiohttp

from bench.meters import Request, Usage, requests_in, requests_of, usage
from sandbox.embedded import BACKENDS, KUBERNETES
from sandbox.environment import SERVICES, Sandbox, Stack
from sandbox.real.cluster import AUDIT, CLUSTER
from shared.kube.client import Client

AGENT: Final = "triton-bench"
REQUESTS_PER_SECOND: Final = 10_000.0
"""The measurement itself must not be held back by the client's limit."""
BESIDE: Final = (KUBERNETES, BACKENDS, *CLUSTER, "kafka", "redis", "elasticsearch")
"""The processes that the services share the cores with, in a sandbox of either kind."""


class Surroundings(Protocol):
    """A running Triton and its API server."""

    client: Client
    kubeconfig: Path
    ready_seconds: float

    async def requests(self) -> Counter[Request]:
        """What the API server has answered so far."""

    def usage(self) -> dict[str, Usage]:
        """CPU and memory so far of each service, and of the processes beside them."""

    def usage_of_all(self) -> dict[str, int]:
        """The peak memory in bytes of every process that belongs to it."""


class InSandbox:
    """The surroundings that `Sandbox` gives."""

    def __init__(self, sandbox: Sandbox, client: Client, ready_seconds: float) -> None:
        self._sandbox = sandbox
        self.client = client
        self.kubeconfig = sandbox.kubeconfig
        self._audit = sandbox.state / AUDIT
        self.ready_seconds = ready_seconds

    async def requests(self) -> Counter[Request]:
        if self._audit.exists():
            with self._audit.open() as lines:
                return await asyncio.to_thread(requests_of, lines)
        headers = {"User-Agent": AGENT}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{self._sandbox.kubernetes_url}/metrics", raise_for_status=True) as response,
        ):
            return requests_in(await response.text())

    def usage(self) -> dict[str, Usage]:
        pids = {name: self._sandbox.pid(name) for name in (*SERVICES, *BESIDE) if name in self._sandbox.parts}
        return {name: usage(pid) for name, pid in pids.items() if pid is not None}

    def usage_of_all(self) -> dict[str, int]:
        # the supervisor is this measurement: its memory says nothing of the sandbox
        peaks = self._sandbox.peak_memory_bytes()
        return {name: peak for name, peak in peaks.items() if name != "supervisor"}


@contextlib.asynccontextmanager
async def in_sandbox(stack: Stack) -> AsyncIterator[InSandbox]:
    """A sandbox of its own, started and stopped; raises `SandboxError` when it does not come up."""
    begun = time.monotonic()
    async with Sandbox(stack=stack) as sandbox:
        ready_seconds = time.monotonic() - begun
        client = await Client.connect(
            sandbox.kubeconfig, agent=AGENT, requests_per_second=REQUESTS_PER_SECOND
        )
        try:
            yield InSandbox(sandbox, client, ready_seconds)
        finally:
            await client.close()
