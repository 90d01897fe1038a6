"""Where stories are played: a running sandbox, a client of its API server, the watches, the log and the faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import redis.asyncio

from bench.campaigns.api_faults import ApiFaults, Troubled
from bench.campaigns.observed import INSTANCE
from bench.campaigns.watcher import Watcher
from sandbox.embedded import EmbeddedStack
from sandbox.environment import Sandbox
from sandbox.process import SandboxError
from sandbox.real.stack import RealStack
from services.planner.model.stored_state import load
from shared.domain.json_types import Json
from shared.domain.topics import Key
from shared.event_store import open_store
from shared.event_store.interface import EventStore, Query, Stream
from shared.kube.client import Client
from shared.settings import Settings
from shared.status_store import StatusStore

AGENT: Final = "triton-campaign"
REQUESTS_PER_SECOND: Final = 10_000.0
_SETTINGS: Final = {"TRITON_RESEND_SECONDS": "3"}


@dataclass(frozen=True)
class Limits:
    """Seconds that the campaign waits. `stands`: that a release may stand still without a word; `ends`: that it may wait
    with a reason; `rests`: from the end of a round to rest.
    """

    stands: float
    ends: float
    rests: float


LIMITS: Final = Limits(stands=60, ends=180, rests=60)
"""Machines that build and test at once stall for many seconds."""


@dataclass
class Place:
    sandbox: Sandbox
    client: Client
    watcher: Watcher
    faults: ApiFaults
    store: EventStore
    limits: Limits
    real: bool
    _one_fault: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Faults that disturb all instances come one after the other: two at once would tell no more."""

    @property
    def disturbed(self) -> bool:
        """Return whether a fault is under way, or its service has not come back: nobody can be waited for then."""
        return self._one_fault.locked()

    async def kill(self, service: str) -> None:
        async with self._one_fault:
            await self.sandbox.ready(service)
            self.sandbox.kill(service)
            await self.sandbox.ready(service)

    async def stop(self, service: str, seconds: float) -> None:
        async with self._one_fault:
            await self.sandbox.ready(service)
            self.sandbox.kill(service, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            with contextlib.suppress(SandboxError):
                # it may have been killed meanwhile, by itself
                self.sandbox.kill(service, signal.SIGCONT)
            await self.sandbox.ready(service)

    async def empty_redis(self) -> None:
        async with self._one_fault:
            client = redis.asyncio.from_url(self.sandbox.redis_url)
            await client.flushall()
            await client.aclose()

    async def restart_kafka(self) -> None:
        async with self._one_fault:
            self.sandbox.kill("kafka")
            await self.sandbox.start("kafka")

    async def trouble(self, make: Callable[[ApiFaults], Awaitable[Any]]) -> None:
        async with self._one_fault:
            await make(self.faults)

    async def state(self, namespace: str) -> str:
        """Return the planner's state of the instance, as JSON; empty where Redis has none."""
        store = StatusStore(self.sandbox.redis_url, Settings().prefix)
        try:
            stored = await store.load(Key(namespace, INSTANCE))
        finally:
            await store.close()
        return "" if stored is None else json.dumps(msgspec.to_builtins(load(stored.state)), indent=1)

    async def logged(self, namespace: str, deployflow: str) -> list[Json]:
        """Return what the log has of a release itself."""
        query = Query([Stream.DEPLOYFLOW], namespace=namespace, deployflow=deployflow, limit=5000)
        return await self.store.search(query)


@contextlib.asynccontextmanager
async def running(*, real: bool, say: Callable[[str], None]) -> AsyncIterator[Place]:
    """Start a sandbox of its own, and follow it; raises `SandboxError` when it does not come up."""
    stack = Troubled(RealStack(say) if real else EmbeddedStack())
    async with Sandbox(settings=_SETTINGS, stack=stack) as sandbox:
        client = await Client.connect(
            sandbox.kubeconfig, agent=AGENT, requests_per_second=REQUESTS_PER_SECOND
        )
        store = open_store(Settings(event_store=sandbox.event_store))
        watcher = Watcher(client)
        following = asyncio.create_task(watcher.run())
        try:
            await watcher.synced()
            yield Place(sandbox, client, watcher, stack.faults, store, LIMITS, real)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await store.close()
            await client.close()
            await stack.faults.close()
