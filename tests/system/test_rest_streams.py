"""Server-sent events of a release: its whole story, once each, wherever a reader begins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

NAMESPACE = "rest-streams"
FLOWS = f"/api/v2/namespaces/{NAMESPACE}/deployflows"
SECONDS = 60


class Event(NamedTuple):
    id: int
    reason: str
    uid: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def rest(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sandbox.rest_urls["planner"], timeout=SECONDS) as client:
        yield client


async def story(
    rest: httpx.AsyncClient, name: str, after: int | None = None, *, until: str = ""
) -> list[Event]:
    """Up to the first event of that reason, else to the end of the stream, which says that it is the end."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    found: list[Event] = []
    at = 0
    async with (
        asyncio.timeout(SECONDS),
        rest.stream("GET", f"{FLOWS}/{name}/events", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                at = int(line.removeprefix("id: "))
            elif line == "event: end":
                return found
            elif line.startswith("data: "):
                event: Any = json.loads(line.removeprefix("data: "))
                found.append(Event(at, event["reason"], event["flow"]["uid"]))
                if until and event["reason"] == until:
                    return found
    raise AssertionError(f"cut off after {found}")


async def test_a_stream_starts_at_the_beginning_and_continues_where_a_reader_left_it(
    releases: Releases, rest: httpx.AsyncClient
) -> None:
    await releases.apply(deployflow("web-1", "web", action="create", replicas=2, canary=1))
    begun = await story(rest, "web-1", until="BatchSmoked")
    assert begun[0].reason == "Received"

    # live from here on: one reader continues, and one starts at the beginning
    going_on = asyncio.create_task(story(rest, "web-1", begun[-1].id))
    from_start = asyncio.create_task(story(rest, "web-1"))
    await asyncio.sleep(0)
    assert (await rest.post(f"{FLOWS}/web-1/promote")).status_code == 200
    rest_of_it, all_of_it = await going_on, await from_start
    assert begun + rest_of_it == all_of_it
    assert all_of_it[-1].reason == "Success"
    assert [event.id for event in all_of_it] == sorted({event.id for event in all_of_it})

    # another release of the instance, in the same partition, has a story of its own
    made = await rest.post(
        f"/api/v2/namespaces/{NAMESPACE}/instances/web/updates",
        json={"image": "nginx:2", "strategy": {"canary": 0, "mode": "auto"}},
    )
    name = made.json()["metadata"]["name"]
    other = await story(rest, name)
    assert {event.uid for event in other} == {made.json()["metadata"]["uid"]}
    assert await story(rest, "web-1") == all_of_it
    assert await story(rest, "web-1", all_of_it[-2].id) == all_of_it[-1:]


async def test_a_watch_shows_a_release_to_its_end(releases: Releases, rest: httpx.AsyncClient) -> None:
    await releases.apply(deployflow("shop-1", "shop", action="create", replicas=2))
    async with asyncio.timeout(SECONDS):
        received = (await rest.get(f"{FLOWS}/shop-1/watch")).text
    states = [line.removeprefix("data: ") for line in received.splitlines() if '"apiVersion"' in line]
    phases = [json.loads(state)["status"]["phase"] for state in states]
    assert phases[-1] == "Success"
    assert "Success" not in phases[:-1]


async def test_a_field_that_is_null_goes_from_the_strategy(
    releases: Releases, rest: httpx.AsyncClient
) -> None:
    await releases.apply(deployflow("idle-1", "idle", action="create", replicas=2, canary=1, bakeSeconds=1))
    patched = await rest.patch(f"{FLOWS}/idle-1", json={"bakeSeconds": None, "batchSize": 1})
    strategy = patched.json()["spec"]["updateStrategy"]
    assert (strategy["batchSize"], "bakeSeconds" in strategy) == (1, False)
    assert (await rest.post(f"{FLOWS}/idle-1/cancel")).status_code == 200
    await releases.finished("idle-1", "Canceled")
