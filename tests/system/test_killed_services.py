"""Each service dies in the middle of a release, Redis forgets everything: the release finishes all the same."""

from __future__ import annotations

import signal

import pytest
import redis.asyncio

from sandbox.environment import Sandbox
from shared.kube import client as k8s
from tests.system.history import recorded
from tests.system.releases import Releases, deployflow, until
from tests.system.undisturbed import WANTED, begin, whole

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

MOMENTS = ["Smoking", "Baking", "Baked"]


@pytest.mark.parametrize("phase", MOMENTS)
@pytest.mark.parametrize("service", ["planner", "executor", "readiness", "events"])
async def test_a_service_killed_in_the_middle_of_a_batch_leaves_the_release_whole(
    sandbox: Sandbox, releases: Releases, service: str, phase: str
) -> None:
    instance = f"kill-{service}-{phase.lower()}"
    name = await begin(releases, instance)
    async with recorded(releases, instance) as history:
        # at the moment that the phase of batch 2 can be seen, or as soon after it as a poll is fast
        after = MOMENTS[MOMENTS.index(phase) :]
        await releases.batch_is(name, 2, *after, "Smoked", "Baked")
        sandbox.kill(service, signal.SIGKILL)
        await releases.finished(name, "Success", seconds=90)
    await whole(releases, instance, history)


async def test_redis_emptied_in_the_middle_leaves_the_release_whole(
    sandbox: Sandbox, releases: Releases
) -> None:
    name = await begin(releases, "forgetful")
    client = redis.asyncio.from_url(sandbox.redis_url)
    async with recorded(releases, "forgetful") as history:
        for number in (1, 2, 3):
            await releases.batch_is(name, number, "Smoking", "Smoked", "Baking", "Baked")
            await client.flushall()
        await releases.finished(name, "Success", seconds=90)
    await client.aclose()
    await whole(releases, "forgetful", history)


async def test_redis_emptied_while_the_planner_is_down_leaves_the_release_whole(
    sandbox: Sandbox, releases: Releases
) -> None:
    name = await begin(releases, "amnesia", canary=1, bakeSeconds=1)
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
    await releases.serves("amnesia", WANTED)


async def test_a_stop_ends_whose_pods_all_went_while_no_readiness_ran(
    sandbox: Sandbox, releases: Releases
) -> None:
    await releases.create("unseen", 2)
    await sandbox.stop("readiness")
    try:
        body = deployflow("unseen-stop", "unseen", action="stop", replicas=0)
        body["spec"]["nonUpdateStrategy"] = body["spec"].pop("updateStrategy")
        del body["spec"]["application"]["template"]
        await releases.apply(body)

        async def are_gone() -> bool:
            labels = "app.kubernetes.io/instance=unseen"
            return not await releases.client.list(k8s.PODS, releases.namespace, labels=labels)

        await until("its pods are gone", are_gone)
    finally:
        await sandbox.start("readiness")
    await releases.finished("unseen-stop", "Success")
