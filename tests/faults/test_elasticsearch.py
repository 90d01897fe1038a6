"""Elasticsearch is away: the releases do not notice, and the log lacks nothing afterwards."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from sandbox.environment import SERVICES, Sandbox
from tests.faults.disturbed import disturbed, missing
from tests.faults.told import each_event_once
from tests.system.history import recorded
from tests.system.programs import triton
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

AWAY_SECONDS = 60
"""What the log must bear at least."""


async def test_elasticsearch_may_come_after_everything_else(sandbox: Sandbox, releases: Releases) -> None:
    others = [service for service in SERVICES if service != "events"]
    await asyncio.gather(*(sandbox.stop(name) for name in (*SERVICES, "elasticsearch")))
    try:
        await _with_a_late_store(sandbox, releases, others)
    finally:
        await sandbox.start("events")


async def _with_a_late_store(sandbox: Sandbox, releases: Releases, others: list[str]) -> None:
    async with triton("events", environment=sandbox.environment) as events:
        try:
            await asyncio.gather(*(sandbox.start(service) for service in others))
            away = f"Elasticsearch at {sandbox.event_store} does not answer"
            await events.says(f"waiting for event store: {away}")
            code, body = await events.answers("/readyz")
            assert code == 503
            assert body["missing"]["event store"].startswith(away)

            await releases.service("unlogged")
            async with recorded(releases, "unlogged") as history:
                await releases.apply(deployflow("unlogged-1", "unlogged", action="create", replicas=2))
                await releases.finished("unlogged-1", "Success")
            assert not await events.is_ready()
        finally:
            await sandbox.start("elasticsearch")
        await until("the events service is ready", events.is_ready)
        await each_event_once(sandbox, history)
        assert await events.stops(signal.SIGTERM, 15) == 0


async def test_elasticsearch_killed_in_the_middle_of_a_release_costs_no_event(
    sandbox: Sandbox, releases: Releases
) -> None:
    async with disturbed(sandbox, releases, "es-killed") as name:
        sandbox.kill("elasticsearch")
        await until("the events service says so", lambda: _misses_the_store(sandbox))
        await releases.finished(name, "Success")
        await sandbox.start("elasticsearch")
        await sandbox.ready("events")


async def test_elasticsearch_frozen_for_a_minute_costs_no_event(sandbox: Sandbox, releases: Releases) -> None:
    async with disturbed(sandbox, releases, "es-frozen") as name:
        sandbox.kill("elasticsearch", signal.SIGSTOP)
        frozen = time.monotonic()
        try:
            await releases.finished(name, "Success")
            await releases.create("es-frozen-too", 2)
            async with recorded(releases, "es-frozen-too") as history:
                await releases.apply(
                    deployflow("es-frozen-too-2", "es-frozen-too", image="nginx:2", replicas=2)
                )
                await releases.finished("es-frozen-too-2", "Success")
            await until("the events service says so", lambda: _misses_the_store(sandbox), AWAY_SECONDS)
            await until("a minute is over", lambda: time.monotonic() >= frozen + AWAY_SECONDS, AWAY_SECONDS)
        finally:
            sandbox.kill("elasticsearch", signal.SIGCONT)
        await sandbox.ready("events")
    await each_event_once(sandbox, history)


async def _misses_the_store(sandbox: Sandbox) -> bool:
    said = (await missing(sandbox, "events")).get("event store", "")
    return said.startswith(f"Elasticsearch at {sandbox.event_store} does not answer")
