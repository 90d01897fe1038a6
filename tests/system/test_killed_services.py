"""Each service dies in the middle of a release, Redis forgets everything: the release finishes all the same."""

from __future__ import annotations

import signal
from collections import Counter

import pytest
import redis.asyncio

from sandbox.environment import Sandbox
from tests.system.history import History, recorded
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

WANTED = 6
MOMENTS = ["Smoking", "Baking", "Baked"]


async def _begin(releases: Releases, instance: str, **strategy: object) -> str:
    await releases.create(instance, WANTED)
    slow = {"sandbox.triton.io/start-seconds": "0.3-1.0"}
    body = deployflow(f"{instance}-2", instance, image="nginx:2", batchSize=2, annotations=slow, **strategy)
    return await releases.apply(body)


async def _whole(releases: Releases, instance: str, history: History) -> None:
    """What holds at the end is what holds after an undisturbed release."""
    history.check(WANTED)
    name = f"{instance}-2"
    status = await releases.status(name)
    assert [c["phase"] for c in status["conditions"]] == ["Baked"] * 3
    assert status["finishedReplicas"] == WANTED
    pods = await releases.pods(instance)
    assert len(pods) == WANTED
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"nginx:2"}
    assert len(await releases.endpoints(instance)) == WANTED
    cloneset = await releases.cloneset(instance)
    assert not cloneset["spec"]["updateStrategy"].get("paused")
    assert "apps.triton.io/hold" not in cloneset["metadata"]["annotations"]
    told = Counter(
        (event["triton"].get("batch", 0), event["event"]["reason"])
        for event in await releases.events(name)
        if event["event"]["reason"]
        in {"BatchStarted", "BatchSmoked", "BatchBaked", "BatchFinished", "Success"}
    )
    expected = {
        (n, r) for n in (1, 2, 3) for r in ("BatchStarted", "BatchSmoked", "BatchBaked", "BatchFinished")
    }
    assert set(told) == expected | {(0, "Success")}, "the log lacks or doubles something"
    assert set(told.values()) == {1}, told


@pytest.mark.parametrize("phase", MOMENTS)
@pytest.mark.parametrize("service", ["planner", "executor", "readiness", "events"])
async def test_a_service_killed_in_the_middle_of_a_batch_leaves_the_release_whole(
    sandbox: Sandbox, releases: Releases, service: str, phase: str
) -> None:
    instance = f"kill-{service}-{phase.lower()}"
    name = await _begin(releases, instance)
    async with recorded(releases, instance) as history:
        # at the moment that the phase of batch 2 can be seen, or as soon after it as a poll is fast
        after = MOMENTS[MOMENTS.index(phase) :]
        await releases.batch_is(name, 2, *after, "Smoked", "Baked")
        sandbox.kill(service, signal.SIGKILL)
        await releases.finished(name, "Success", seconds=90)
    await _whole(releases, instance, history)


async def test_redis_emptied_in_the_middle_leaves_the_release_whole(
    sandbox: Sandbox, releases: Releases
) -> None:
    name = await _begin(releases, "forgetful")
    client = redis.asyncio.from_url(sandbox.redis_url)
    async with recorded(releases, "forgetful") as history:
        for number in (1, 2, 3):
            await releases.batch_is(name, number, "Smoking", "Smoked", "Baking", "Baked")
            await client.flushall()
        await releases.finished(name, "Success", seconds=90)
    await client.aclose()
    await _whole(releases, "forgetful", history)


async def test_redis_emptied_while_the_planner_is_down_leaves_the_release_whole(
    sandbox: Sandbox, releases: Releases
) -> None:
    name = await _begin(releases, "amnesia", canary=1, bakeSeconds=1)
    async with recorded(releases, "amnesia") as history:
        await releases.batch_is(name, 1, "Smoked")
        await sandbox.stop("planner")
        client = redis.asyncio.from_url(sandbox.redis_url)
        await client.flushall()
        await client.aclose()
        await releases.strategy(name, batches=2, batchSize=5)
        await sandbox.start("planner")
        await releases.finished(name, "Success", seconds=90)
    history.check(WANTED)
    assert len(await releases.endpoints("amnesia")) == WANTED
