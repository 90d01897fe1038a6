"""Releases of what is large: pod templates beyond the limit of annotations."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

INSTANCE = "large"
SOON = {"sandbox.triton.io/start-seconds": "0.05-0.1", "sandbox.triton.io/stop-seconds": "0.05-0.1"}
_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    """In a namespace of each test's own."""
    async with Releases(sandbox, f"sizes-{next(_numbers)}") as client:
        await client.make_namespace()
        yield client


def release(name: str, image: str, *, action: str = "update", **strategy: object) -> Json:
    """Return a release of two pods with a template of 300 KiB that no compression makes small."""
    body = deployflow(name, INSTANCE, action=action, image=image, replicas=2, annotations=SOON, **strategy)
    text = random.Random(7).randbytes(150 << 10).hex()
    container = body["spec"]["application"]["template"]["spec"]["containers"][0]
    container["env"] = [
        {"name": f"PART_{at}", "value": text[at : at + 100_000]} for at in range(0, len(text), 100_000)
    ]
    return body


async def test_a_template_of_300_kib_is_updated_canceled_and_rolled_back(releases: Releases) -> None:
    await releases.apply(release("first", "nginx:1", action="create"))
    await releases.finished("first", "Success")
    first = (await releases.cloneset(INSTANCE))["status"]["updateRevision"]

    await releases.apply(release("canceled", "nginx:2", canary=1))
    await releases.batch_is("canceled", 1, "Smoked")
    await releases.strategy("canceled", canceled=True)
    await releases.finished("canceled", "Canceled")
    cloneset = await releases.cloneset(INSTANCE)
    assert cloneset["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1"

    await releases.apply(release("second", "nginx:2"))
    status = await releases.finished("second", "Success")
    assert status["updateRevision"] != first

    await releases.apply(release("back", "nginx:1", action="rollback"))
    status = await releases.finished("back", "Success")
    assert (status["updateRevision"], status["updatedReadyReplicas"]) == (first, 2)
    annotations = (await releases.cloneset(INSTANCE))["metadata"]["annotations"]
    assert not [name for name in annotations if name.startswith("apps.triton.io/stable-")]
