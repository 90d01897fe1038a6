"""Somebody changes, evicts or opens a pod of a batch that waits: it gets no traffic, and the release ends well."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.kube.client import PODS, STRATEGIC
from tests.system.history import GATE, is_ready
from tests.system.releases import Releases, deployflow, until
from tests.system.whole_releases import INSTANCE, SOON

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

LABEL = "app.kubernetes.io/instance"
_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    """In a namespace of each test's own."""
    async with Releases(sandbox, f"edited-{next(_numbers)}") as client:
        await client.make_namespace()
        yield client


async def _canary(releases: Releases) -> str:
    """Begin a release, and return the name of its canary, which waits without traffic."""
    await releases.create(INSTANCE, 3)
    await releases.apply(deployflow("new", INSTANCE, image="nginx:2", replicas=3, canary=1, annotations=SOON))
    status = await releases.until_status("new", "waits", lambda s: s.get("reason") == "WaitingForNext")
    (pod,) = status["conditions"][0]["pods"]
    name: str = pod["name"]
    return name


async def _finishes(releases: Releases) -> None:
    await releases.strategy("new", batches=9, stage=None)
    status = await releases.finished("new", "Success")
    await releases.serves(INSTANCE, 3)
    serving = await releases.endpoints(INSTANCE)
    pods = [pod for pod in await releases.pods(INSTANCE) if pod["metadata"]["name"] in serving]
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"nginx:2"}
    assert (status["replicas"], status["updatedReplicas"], status["failedReplicas"]) == (3, 3, 0)


@pytest.mark.parametrize(
    "how", ["its instance label is taken off", "its label managed-by is taken off", "it is evicted"]
)
async def test_a_canary_that_leaves_the_instance_is_replaced_and_gets_no_traffic(
    releases: Releases, how: str
) -> None:
    name = await _canary(releases)
    if how == "it is evicted":
        body: Json = {"status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}}
        await releases.client.patch(
            PODS, releases.namespace, name, body, subresource="status", content_type=STRATEGIC
        )
    else:
        label = LABEL if "instance" in how else "managed-by"
        body = {"metadata": {"labels": {label: None}}}
        await releases.client.patch(PODS, releases.namespace, name, body)

    def is_replaced(status: Json) -> bool:
        pods = status["conditions"][0]["pods"]
        return len(pods) == 1 and pods[0]["name"] != name and pods[0]["phase"] == "ContainersReady"

    status = await releases.until_status("new", "another pod takes its place", is_replaced)
    assert (status["conditions"][0]["phase"], status["reason"]) == ("Smoked", "WaitingForNext")
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (4, 1, 3)
    left = await releases.client.get(PODS, releases.namespace, name)
    assert not is_ready(left), "nobody has approved it"
    await _finishes(releases)
    assert not is_ready(await releases.client.get(PODS, releases.namespace, name))


async def test_a_gate_that_somebody_else_opens_is_closed_until_the_release_opens_it(
    releases: Releases,
) -> None:
    name = await _canary(releases)
    body = {"status": {"conditions": [{"type": GATE, "status": "True"}]}}
    await releases.client.patch(
        PODS, releases.namespace, name, body, subresource="status", content_type=STRATEGIC
    )

    async def is_closed() -> bool:
        pod = await releases.client.get(PODS, releases.namespace, name)
        found = {c["type"]: c for c in pod["status"]["conditions"]}
        return bool(found[GATE]["status"] == "False" and found["Ready"]["status"] == "False")

    await until("its gate is closed again", is_closed)
    await releases.serves(INSTANCE, 3)
    assert (await releases.status("new"))["reason"] == "WaitingForNext"
    await _finishes(releases)
