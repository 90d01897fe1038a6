"""An old pod that may not be deleted: it is named, its batch is not finished, and the next one does not fail for it."""

from __future__ import annotations

import pytest

from shared.kube.client import PODS
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

INSTANCE = "held"
FINALIZER = "tests.example.com/keep"


async def test_a_batch_is_finished_when_the_pod_that_a_finalizer_holds_is_gone(releases: Releases) -> None:
    await releases.create(INSTANCE, 2)
    names = sorted(pod["metadata"]["name"] for pod in await releases.pods(INSTANCE))
    for name in names:
        body = {"metadata": {"finalizers": [FINALIZER]}}
        await releases.client.patch(PODS, releases.namespace, name, body)
    await releases.apply(deployflow("held-2", INSTANCE, image="nginx:2", replicas=2, batchSize=1))
    status = await releases.until_status("held-2", "it waits", lambda s: s.get("reason") == "OldPodsHeld")
    assert f"(held by finalizer {FINALIZER})" in status["message"]
    assert status["finishedBatches"] == 0
    assert all(condition["failedReplicas"] == 0 for condition in status["conditions"])
    for name in names:
        await _set_free(releases, name)
    status = await releases.finished("held-2", "Success")
    assert status["finishedBatches"] == 2


async def _set_free(releases: Releases, name: str) -> None:
    body = {"metadata": {"finalizers": None}}
    await releases.client.patch(PODS, releases.namespace, name, body)
