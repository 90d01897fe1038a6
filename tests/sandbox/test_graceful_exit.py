"""The whole way out of a pod: no traffic, no connections, its hook, gone. KWOK runs no hooks: this is the sandbox's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.kube import client as k8s
from tests.system.application import Application
from tests.system.releases import NAMESPACE, Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

HOOK = "/gracefully_shutdown"


class Stopping(Application):
    """Takes its time to shut down, until it is `let_go`."""

    def __init__(self, connections: int) -> None:
        super().__init__(connections)
        self.let_go = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.Response:
        answer = await super()._answer(request)
        if request.path == HOOK:
            await self.let_go.wait()
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(settings={"TRITON_GRACEFUL_SHUTDOWN": "true"}) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def application() -> AsyncIterator[Stopping]:
    async with Stopping(connections=2) as application:
        yield application


async def pod(releases: Releases, uid: str) -> Json | None:
    """Also while it is being deleted."""
    pods = await releases.client.list(k8s.PODS, NAMESPACE)
    return next((found for found in pods if found["metadata"]["uid"] == uid), None)


def gate(found: Json) -> str:
    (status,) = [c["status"] for c in found["status"]["conditions"] if c["type"] == "apps.triton.io/ready"]
    return str(status)


async def replaced(
    releases: Releases, application: Application, instance: str, *, grace: int = 60, **annotations: str
) -> str:
    """Create an instance of one pod that is requested to shut down, begin its update, return the pod's uid."""
    flow = deployflow(f"{instance}-1", instance, action="create", replicas=1)
    flow["spec"]["application"]["template"]["spec"]["terminationGracePeriodSeconds"] = grace
    await releases.apply(application.in_pods(flow, **annotations))
    await releases.finished(f"{instance}-1", "Success")
    (found,) = await releases.pods(instance)
    await releases.apply(deployflow(f"{instance}-2", instance, image="nginx:2", replicas=1, pullOutSeconds=1))
    return str(found["metadata"]["uid"])


async def gone(releases: Releases, uid: str) -> None:
    async def is_gone() -> bool:
        return await pod(releases, uid) is None

    await until("the old pod is gone", is_gone)


async def test_first_the_traffic_then_the_connections_then_the_hook_then_the_pod(
    releases: Releases, application: Stopping
) -> None:
    uid = await replaced(releases, application, "orderly", drain_path="/connections")
    await until("its connections are queried", lambda: application.requests_to("/connections") > 2)
    found = await pod(releases, uid)
    assert found is not None
    assert gate(found) == "False"
    assert "deletionTimestamp" not in found["metadata"]
    assert not application.requests_to(HOOK)

    application.connections = 0
    await until("it is requested to shut down", lambda: application.requests_to(HOOK))
    found = await pod(releases, uid)
    assert found is not None, "the pod stays until its hook has ended"
    assert gate(found) == "False"
    assert found["metadata"]["deletionGracePeriodSeconds"] == 60

    application.let_go.set()
    await gone(releases, uid)
    await releases.finished("orderly-2", "Success")
    assert application.requests_to(HOOK) == 1


async def test_a_maximum_ends_the_wait_and_the_hook_comes_all_the_same(
    releases: Releases, application: Stopping
) -> None:
    application.let_go.set()
    uid = await replaced(releases, application, "endless", drain_path="/connections", drain_max_seconds="2")
    await gone(releases, uid)
    await releases.finished("endless-2", "Success")
    assert application.connections == 2
    assert [request.path for request in application.requests[-2:]] == ["/connections", HOOK]


async def test_a_hook_that_does_not_end_is_stopped_with_the_grace_period(
    releases: Releases, application: Stopping
) -> None:
    uid = await replaced(releases, application, "stubborn", grace=1)
    await gone(releases, uid)
    await releases.finished("stubborn-2", "Success")
    assert application.requests_to(HOOK) == 1
    assert not application.let_go.is_set()


async def test_a_template_may_say_no_to_the_setting(releases: Releases, application: Stopping) -> None:
    uid = await replaced(releases, application, "declined", graceful_shutdown="false")
    await gone(releases, uid)
    await releases.finished("declined-2", "Success")
    assert not application.requests_to(HOOK)
