"""Somebody deletes a pod in the middle of a release, as a drained node does."""

from __future__ import annotations

import pytest

from sandbox.environment import Sandbox
from shared.kube import client as k8s
from tests.faults.disturbed import disturbed
from tests.system.history import is_ready
from tests.system.releases import NAMESPACE, Releases, until
from tests.system.undisturbed import WANTED

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

SURGE = 2
"""Of each batch: one pod less still leaves as many as are wanted."""


async def test_a_release_goes_on_after_a_pod_of_its_batch_was_deleted(
    sandbox: Sandbox, releases: Releases
) -> None:
    async def surged() -> list[str]:
        """The pods of both revisions, the new ones last, once all of them are Ready."""
        pods = [pod for pod in await releases.pods("deleted") if is_ready(pod)]
        pods.sort(key=lambda pod: str(pod["spec"]["containers"][0]["image"]))
        return [pod["metadata"]["name"] for pod in pods] if len(pods) == WANTED + SURGE else []

    async with disturbed(sandbox, releases, "deleted", "Baking", bakeSeconds=3):
        pods = await until("the batch serves beside the old pods", surged)
        await releases.client.delete(k8s.PODS, NAMESPACE, pods[-1])
