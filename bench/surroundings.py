"""What a measurement needs of the place where it runs, so that the same one runs on the sandbox and elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, Protocol

import aiohttp

from bench.meters import Request, Usage, requests_in, usage
from sandbox.embedded import BACKENDS, KUBERNETES
from sandbox.environment import SERVICES, Sandbox
from shared.kubernetes import Client

AGENT: Final = "triton-bench"
REQUESTS_PER_SECOND: Final = 10_000.0
"""The measurement itself must not be held back by the client's limit."""
MEASURED: Final = (*SERVICES, KUBERNETES, BACKENDS)
"""The processes whose CPU and memory are told: the four services, and what they share the cores with."""


class Surroundings(Protocol):
    """A running Triton and its API server."""

    client: Client
    server: str
    """URL of the API server."""
    ready_seconds: float

    async def requests(self) -> Counter[Request]:
        """What the API server has answered so far."""

    def usage(self) -> dict[str, Usage]:
        """CPU and memory so far of each process of `MEASURED`."""

    def usage_of_all(self) -> dict[str, int]:
        """The peak memory in bytes of every process that belongs to it."""


class InSandbox:
    """The surroundings that `Sandbox` gives."""

    def __init__(self, sandbox: Sandbox, client: Client, ready_seconds: float) -> None:
        self._sandbox = sandbox
        self.client = client
        self.server = sandbox.kubernetes_url
        self.ready_seconds = ready_seconds

    async def requests(self) -> Counter[Request]:
        headers = {"User-Agent": AGENT}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{self.server}/metrics", raise_for_status=True) as response,
        ):
            return requests_in(await response.text())

    def usage(self) -> dict[str, Usage]:
        pids = {name: self._sandbox.pid(name) for name in MEASURED}
        return {name: usage(pid) for name, pid in pids.items() if pid is not None}

    def usage_of_all(self) -> dict[str, int]:
        # the supervisor is this measurement: its memory says nothing of the sandbox
        peaks = self._sandbox.peak_memory_bytes()
        return {name: peak for name, peak in peaks.items() if name != "supervisor"}


@contextlib.asynccontextmanager
async def in_sandbox() -> AsyncIterator[InSandbox]:
    """A sandbox of its own, started and stopped; raises `SandboxError` when it does not come up."""
    begun = time.monotonic()
    async with Sandbox() as sandbox:
        ready_seconds = time.monotonic() - begun
        client = await Client.connect(
            sandbox.kubeconfig, agent=AGENT, requests_per_second=REQUESTS_PER_SECOND
        )
        try:
            yield InSandbox(sandbox, client, ready_seconds)
        finally:
            await client.close()
