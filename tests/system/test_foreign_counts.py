"""Somebody else scales the CloneSet in the middle of a release: the number that they write is the one it ends with."""

from __future__ import annotations

from typing import Any

import pytest

from shared.kube.client import CLONESETS
from tests.system.history import is_ready
from tests.system.releases import Releases, deployflow, until
from tests.system.whole_releases import image_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


async def _scale(releases: Releases, instance: str, count: int) -> None:
    await releases.client.patch(CLONESETS, releases.namespace, instance, {"spec": {"replicas": count}})


async def _stands_at(releases: Releases, instance: str, *, old: int, new: int) -> None:
    """Wait until so many pods of each image are there, the old ones in traffic."""

    async def stands() -> Any:
        pods = await releases.pods(instance)
        olds = [pod for pod in pods if image_of(pod) == "nginx:1"]
        live = (await releases.cloneset(instance))["spec"]["replicas"] == old + new
        return live and (len(olds), len(pods)) == (old, old + new) and all(map(is_ready, olds))

    await until(f"{old} old and {new} new pods of {instance}", stands)


async def _is_guarded(releases: Releases, instance: str) -> None:
    """Wait for the hook that keeps OpenKruise from removing pods of a batch that waits."""

    async def guarded() -> bool:
        return "preDelete" in ((await releases.cloneset(instance))["spec"].get("lifecycle") or {})

    await until(f"{instance} is guarded", guarded)


async def _canary(releases: Releases, instance: str) -> str:
    await releases.create(instance, 4)
    name = await releases.apply(
        deployflow(f"{instance}-2", instance, image="nginx:2", replicas=4, canary=1, mode="auto")
    )
    await releases.batch_is(name, 1, "Smoked")
    return name


async def test_the_count_of_somebody_else_is_taken_in_while_a_canary_waits(releases: Releases) -> None:
    """Down to what was there before the canary, up, and down again; no `next` in between."""
    name = await _canary(releases, "scaled")
    await _is_guarded(releases, "scaled")
    before = {pod["metadata"]["name"] for pod in await releases.pods("scaled")}
    for _ in range(3):
        await _scale(releases, "scaled", 4)
        await _stands_at(releases, "scaled", old=4, new=1)
    assert {pod["metadata"]["name"] for pod in await releases.pods("scaled")} == before
    await _scale(releases, "scaled", 7)
    await _stands_at(releases, "scaled", old=7, new=1)
    await _scale(releases, "scaled", 3)
    await _stands_at(releases, "scaled", old=3, new=1)
    # until the canary is made again it is not complete
    await releases.until_status(
        name,
        "waits, and says who has scaled",
        lambda s: s["reason"] == "WaitingForNext" and s["message"].endswith("scaled to 3 by somebody else"),
    )
    await releases.strategy(name, batches=99, stage=None)
    await releases.finished(name, "Success")
    pods = await releases.pods("scaled")
    assert [image_of(pod) for pod in pods] == ["nginx:2"] * 3
    spec = (await releases.cloneset("scaled"))["spec"]
    assert (spec["replicas"], spec.get("lifecycle") or {}) == (3, {})
    scaled = [e["message"] for e in await releases.events(name) if e["event"]["reason"] == "Scaled"]
    assert len(scaled) == 3


async def test_scaled_to_0_a_release_waits_and_says_so(releases: Releases) -> None:
    name = await _canary(releases, "to-0")
    await _scale(releases, "to-0", 0)
    await _stands_at(releases, "to-0", old=0, new=0)
    await releases.until_status(name, "waits", lambda s: s["reason"] == "ScaledToZero")
    await _scale(releases, "to-0", 2)
    await _stands_at(releases, "to-0", old=2, new=1)
    await releases.strategy(name, batches=99, stage=None)
    await releases.finished(name, "Success")
    assert [image_of(pod) for pod in await releases.pods("to-0")] == ["nginx:2"] * 2
