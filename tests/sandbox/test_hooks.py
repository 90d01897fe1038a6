"""What the sandbox's kubelet does before a pod goes: its `preStop` hooks, within the grace period."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from shared.domain.json_types import Json
from tests.contract.kube import PODS, Kube, a_pod, condition

EVENTS = "/api/v1/namespaces/{}/events"


class Served:
    """What answers for the pods: the requests that came, and whether each is answered at all."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str]] = []
        self.status = 200
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.came.append((request.path, request.headers.get("X-From", "")))
        return web.Response(status=self.status)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    found = Served()
    application = web.Application()
    application.router.add_get("/{path:.*}", found.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


def stopping(hook: Json, *, port: int = 80, grace: int = 30, **notes: str) -> Json:
    """A pod with this hook."""
    pod = a_pod(
        "one",
        annotations={f"sandbox.triton.io/{name.replace('_', '-')}": value for name, value in notes.items()},
        terminationGracePeriodSeconds=grace,
    )
    pod["spec"]["containers"][0] |= {
        "ports": [{"name": "http", "containerPort": port}],
        "lifecycle": {"preStop": hook},
    }
    return pod


async def ends(kube: Kube, pod: Json) -> dict[str, str]:
    """The pod runs, and is deleted; what its events say, by reason, once it is gone."""
    await kube.made(kube.path(PODS), pod)
    await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "Ready") == "True")
    await kube.delete(kube.path(PODS, "one"))
    await kube.gone(kube.path(PODS, "one"))
    events = (await kube.get(kube.path(EVENTS))).body["items"]
    return {event["reason"]: event["message"] for event in events}


@pytest.mark.parametrize("port", ["number", "name"])
async def test_an_http_hook_is_called_before_the_pod_goes(kube: Kube, served: Served, port: str) -> None:
    get = {
        "path": "/gracefully_shutdown",
        "port": served.port if port == "number" else "http",
        "httpHeaders": [{"name": "X-From", "value": "a hook"}],
    }
    said = await ends(kube, stopping({"httpGet": get}, port=served.port, pod_ip="127.0.0.1"))
    assert served.came == [("/gracefully_shutdown", "a hook")]
    assert said["PreStopHook"].endswith("/gracefully_shutdown answered 200")
    assert "FailedPreStopHook" not in said


async def test_any_answer_will_do(kube: Kube, served: Served) -> None:
    served.status = 500
    said = await ends(kube, stopping({"httpGet": {"path": "/", "port": served.port}}, pod_ip="127.0.0.1"))
    assert served.came
    assert "FailedPreStopHook" not in said


@pytest.mark.parametrize("port", [1, "nobody"])
async def test_a_hook_that_fails_is_reported_and_the_pod_goes_all_the_same(kube: Kube, port: Any) -> None:
    said = await ends(kube, stopping({"httpGet": {"path": "/", "port": port}}, pod_ip="127.0.0.1"))
    assert said["FailedPreStopHook"].startswith("PreStopHook failed: container main")


@pytest.mark.parametrize(
    "hook",
    [
        {"sleep": {"seconds": 1}},
        {"exec": {"command": ["sleep", "1"]}},
        {"exec": {"command": ["/bin/sh", "-c", "sleep 1"]}},
    ],
)
async def test_a_pod_that_sleeps_is_there_for_so_long(kube: Kube, hook: Json) -> None:
    said = await ends(kube, stopping(hook))
    assert said["PreStopHook"] == "container main slept 1 s (simulated)"


async def test_the_grace_period_limits_it(kube: Kube) -> None:
    said = await ends(kube, stopping({"sleep": {"seconds": 3600}}, grace=1))
    assert said["FailedPreStopHook"] == "PreStopHook failed: not done within the grace period of 1 s"


async def test_a_pod_deleted_without_grace_goes_in_the_middle_of_its_hook(kube: Kube) -> None:
    await kube.made(kube.path(PODS), stopping({"sleep": {"seconds": 3600}}, grace=3600))
    await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "Ready") == "True")
    await kube.delete(kube.path(PODS, "one"))
    pod = await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "Ready") == "False")
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 3600
    await kube.delete(kube.path(PODS, "one"), {"gracePeriodSeconds": 0})
    assert (await kube.get(kube.path(PODS, "one"))).code == 404


@pytest.mark.parametrize(
    "hook",
    [{"exec": {"command": ["/stop.sh"]}}, {"httpGet": {"path": "/", "port": 80}}],
    ids=["exec", "http"],
)
async def test_what_nothing_real_can_answer_is_only_reported(kube: Kube, hook: Json) -> None:
    said = await ends(kube, stopping(hook))
    assert said["PreStopHook"].startswith("container main runs no hook (simulated)")


async def test_a_container_that_does_not_run_has_no_hook(kube: Kube, served: Served) -> None:
    pod = stopping({"httpGet": {"path": "/", "port": served.port}}, pod_ip="127.0.0.1", behaviour="crash")
    await kube.made(kube.path(PODS), pod)
    await kube.until(
        kube.path(PODS, "one"), lambda found: found["status"]["containerStatuses"][0]["state"]["waiting"]
    )
    await kube.delete(kube.path(PODS, "one"))
    await kube.gone(kube.path(PODS, "one"))
    assert not served.came
