"""Releases of no pod, of one, of more than there are; of what is sick already, and of what is drained meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.event_store import open_store
from shared.event_store.interface import Query, Stream
from shared.kube import client as k8s
from shared.releases import history as past
from shared.settings import Settings
from tests.system.by_hand import BY_HAND, Do, by_hand, crashed, report
from tests.system.history import is_ready, recorded
from tests.system.matrix import TALLY
from tests.system.releases import Releases, deployflow, until
from tests.system.whole_releases import INSTANCE, SOON, stands

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    """In a namespace of each test's own, with a Service there."""
    async with Releases(sandbox, f"odd-{next(_numbers)}") as client:
        await client.make_namespace()
        await client.service(INSTANCE)
        yield client


def release(name: str, *, annotations: Json = SOON, **fields: Any) -> Json:
    return deployflow(name, INSTANCE, annotations=annotations, **fields)


async def create(releases: Releases, replicas: int, annotations: Json = SOON) -> None:
    await releases.apply(release("first", action="create", replicas=replicas, annotations=annotations))
    await releases.finished("first", "Success")
    await stands(releases, replicas)


# --- odd counts ---


async def test_a_release_of_no_pod_ends_well_and_what_is_scaled_out_then_has_its_template(
    releases: Releases,
) -> None:
    await create(releases, 0)
    assert (await releases.cloneset(INSTANCE))["spec"]["replicas"] == 0
    await releases.apply(release("second", replicas=0, image="nginx:2", batchSize=2, canary=1))
    status = await releases.finished("second", "Success")
    assert (status["replicasToProcess"], status["batches"], status["conditions"]) == (0, 0, [])
    body = release("out", action="scale_out", replicas=1)
    body["spec"]["nonUpdateStrategy"] = body["spec"].pop("updateStrategy")
    del body["spec"]["application"]["template"]
    await releases.apply(body)
    await releases.finished("out", "Success")
    await stands(releases, 1, image="nginx:2")


async def test_the_one_pod_of_an_instance_goes_only_when_its_successor_serves(releases: Releases) -> None:
    await create(releases, 1)
    async with recorded(releases, INSTANCE) as history:
        await releases.apply(release("second", replicas=1, image="nginx:2", batchSize=1))
        status = await releases.finished("second", "Success")
        await stands(releases, 1, image="nginx:2")
    history.check(1)
    assert [c["batchSize"] for c in status["conditions"]] == [1]


async def test_a_batch_size_above_the_replicas_is_one_batch_of_all(releases: Releases) -> None:
    await create(releases, 2)
    async with recorded(releases, INSTANCE) as history:
        await releases.apply(release("second", replicas=2, image="nginx:2", batchSize=50))
        status = await releases.finished("second", "Success")
        await stands(releases, 2, image="nginx:2")
    history.check(2)
    assert [c["batchSize"] for c in status["conditions"]] == [2]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_canary_of_all_pods_waits_without_traffic(releases: Releases, count: int) -> None:
    await create(releases, count)
    old = {pod["metadata"]["name"] for pod in await releases.pods(INSTANCE)}
    await releases.apply(release("second", replicas=count, image="nginx:2", canary=count))
    status = await releases.batch_is("second", 1, "Smoked")
    assert (status["reason"], status["batches"]) == ("WaitingForNext", 1)
    (batch,) = status["conditions"]
    assert (batch["batchSize"], batch["canary"]) == (count, True)
    canaries = {pod["name"] for pod in batch["pods"]}
    assert len(canaries) == count
    assert not [pod for pod in await releases.pods(INSTANCE) if _is_open(pod, canaries)]
    assert await releases.endpoints(INSTANCE) == old
    await releases.strategy("second", stage="Baking")
    await releases.batch_is("second", 1, "Baking")
    await releases.serves(INSTANCE, 2 * count)
    await releases.strategy("second", stage="Baked")
    await releases.finished("second", "Success")
    await stands(releases, count, image="nginx:2")


def _is_open(pod: Json, names: set[str]) -> bool:
    return pod["metadata"]["name"] in names and is_ready(pod)


# --- sick old pods ---


@pytest.mark.parametrize("sick", [1, 3])
async def test_a_release_to_a_good_image_heals_an_application_whose_pods_crash(
    releases: Releases, sick: int
) -> None:
    await create(releases, 3)
    for pod in (await releases.pods(INSTANCE))[:sick]:
        await report(releases, pod, crashed(pod))
    await releases.serves(INSTANCE, 3 - sick)
    async with recorded(releases, INSTANCE) as history:
        await releases.apply(release("second", replicas=3, image="nginx:2", batchSize=2))
        status = await releases.finished("second", "Success")
        await stands(releases, 3, image="nginx:2")
    history.check(3 - sick)
    assert status["failedReplicas"] == 0


# --- pods that go in the middle of a release, and that come outside of any ---


