"""Old pods with connections: out of traffic they stay until they say that none are left, or the maximum is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.kube import client as k8s
from tests.system.application import Application
from tests.system.history import GATE
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

DRAINED = "apps.triton.io/drained"


@pytest_asyncio.fixture(loop_scope="session")
async def application() -> AsyncIterator[Application]:
    async with Application(connections=2) as application:
        yield application


def conditions(pod: Json) -> dict[str, tuple[str, str]]:
    """Status and reason of each."""
    return {c["type"]: (c["status"], c.get("reason", "")) for c in pod["status"].get("conditions", [])}


async def runs(
    releases: Releases, application: Application, instance: str, replicas: int, **annotations: str
) -> set[str]:
    """Create an instance whose pods report their connections; return their uids."""
    first = deployflow(f"{instance}-1", instance, action="create", replicas=replicas)
    await releases.apply(application.in_pods(first, drain_path="/connections", **annotations))
    await releases.finished(f"{instance}-1", "Success")
    return {pod["metadata"]["uid"] for pod in await releases.pods(instance)}


async def old(releases: Releases, instance: str, uids: set[str]) -> list[Json]:
    return [pod for pod in await releases.pods(instance) if pod["metadata"]["uid"] in uids]


async def out_of_traffic(releases: Releases, instance: str, uids: set[str], count: int) -> list[Json]:
    """So many old pods with a closed gate, once there are."""

    async def found() -> list[Json]:
        pods = [p for p in await old(releases, instance, uids) if conditions(p)[GATE][0] == "False"]
        return pods if len(pods) == count else []

    pods: list[Json] = await until(f"{count} old pods are out of traffic", found)
    return pods


async def test_old_pods_stay_until_they_have_no_connections(
    releases: Releases, application: Application
) -> None:
    uids = await runs(releases, application, "drained", 3)
    await releases.apply(deployflow("drained-2", "drained", image="nginx:2", replicas=3, batchSize=2))
    status = await releases.until_status("drained-2", "draining", lambda s: s.get("reason") == "Draining")
    assert status["message"].startswith("2 of 2 pods that batch 1 replaces have connections left")
    pods = await out_of_traffic(releases, "drained", uids, 2)
    assert {conditions(pod)[DRAINED][0] for pod in pods} == {"False"}

    await until("they are queried again and again", lambda: application.requests_to("/connections") > 6)
    assert len(await old(releases, "drained", uids)) == 3
    application.connections = 0
    await releases.finished("drained-2", "Success")
    assert not await old(releases, "drained", uids)


async def test_the_maximum_ends_it(releases: Releases, application: Application) -> None:
    application.connections = None
    uids = await runs(releases, application, "endless", 1, drain_max_seconds="3")
    await releases.apply(deployflow("endless-2", "endless", image="nginx:2", replicas=1))
    await out_of_traffic(releases, "endless", uids, 1)

    async def said() -> Any:
        seen = [conditions(pod)[DRAINED] for pod in await old(releases, "endless", uids)]
        return "gone" if not seen else seen[0] if seen[0][0] == "True" else None

    assert await until("it may go", said) in {("True", "MaximumReached"), "gone"}
    await releases.finished("endless-2", "Success")
    assert application.requests_to("/connections")


async def test_connections_are_queried_after_the_pull_out_wait(
    releases: Releases, application: Application
) -> None:
    application.connections = 0
    uids = await runs(releases, application, "waited", 1)
    await releases.apply(deployflow("waited-2", "waited", image="nginx:2", replicas=1, pullOutSeconds=3))
    (pod,) = await out_of_traffic(releases, "waited", uids, 1)
    assert conditions(pod)[DRAINED][0] == "False"
    (closed,) = (c["lastTransitionTime"] for c in pod["status"]["conditions"] if c["type"] == GATE)
    await releases.finished("waited-2", "Success")
    first, *_ = (request.at for request in application.requests if request.path == "/connections")
    assert first - datetime.fromisoformat(closed).timestamp() >= 3


async def test_a_cancel_waits_for_no_connections(releases: Releases, application: Application) -> None:
    uids = await runs(releases, application, "canceled", 2)
    await releases.apply(deployflow("canceled-2", "canceled", image="nginx:2", replicas=2, batchSize=1))
    await out_of_traffic(releases, "canceled", uids, 1)
    await releases.strategy("canceled-2", canceled=True)
    await releases.finished("canceled-2", "Canceled")
    assert len(await old(releases, "canceled", uids)) == 1
    assert len(await releases.pods("canceled")) == 2


async def test_readiness_goes_on_asking_after_it_was_killed(
    sandbox: Sandbox, releases: Releases, application: Application
) -> None:
    uids = await runs(releases, application, "queried", 1)
    await releases.apply(deployflow("queried-2", "queried", image="nginx:2", replicas=1))
    await out_of_traffic(releases, "queried", uids, 1)
    await until("it is queried", lambda: application.requests_to("/connections"))
    sandbox.kill("readiness")
    before = application.requests_to("/connections")
    await until("it is queried again", lambda: application.requests_to("/connections") > before + 2)
    assert len(await old(releases, "queried", uids)) == 1
    application.connections = 0
    await releases.finished("queried-2", "Success")


async def test_a_container_without_a_hook_gets_one_by_annotation(
    releases: Releases, application: Application
) -> None:
    """And the template stays the same for a release that changes nothing."""
    flow = deployflow("hooked-1", "hooked", action="create", replicas=2, batchSize=1)
    await releases.apply(application.in_pods(flow, graceful_shutdown="true"))
    await releases.finished("hooked-1", "Success")
    wanted = {"path": "/gracefully_shutdown", "port": application.port, "scheme": "HTTP"}
    cloneset = await releases.cloneset("hooked")
    for template in (cloneset["spec"]["template"], *await releases.pods("hooked")):
        (container,) = template["spec"]["containers"]
        assert container["lifecycle"]["preStop"]["httpGet"] == wanted
    names = {pod["metadata"]["name"] for pod in await releases.pods("hooked")}

    again = deployflow("hooked-2", "hooked", replicas=2, batchSize=1)
    await releases.apply(application.in_pods(again, graceful_shutdown="true"))
    assert (await releases.finished("hooked-2", "Success"))["replicasToProcess"] == 0
    assert {pod["metadata"]["name"] for pod in await releases.pods("hooked")} == names


@pytest.mark.parametrize(
    ("annotation", "value"),
    [("graceful_shutdown", "maybe"), ("drain_path", "connections"), ("drain_max_seconds", "10")],
)
async def test_annotations_that_can_not_be_read_fail_the_release_before_anything_moves(
    releases: Releases, application: Application, annotation: str, value: str
) -> None:
    name = f"unread-{annotation.replace('_', '-')}"
    flow = deployflow(f"{name}-1", name, action="create", replicas=1)
    await releases.apply(application.in_pods(flow, **{annotation: value}))
    status = await releases.finished(f"{name}-1", "Failed")
    assert status["reason"] == "InvalidTemplate"
    assert f"apps.triton.io/{annotation.replace('_', '-')}" in status["message"]
    with pytest.raises(k8s.ApiError):
        await releases.cloneset(name)
