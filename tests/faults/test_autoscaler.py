"""A real HorizontalPodAutoscaler writes its count again and again while a canary waits.

It needs no metrics for that: above `maxReplicas`, and below `minReplicas`, it writes that limit.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

import pytest

from sandbox.real.cluster import AUTOSCALER_SECONDS
from shared.domain.json_types import Json
from shared.kube.client import Resource
from tests.system.history import is_ready
from tests.system.releases import Releases, deployflow, until
from tests.system.whole_releases import image_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

AUTOSCALERS = Resource("/apis/autoscaling/v2", "horizontalpodautoscalers")
INSTANCE: Final = "autoscaled"
WAIT_SECONDS: Final = int(os.environ.get("TRITON_TEST_CANARY_SECONDS", 3 * AUTOSCALER_SECONDS))
"""How long the canary waits."""


def _autoscaler(count: int) -> Json:
    return {
        "metadata": {"name": INSTANCE},
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps.kruise.io/v1alpha1",
                "kind": "CloneSet",
                "name": INSTANCE,
            },
            "minReplicas": count,
            "maxReplicas": count,
        },
    }


async def test_a_canary_that_waits_is_the_same_pod_in_the_end_and_added_pods_serve(
    releases: Releases,
) -> None:
    await releases.create(INSTANCE, 4)
    name = await releases.apply(
        deployflow("autoscaled-2", INSTANCE, image="nginx:2", replicas=4, canary=1, mode="auto")
    )
    await releases.batch_is(name, 1, "Smoked")

    async def guarded() -> bool:
        return "preDelete" in ((await releases.cloneset(INSTANCE))["spec"].get("lifecycle") or {})

    await until("the canary is guarded", guarded)
    before = {pod["metadata"]["uid"] for pod in await releases.pods(INSTANCE)}
    await releases.client.create(AUTOSCALERS, releases.namespace, _autoscaler(4))
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    writes, fewest = set(), 4
    while asyncio.get_running_loop().time() < deadline:
        cloneset, pods = await releases.cloneset(INSTANCE), await releases.pods(INSTANCE)
        if cloneset["spec"]["replicas"] == 4:
            writes.add(cloneset["metadata"]["generation"])
        fewest = min(fewest, sum(is_ready(pod) for pod in pods))
        assert before <= {pod["metadata"]["uid"] for pod in pods}
        await asyncio.sleep(0.02)
    await releases.client.patch(AUTOSCALERS, releases.namespace, INSTANCE, {"spec": _autoscaler(7)["spec"]})

    async def added_pods_serve() -> bool:
        pods = await releases.pods(INSTANCE)
        olds = [pod for pod in pods if image_of(pod) == "nginx:1"]
        return sum(map(is_ready, olds)) >= 7 and len(pods) == len(olds) + 1

    await until("added pods serve", added_pods_serve)
    assert before <= {pod["metadata"]["uid"] for pod in await releases.pods(INSTANCE)}
    assert fewest == 4
    print(f"{WAIT_SECONDS} s: the autoscaler was seen to write 4 in {len(writes)} generations")
    await releases.strategy(name, batches=99, stage=None)
    await releases.finished(name, "Success")

    async def stands() -> bool:
        pods = await releases.pods(INSTANCE)
        return [image_of(pod) for pod in pods if is_ready(pod)] == ["nginx:2"] * 7 and len(pods) == 7

    await until("the count of the autoscaler stands", stands)
    await releases.client.delete(AUTOSCALERS, releases.namespace, INSTANCE)