@pytest.mark.parametrize(
    ("phase", "strategy"),
    [("Smoking", {}), ("Baking", {"bakeSeconds": 3}), ("BatchFinished", {"mode": "manual"})],
    ids=["Smoking", "Baking", "BatchFinished"],
)
async def test_pods_that_a_drain_takes_in_the_middle_of_a_release_are_replaced_and_it_goes_on(
    releases: Releases, phase: str, strategy: Json
) -> None:
    held = phase == "Smoking"
    notes = BY_HAND if held else SOON
    async with by_hand(releases) as hand:
        await create(releases, 4, notes)
        before = {pod["metadata"]["name"] for pod in await releases.pods(INSTANCE)}
        if held:
            await hand.shall(Do.WAIT)
        body = release("second", replicas=4, image="nginx:2", batchSize=2, annotations=notes, **strategy)
        await releases.apply(body)

        async def fresh() -> list[str]:
            names = {pod["metadata"]["name"] for pod in await releases.pods(INSTANCE)}
            return sorted(names - before) if len(names - before) == 2 else []

        made = await until("two pods are made", fresh)
        if phase == "BatchFinished":
            await releases.until_status("second", phase, lambda s: s.get("reason") == "WaitingForNext")
            await stands(releases, 4)
        else:
            await releases.batch_is("second", 1, phase)
        old = sorted(before & {pod["metadata"]["name"] for pod in await releases.pods(INSTANCE)})
        drained = {made[0], old[0]}
        for name in drained:
            await releases.client.delete(k8s.PODS, releases.namespace, name)

        async def replaced() -> bool:
            names = {pod["metadata"]["name"] for pod in await releases.pods(INSTANCE)}
            return not drained & names and len(names) == (4 if phase == "BatchFinished" else 6)

        await until("the drained pods are replaced", replaced)
        await hand.shall(Do.START)
        if phase == "BatchFinished":
            await stands(releases, 4)
            await releases.strategy("second", batches=2)
        status = await releases.finished("second", "Success")
        assert status["failedReplicas"] == 0
        await stands(releases, 4, image="nginx:2")


@pytest.mark.parametrize("cause", ["a pod is deleted", "somebody scales"])
async def test_a_pod_that_comes_outside_any_release_gets_its_traffic_and_the_log_says_so(
    sandbox: Sandbox, releases: Releases, cause: str
) -> None:
    await create(releases, 2)
    before = {pod["metadata"]["uid"] for pod in await releases.pods(INSTANCE)}
    if cause == "somebody scales":
        body = {"spec": {"replicas": 3}}
        await releases.client.patch(k8s.CLONESETS, releases.namespace, INSTANCE, body)
        await stands(releases, 3)
    else:
        victim = (await releases.pods(INSTANCE))[0]["metadata"]["name"]
        await releases.client.delete(k8s.PODS, releases.namespace, victim)
        await until("it is going", lambda: _is_gone(releases, victim))
        await stands(releases, 2)
    (new,) = [p for p in await releases.pods(INSTANCE) if p["metadata"]["uid"] not in before]
    store = open_store(Settings(event_store=sandbox.event_store))
    query = Query(streams=[Stream.POD], namespace=releases.namespace, instance=INSTANCE)

    async def log_entries() -> list[str]:
        found = [event for event in await store.search(query) if event["event"].get("reason") == "Unclaimed"]
        return [event["orchestrator"]["resource"]["name"] for event in found]

    try:
        assert await until("the log says that nobody claims it", log_entries) == [new["metadata"]["name"]]
    finally:
        await store.close()


async def _is_gone(releases: Releases, name: str) -> bool:
    return name not in {pod["metadata"]["name"] for pod in await releases.pods(INSTANCE)}


# --- how soon ---


async def test_a_crash_report_stops_the_release_at_once_and_a_rollback_is_the_way_back(
    releases: Releases,
) -> None:
    await create(releases, 6)
    before = {pod["metadata"]["name"] for pod in await releases.pods(INSTANCE)}
    async with recorded(releases, INSTANCE) as history:
        crash = asyncio.create_task(_arrives(releases, k8s.PODS, _says_crash))
        stop = asyncio.create_task(_arrives(releases, k8s.DEPLOYFLOWS, _says_smoke_failed))
        await releases.apply(release("second", image="nginx:crash", batchSize=3))
        took = -(await crash) + await stop
        await releases.until_status("second", "all of them are counted", lambda s: s["failedReplicas"] == 3)
        assert {p["metadata"]["name"] for p in await releases.pods(INSTANCE) if is_ready(p)} == before
        base = await releases.flow("first")
        back = release("back")
        back["spec"] = past.rollback(base, 6).model_dump(mode="json", exclude_none=True)
        await releases.apply(back)
        await releases.finished("second", "Aborted")
        await releases.finished("back", "Success")
        await stands(releases, 6, image="nginx:1")
    history.check(6)
    assert {pod["metadata"]["name"] for pod in await releases.pods(INSTANCE)} == before
    TALLY.measured.append(
        f"{took * 1000:.0f} ms from the first pod's crash report to the release's SmokeFailed"
    )
    assert took < 10


async def _arrives(releases: Releases, resource: k8s.Resource, holds: Callable[[Json], bool]) -> float:
    """Return when a watch of the resource reports an object for which that holds, on this process's clock."""
    query = {"resourceVersion": "0"}
    async for line in releases.client.watch(resource, releases.namespace, query, silence_seconds=60):
        event = json.loads(line)
        if event["type"] in {"ADDED", "MODIFIED"} and holds(event["object"]):
            return time.monotonic()
    raise AssertionError(f"the watch of {resource.plural} ended before")


def _says_crash(pod: Json) -> bool:
    states = [c["state"] for c in pod["status"].get("containerStatuses") or []]
    return any((state.get("waiting") or {}).get("reason") == "CrashLoopBackOff" for state in states)


def _says_smoke_failed(flow: Json) -> bool:
    conditions = (flow.get("status") or {}).get("conditions") or []
    return flow["metadata"]["name"] == "second" and any(c["phase"] == "SmokeFailed" for c in conditions)
