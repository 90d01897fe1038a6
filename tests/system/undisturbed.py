"""An update of six pods in three batches, and all that shows that it went as if nothing had happened meanwhile."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from tests.system.history import History, is_ready
from tests.system.releases import Releases, deployflow

WANTED: Final = 6


async def begin(releases: Releases, instance: str, **strategy: Any) -> str:
    """An instance that runs, and the update of it, just begun."""
    await releases.create(instance, WANTED)
    slow = {"sandbox.triton.io/start-seconds": "0.3-1.0"}
    body = deployflow(f"{instance}-2", instance, image="nginx:2", batchSize=2, annotations=slow, **strategy)
    return await releases.apply(body)


async def whole(releases: Releases, instance: str, history: History, *, endpoints: bool = True) -> None:
    """What holds at the end is what holds after an undisturbed release."""
    history.check(WANTED, endpoints=endpoints)
    name = f"{instance}-2"
    status = await releases.status(name)
    assert [c["phase"] for c in status["conditions"]] == ["Baked"] * 3
    assert status["finishedReplicas"] == WANTED
    pods = await releases.pods(instance)
    assert len(pods) == WANTED
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"nginx:2"}
    assert all(is_ready(pod) for pod in pods)
    if endpoints:
        await releases.serves(instance, WANTED)
    cloneset = await releases.cloneset(instance)
    assert not cloneset["spec"]["updateStrategy"].get("paused")
    assert "apps.triton.io/hold" not in cloneset["metadata"]["annotations"]
    logged = Counter(
        (event["triton"].get("batch", 0), event["event"]["reason"])
        for event in await releases.events(name)
        if event["event"]["reason"]
        in {"BatchStarted", "BatchSmoked", "BatchBaked", "BatchFinished", "Success"}
    )
    expected = {
        (n, r) for n in (1, 2, 3) for r in ("BatchStarted", "BatchSmoked", "BatchBaked", "BatchFinished")
    }
    assert set(logged) == expected | {(0, "Success")}, "the log lacks or doubles something"
    assert set(logged.values()) == {1}, logged
