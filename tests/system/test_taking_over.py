"""A company stops Triton 0.1.x and starts this one: its applications and its running releases go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.kube import client as k8s
from tests.system.history import History, recorded
from tests.system.legacy.laid import WANTED, Laid, owner_of
from tests.system.releases import NAMESPACE, Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

SERVICES = ("planner", "executor", "readiness")


@asynccontextmanager
async def away(sandbox: Sandbox) -> AsyncIterator[None]:
    """Triton is not there while something is laid out, and stays away unless that failed."""
    await asyncio.gather(*(sandbox.stop(service) for service in SERVICES))
    try:
        yield
    except BaseException:
        await back(sandbox)
        raise


async def back(sandbox: Sandbox) -> None:
    await asyncio.gather(*(sandbox.start(service) for service in SERVICES))


@asynccontextmanager
async def taken_over(sandbox: Sandbox, laid: Laid) -> AsyncIterator[History]:
    """The services start with all of it recorded; what must hold all the time is checked at the end."""
    async with recorded(laid.releases, laid.instance) as history:
        await back(sandbox)
        yield history
    history.check(laid.wanted)


def another(laid: Laid, image: str, **strategy: Any) -> Json:
    """A release made here, of the application that 0.1.x made."""
    body = deployflow(f"{laid.instance}-3", laid.instance, image=image, **strategy)
    body["spec"]["application"] |= {"appID": 12122, "groupID": 10010, "appName": "deploy-demo-hello"}
    return body


async def is_ours(laid: Laid, image: str) -> None:
    """What the application looks like once the release that 0.1.x began has ended well."""
    assert await laid.images() == [image] * laid.wanted
    assert len(await laid.releases.endpoints(laid.instance)) == laid.wanted
    cloneset = await laid.cloneset()
    assert "ownerReferences" not in cloneset["metadata"], "it would go with its DeployFlow"
    assert "apps.triton.io/hold" not in cloneset["metadata"]["annotations"]
    strategy = cloneset["spec"]["updateStrategy"]
    assert (strategy["maxSurge"], strategy["maxUnavailable"]) == ("60%", 0), "the owner's own came back"
    assert not strategy.get("paused")
    assert strategy.get("partition", 0) == 0
    assert cloneset["spec"]["replicas"] == laid.wanted


async def test_an_application_at_rest_is_released_and_what_was_finished_stays_as_it_is(
    sandbox: Sandbox, releases: Releases
) -> None:
    laid = Laid(releases, "at-rest")
    async with away(sandbox):
        first = await laid.rest()
        # the reference that 0.1.x failed to take away, and a pod that it made and never opened
        left = {"metadata": {"ownerReferences": [owner_of(first)]}, "spec": {"replicas": WANTED + 1}}
        await laid.write(left)
    await back(sandbox)
    await until("the pod that nobody opened serves", lambda: laid.serves(WANTED + 1))
    assert "ownerReferences" not in (await laid.cloneset())["metadata"]
    async with recorded(releases, "at-rest") as history:
        await releases.apply(another(laid, "nginx:2", batchSize=2))
        await releases.finished("at-rest-3", "Success")
    history.check(WANTED)
    await is_ours(laid, "nginx:2")
    after = await releases.flow("at-rest-first")
    assert (after["status"], after["metadata"].get("finalizers")) == (first["status"], None)


async def test_a_canary_at_its_gate_waits_on_without_traffic(sandbox: Sandbox, releases: Releases) -> None:
    laid = Laid(releases, "old-canary")
    async with away(sandbox):
        await laid.rest()
        flow = await laid.flow("2", canary=1)
        await laid.begin(flow, new=1)
        await laid.status(flow, "canary-smoked")
    name = flow["metadata"]["name"]
    async with taken_over(sandbox, laid):
        status = await releases.until_status(name, "waits", lambda s: s.get("reason") == "WaitingForNext")
        assert [c["phase"] for c in status["conditions"]] == ["Smoked"]
        assert (status["batches"], status["replicasToProcess"]) == (4, WANTED)
        await until("the claim is ours", lambda: _held(laid))
        assert laid.names[0] not in await releases.endpoints(laid.instance)
        await releases.strategy(name, batches=1, stage="Baking")
        await releases.batch_is(name, 1, "Baking")
        await releases.strategy(name, batches=4, stage="Baked")
        status = await releases.finished(name, "Success")
    assert [c["batchSize"] for c in status["conditions"]] == [1, 2, 2, 1]
    assert laid.names[0] in {pod["metadata"]["name"] for pod in await releases.pods(laid.instance)}
    await is_ours(laid, "nginx:2")


async def _held(laid: Laid) -> bool:
    return "apps.triton.io/hold" in ((await laid.cloneset())["metadata"].get("annotations") or {})


async def test_a_create_goes_on_from_its_canary(sandbox: Sandbox, releases: Releases) -> None:
    laid = Laid(releases, "old-create", 3)
    async with away(sandbox):
        flow = await laid.flow("1", action="create", image="nginx:1", canary=1, batchSize=1)
        await laid.create(flow, new=1)
        await laid.status(flow, "canary-smoked", batches=3, replicas=1)
    name = flow["metadata"]["name"]
    async with recorded(releases, laid.instance) as history:
        await back(sandbox)
        await releases.until_status(name, "waits", lambda s: s.get("reason") == "WaitingForNext")
        await until("the claim is ours", lambda: _held(laid))
        assert await releases.endpoints(laid.instance) == set()
        await releases.strategy(name, batches=3, stage="Baked")
        status = await releases.finished(name, "Success")
        await until("all of it serves", laid.serves)
    history.check(3, served_before=False)
    assert [c["batchSize"] for c in status["conditions"]] == [1, 1, 1]
    await is_ours(laid, "nginx:1")


async def test_a_batch_of_which_half_the_pods_run_is_taken_up(sandbox: Sandbox, releases: Releases) -> None:
    laid = Laid(releases, "old-half")
    async with away(sandbox):
        await laid.rest()
        flow = await laid.flow("2")
        await laid.begin(flow, new=1)
        await laid.more(2, ready=False)
        await laid.status(flow, "smoking")
    async with taken_over(sandbox, laid):
        status = await releases.finished(flow["metadata"]["name"], "Success")
    assert [c["batchSize"] for c in status["conditions"]] == [2, 2, 2]
    assert set(laid.names) <= {pod["metadata"]["name"] for pod in await releases.pods(laid.instance)}
    await is_ours(laid, "nginx:2")


async def test_a_batch_that_bakes_ends_and_the_rest_follows(sandbox: Sandbox, releases: Releases) -> None:
    laid = Laid(releases, "old-baking")
    async with away(sandbox):
        await laid.rest()
        flow = await laid.flow("2")
        await laid.begin(flow, new=2)
        await laid.open(*laid.names)
        await laid.status(flow, "baking")
    async with taken_over(sandbox, laid):
        status = await releases.finished(flow["metadata"]["name"], "Success")
    assert (status["finishedBatches"], status["finishedReplicas"]) == (3, WANTED)
    assert set(laid.names) <= {pod["metadata"]["name"] for pod in await releases.pods(laid.instance)}
    await is_ours(laid, "nginx:2")


async def test_between_batches_it_waits_for_the_same_go_ahead(sandbox: Sandbox, releases: Releases) -> None:
    laid = Laid(releases, "old-between")
    async with away(sandbox):
        await laid.rest()
        flow = await laid.flow("2", mode="manual")
        await laid.begin(flow, new=2)
        await laid.open(*laid.names)
        await laid.remove_old(2)
        await laid.status(flow, "second-announced")
        # one that waited behind it goes on waiting, though it is listed first
        waiting = await laid.flow("1", image="nginx:3")
        await laid.status(waiting, "pending")
    name = flow["metadata"]["name"]
    async with taken_over(sandbox, laid):
        status = await releases.until_status(name, "waits", lambda s: s.get("reason") == "WaitingForNext")
        assert (status["phase"], status["finishedBatches"], status["batches"]) == ("BatchFinished", 1, 3)
        assert await laid.images() == ["nginx:1"] * 4 + ["nginx:2"] * 2
        assert (await releases.status(waiting["metadata"]["name"]))["phase"] == "Pending"
        await releases.strategy(name, batches=3, stage="Baked")
        await releases.finished(name, "Success")
        await releases.finished(waiting["metadata"]["name"], "Success")
    await is_ours(laid, "nginx:3")


async def test_a_batch_that_0_1_x_was_stuck_in_goes_on(sandbox: Sandbox, releases: Releases) -> None:
    """The published 0.1.x removes no old pods, and then asks for the same replicas again: no pod comes."""
    laid = Laid(releases, "old-stuck")
    async with away(sandbox):
        await laid.rest()
        flow = await laid.flow("2")
        await laid.begin(flow, new=2)
        await laid.open(*laid.names)
        await laid.status(flow, "second-smoking")
    async with taken_over(sandbox, laid):
        status = await releases.finished(flow["metadata"]["name"], "Success")
    assert [c["batchSize"] for c in status["conditions"]] == [2, 2, 2]
    await is_ours(laid, "nginx:2")


async def test_a_paused_release_stays_paused_until_it_is_resumed(
    sandbox: Sandbox, releases: Releases
) -> None:
    laid = Laid(releases, "old-paused")
    async with away(sandbox):
        await laid.rest()
        flow = await laid.flow("2", paused=True)
        await laid.begin(flow, new=2)
        await laid.write({"spec": {"updateStrategy": {"paused": True}}})
        await laid.status(flow, "smoking", paused=True)
    name = flow["metadata"]["name"]
    async with taken_over(sandbox, laid):
        status = await releases.until_status(name, "says so", lambda s: s.get("reason") == "Paused")
        assert (status["phase"], status["paused"]) == ("BatchStarted", True)
        await until("the claim is ours", lambda: _held(laid))
        assert not set(laid.names) & await releases.endpoints(laid.instance)
        await releases.strategy(name, paused=False)
        await releases.finished(name, "Success")
    await is_ours(laid, "nginx:2")


async def test_a_failed_batch_is_said_and_the_next_release_takes_its_place(
    sandbox: Sandbox, releases: Releases
) -> None:
    laid = Laid(releases, "old-failed")
    async with away(sandbox):
        await laid.rest()
        flow = await laid.flow("2", image="nginx:crash")
        await laid.begin(flow, image="nginx:crash", new=2, ready=False)
        await laid.write({"spec": {"updateStrategy": {"paused": True}}})
        await laid.status(flow, "smoking", failed=2, paused=True)
    name = flow["metadata"]["name"]
    async with taken_over(sandbox, laid):
        status = await releases.until_status(name, "fails", lambda s: s.get("reason") == "SmokeFailed")
        assert status["paused"]
        assert "CrashLoopBackOff" in status["message"]
        await releases.apply(another(laid, "nginx:3", batchSize=3))
        await releases.finished(name, "Aborted")
        await releases.finished("old-failed-3", "Success")
    await is_ours(laid, "nginx:3")


async def test_a_canceled_release_ends_and_what_served_goes_on_serving(
    sandbox: Sandbox, releases: Releases
) -> None:
    laid = Laid(releases, "old-canceled")
    async with away(sandbox):
        await laid.rest()
        flow = await laid.flow("2", canary=1, canceled=True)
        await laid.begin(flow, new=1)
        await laid.status(flow, "canary-smoked")
    async with taken_over(sandbox, laid):
        await releases.finished(flow["metadata"]["name"], "Canceled")
        await until("only what served is left", lambda: _images_are(laid, ["nginx:1"] * WANTED))
    assert "ownerReferences" not in (await laid.cloneset())["metadata"]


async def _images_are(laid: Laid, images: list[str]) -> bool:
    return await laid.images() == images


async def test_what_this_version_cannot_carry_on_is_said_and_the_pods_outlive_it(
    sandbox: Sandbox, releases: Releases
) -> None:
    laid = Laid(releases, "old-restart")
    async with away(sandbox):
        await laid.rest()
        flow = await laid.flow("2", action="restart", image="nginx:1")
        await laid.begin(flow, image="nginx:1", new=WANTED + 2)
        await laid.status(flow, "smoking")
    name = flow["metadata"]["name"]
    async with taken_over(sandbox, laid):
        status = await releases.finished(name, "Failed")
        assert status["reason"] == "NotSupported"
        assert "keep serving" in status["message"]
        assert "make an update" in status["message"]
        await until("every pod serves", lambda: laid.serves(WANTED + 2))
        assert "ownerReferences" not in (await laid.cloneset())["metadata"]
        await releases.client.delete(k8s.DEPLOYFLOWS, NAMESPACE, name)
        await releases.apply(another(laid, "nginx:3", batchSize=3))
        await releases.finished("old-restart-3", "Success")
    await is_ours(laid, "nginx:3")
