"""A CloneSet that Triton did not make is adopted: from then on it is released like any other, and loses no pod."""

from __future__ import annotations

import pytest

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.kube import client as k8s
from tests.system.history import is_ready, recorded
from tests.system.plain import lay_out, pods_of, release
from tests.system.programs import printed
from tests.system.releases import Releases, until
from triton_client import AsyncTriton

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

STRATEGY = {"type": "InPlaceIfPossible", "maxUnavailable": "20%", "partition": 0}
"""As its owner has it, and has it again after the release."""


async def _request_adoption(releases: Releases, name: str) -> None:
    body: Json = {"metadata": {"annotations": {"apps.triton.io/adopt": "true"}}}
    await releases.client.patch(k8s.CLONESETS, releases.namespace, name, body)


async def _template(releases: Releases, name: str) -> Json:
    """The template without the empty time that a real API server has put there."""
    template: Json = (await releases.cloneset(name))["spec"]["template"]
    labels_and_annotations = {k: v for k, v in template["metadata"].items() if k != "creationTimestamp"}
    return {**template, "metadata": labels_and_annotations}


def _images(pods: list[Json]) -> list[str]:
    return sorted(pod["spec"]["containers"][0]["image"] for pod in pods)


def _gated(pods: list[Json]) -> set[bool]:
    gate = {"conditionType": "apps.triton.io/ready"}
    return {gate in (pod["spec"].get("readinessGates") or []) for pod in pods}


async def test_from_a_plain_cloneset_to_a_canary_release_without_a_pod_lost(releases: Releases) -> None:
    await lay_out(releases, "adopted", 3, updateStrategy=STRATEGY)
    before = {pod["metadata"]["uid"] for pod in await pods_of(releases, "adopted")}
    async with recorded(releases, "adopted") as history:
        await _request_adoption(releases, "adopted")
        await releases.apply(release("adopted-2", "adopted", "update", 3, canary=1, batchSize=1))
        status = await releases.batch_is("adopted-2", 1, "Smoked")
        assert (status["replicas"], status["availableReplicas"], status["batches"]) == (4, 3, 3)
        pods = await pods_of(releases, "adopted")
        canary = next(pod for pod in pods if pod["metadata"]["uid"] not in before)
        assert not is_ready(canary), "the canary waits behind its gate"
        assert _gated([canary]) == {True}
        assert {pod["metadata"]["uid"] for pod in pods if is_ready(pod)} == before, (
            "the old pods serve without a gate"
        )
        assert canary["metadata"]["name"] not in await releases.endpoints("adopted")
        await releases.strategy("adopted-2", batches=1, stage="Baking")
        await releases.batch_is("adopted-2", 1, "Baking")
        await releases.serves("adopted", 4)
        await releases.strategy("adopted-2", batches=3, stage="Baked")
        status = await releases.finished("adopted-2", "Success")
    assert min(history.serving()) >= 3, "never fewer pods with traffic than wanted"
    assert canary["metadata"]["uid"] not in history.pods_gone()
    pods = await pods_of(releases, "adopted")
    assert (_images(pods), _gated(pods)) == (["nginx:2"] * 3, {True})
    cloneset = await releases.cloneset("adopted")
    strategy = cloneset["spec"]["updateStrategy"]
    assert {key: strategy.get(key) for key in STRATEGY} == STRATEGY
    assert not strategy.get("paused")
    assert cloneset["metadata"]["labels"]["app"] == "adopted", "the owner's labels stay"
    # a second release is one like any other
    async with recorded(releases, "adopted") as history:
        await releases.apply(release("adopted-3", "adopted", "restart", 3))
        await releases.finished("adopted-3", "Success")
    history.check(3)


async def test_a_canceled_first_release_leaves_the_plain_pods_as_they_were(releases: Releases) -> None:
    await lay_out(releases, "hesitant", 2)
    before = {pod["metadata"]["uid"] for pod in await pods_of(releases, "hesitant")}
    template = await _template(releases, "hesitant")
    await _request_adoption(releases, "hesitant")
    await releases.apply(release("hesitant-2", "hesitant", "update", 2, canary=1))
    await releases.batch_is("hesitant-2", 1, "Smoked")
    await releases.strategy("hesitant-2", canceled=True)
    await releases.finished("hesitant-2", "Canceled")
    await releases.serves("hesitant", 2)
    assert {pod["metadata"]["uid"] for pod in await pods_of(releases, "hesitant")} == before
    assert await _template(releases, "hesitant") == template


