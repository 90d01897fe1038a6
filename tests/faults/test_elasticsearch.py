"""Elasticsearch is away: the releases do not notice, and the log lacks nothing afterwards."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from sandbox.environment import SERVICES, Sandbox
from tests.faults.disturbed import disturbed, missing
from tests.faults.published_events import all_published_once, each_event_once
from tests.system.history import recorded
from tests.system.programs import triton
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

AWAY_SECONDS = 60
"""What the log must bear at least."""
RELEASES = 20
PHASES = ("Smoking", "Smoked", "Baking", "Baked")


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


async def test_elasticsearch_away_for_a_minute_amid_twenty_releases_costs_no_event(
    sandbox: Sandbox, releases: Releases
) -> None:
    instances = [f"es-away-{number}" for number in range(RELEASES)]
    await asyncio.gather(*(releases.create(instance, 2) for instance in instances))
    bodies = [
        deployflow(f"{name}-2", name, image="nginx:2", replicas=2, batchSize=1, bakeSeconds=2)
        for name in instances
    ]
    names = [await releases.apply(body) for body in bodies]
    await asyncio.gather(*(releases.batch_is(name, 1, *PHASES) for name in names))
    # first it takes everything and answers nothing, then there is nobody to take it
    sandbox.kill("elasticsearch", signal.SIGSTOP)
    away = time.monotonic()
    assert not any([(await releases.status(name)).get("finished") for name in names]), "in their middle"
    try:
        await asyncio.gather(*(releases.finished(name, "Success") for name in names))
        await until("the events service says so", lambda: _misses_the_store(sandbox), AWAY_SECONDS)
    finally:
        sandbox.kill("elasticsearch")
    try:
        await until("a minute is over", lambda: time.monotonic() >= away + AWAY_SECONDS, AWAY_SECONDS)
    finally:
        await sandbox.start("elasticsearch")
    await sandbox.ready("events")
    for instance in instances:
        await all_published_once(sandbox, instance)


async def _misses_the_store(sandbox: Sandbox) -> bool:
    said = (await missing(sandbox, "events")).get("event store", "")
    return said.startswith(f"Elasticsearch at {sandbox.event_store} does not answer")