async def test_other_actions_work_before_the_first_update(releases: Releases) -> None:
    await lay_out(releases, "various", 2)
    await _request_adoption(releases, "various")
    for action, replicas, pods in [
        ("scale_out", 3, 3),
        ("restart", 3, 3),
        ("scale_in", 2, 2),
        ("stop", 2, 0),
        ("start", 2, 2),
    ]:
        name = f"various-{action.replace('_', '-')}"
        await releases.apply(release(name, "various", action, replicas, batchSize=1, batches=9))
        await releases.finished(name, "Success")
        await releases.serves("various", pods)
    assert _images(await pods_of(releases, "various")) == ["nginx:1"] * 2


async def test_a_lost_old_pod_is_replaced_and_found_while_the_canary_waits(releases: Releases) -> None:
    await lay_out(releases, "evicted", 2)
    await _request_adoption(releases, "evicted")
    await releases.apply(release("evicted-2", "evicted", "update", 2, canary=1))
    await releases.batch_is("evicted-2", 1, "Smoked")
    old = next(pod for pod in await pods_of(releases, "evicted") if is_ready(pod))
    await releases.client.delete(k8s.PODS, releases.namespace, old["metadata"]["name"])

    async def replaced() -> bool:
        pods = [pod for pod in await pods_of(releases, "evicted") if is_ready(pod)]
        names = {pod["metadata"]["name"] for pod in pods}
        return len(names - {old["metadata"]["name"]}) == 2 and all(
            pod["metadata"]["labels"].get("app.kubernetes.io/instance") == "evicted" for pod in pods
        )

    await until("the new pod of the old template serves and has its labels", replaced)
    await releases.strategy("evicted-2", batches=2, stage="Baked")
    await releases.finished("evicted-2", "Success")
    assert _images(await pods_of(releases, "evicted")) == ["nginx:2"] * 2


async def test_what_cannot_be_adopted_is_left_alone_and_named(releases: Releases) -> None:
    await lay_out(releases, "limited", 2, scaleStrategy={"maxUnavailable": 1})
    before = (await releases.cloneset("limited"))["metadata"]["generation"]
    await _request_adoption(releases, "limited")
    await releases.apply(release("limited-2", "limited", "update", 2))
    status = await releases.finished("limited-2", "Failed")
    assert status["reason"] == "NotOurs"
    assert "can't be adopted: spec.scaleStrategy.maxUnavailable" in status["message"]
    cloneset = await releases.cloneset("limited")
    assert (cloneset["metadata"]["generation"], cloneset["metadata"]["labels"]) == (
        before,
        {"app": "limited"},
    )


async def test_a_cloneset_is_adopted_by_rest_and_is_an_instance_at_once(
    sandbox: Sandbox, releases: Releases
) -> None:
    await lay_out(releases, "by-rest", 2)
    async with AsyncTriton(sandbox.rest_urls["planner"], requested_by="ann") as triton:
        adopted = await triton.adopt("by-rest", app_id=7, group_id=8, app_name="shop")
        assert (adopted.name, adopted.app_id, adopted.replicas) == ("by-rest", 7, 2)

        async def pods_are_known() -> bool:
            return len([pod for pod in await triton.pods("by-rest") if pod.in_traffic]) == 2

        await until("its pods are known before any release", pods_are_known)
    await releases.apply(release("by-rest-2", "by-rest", "update", 2))
    await releases.finished("by-rest-2", "Success")
    annotations = (await releases.cloneset("by-rest"))["metadata"]["annotations"]
    assert annotations["apps.triton.io/adopted-by"] == "ann"


async def test_a_cloneset_is_adopted_by_the_command_line(sandbox: Sandbox, releases: Releases) -> None:
    await lay_out(releases, "by-command", 2)
    identity = ("--app-id", "7", "--group-id", "8", "--app-name", "shop")
    said = await printed("adopt", "by-command", *identity, environment=sandbox.environment)
    assert said.strip() == "cloneset.apps.kruise.io/by-command adopted"
    update = await printed("update", "by-command", "--image", "nginx:2", environment=sandbox.environment)
    await releases.finished(update.split()[-1], "Success")
    await releases.serves("by-command", 2)
    pods = await pods_of(releases, "by-command")
    assert _images(pods) == ["nginx:2"] * 2, "found by the owner's label, which the update has kept"
