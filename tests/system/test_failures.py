"""What a failed release says of its pods, and what becomes of the pods: the sick ones lose their traffic, no other."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from shared.domain.json_types import Json
from shared.kube import client as k8s
from tests.system.history import GATE, History, is_ready, recorded
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

OLD = 4
SINCE = re.compile(r"since \d\d:\d\d:\d\dZ")


async def _first_seen(releases: Releases, resource: k8s.Resource, wanted: Callable[[Json], bool]) -> float:
    """When a watch first shows such an object, by the monotonic clock."""
    query = {"resourceVersion": "0"}
    async for line in releases.client.watch(resource, releases.namespace, query, silence_seconds=60):
        event = json.loads(line)
        if event["type"] in {"ADDED", "MODIFIED"} and wanted(event["object"]):
            return time.monotonic()
    raise AssertionError(f"the watch of {resource.plural} ended")


def _crashes(pod: Json, instance: str) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return labels.get("app.kubernetes.io/instance") == instance and "CrashLoopBackOff" in json.dumps(
        pod.get("status", {}).get("containerStatuses", [])
    )


@asynccontextmanager
async def failing(releases: Releases, instance: str, *kept: str) -> AsyncIterator[History]:
    """The old pods are Ready all the time of the block, and serve alone at its end beside those `kept`."""
    await releases.create(instance, OLD)
    before = {pod["metadata"]["name"] for pod in await releases.pods(instance)}
    async with recorded(releases, instance) as history:
        yield history
    history.check(OLD)
    for change in history.changes:
        if change.kind == "pods" and change.object["metadata"]["name"] in before:
            assert is_ready(change.object), change.object["metadata"]["name"]
    await releases.serves(instance, OLD)
    assert await releases.endpoints(instance) == before
    await releases.strategy(f"{instance}-2", canceled=True)
    await releases.finished(f"{instance}-2", "Canceled")
    assert {pod["metadata"]["name"] for pod in await releases.pods(instance)} == before


async def warn_of(releases: Releases, pod: str, reason: str, message: str) -> None:
    """What its kubelet would say; nobody does in a cluster whose kubelets are played."""
    live = await releases.client.get(k8s.PODS, releases.namespace, pod)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "metadata": {"name": f"{pod}.{time.time_ns():x}", "namespace": releases.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": releases.namespace,
            "name": pod,
            "uid": live["metadata"]["uid"],
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": "kubelet"},
    }
    await releases.client.create(k8s.EVENTS, releases.namespace, event)


def rows(status: Json) -> list[Json]:
    pods: list[Json] = status["conditions"][0]["pods"]
    return pods


async def test_a_crash_is_reported_within_moments_with_pod_exit_code_since_when_and_last_event(
    releases: Releases,
) -> None:
    async with failing(releases, "telling"):
        crashed = asyncio.create_task(_first_seen(releases, k8s.PODS, lambda pod: _crashes(pod, "telling")))
        reported = asyncio.create_task(
            _first_seen(
                releases,
                k8s.DEPLOYFLOWS,
                lambda flow: (
                    flow["metadata"]["name"] == "telling-2"
                    and (flow.get("status") or {}).get("reason") == "SmokeFailed"
                ),
            )
        )
        await releases.apply(
            deployflow("telling-2", "telling", image="nginx:crash", replicas=OLD, batchSize=2)
        )
        async with asyncio.timeout(60):
            took = await reported - await crashed
        print(f"\nfrom the first pod's crash report to SmokeFailed in .status: {took * 1000:.0f} ms")
        status = await releases.until_status("telling-2", "both counted", lambda s: s["failedReplicas"] == 2)
        assert status["conditions"][0]["reason"] == "CrashLoopBackOff"
        for pod in rows(status):
            assert pod["name"] in status["message"]
            assert "exit code 1" in pod["message"]
            assert pod["pullInStatus"] == ""
            age = datetime.now(UTC) - datetime.fromisoformat(pod["since"])
            assert -5 < age.total_seconds() < 120
        assert "exit code 1" in status["message"]
        assert SINCE.search(status["message"])

        await warn_of(
            releases, rows(status)[0]["name"], "BackOff", "Back-off restarting failed container main"
        )
        status = await releases.until_status(
            "telling-2", "the last event", lambda s: rows(s)[0].get("event"), seconds=60
        )
        assert rows(status)[0]["event"].startswith("BackOff: Back-off restarting failed container main")


@pytest.mark.parametrize(
    ("image", "init_image", "reason"),
    [
        ("Nginx:2", None, "InvalidImageName"),
        ("nginx:2", "nginx:crash", "CrashLoopBackOff"),
        ("nginx:2", "nginx:imagepull", "ImagePullBackOff"),
    ],
)
async def test_an_unreadable_image_name_or_a_failing_init_container_fails_the_batch_at_once(
    releases: Releases, image: str, init_image: str | None, reason: str
) -> None:
    instance = f"unstarted-{reason.lower()}"
    async with failing(releases, instance):
        body = deployflow(f"{instance}-2", instance, image=image, replicas=OLD, batchSize=2)
        if init_image:
            init = {"name": "first", "image": init_image}
            body["spec"]["application"]["template"]["spec"]["initContainers"] = [init]
        await releases.apply(body)
        status = await releases.until_status(
            f"{instance}-2", "both failed", lambda s: s.get("failedReplicas") == 2
        )
        assert (status["reason"], status["conditions"][0]["reason"]) == ("SmokeFailed", reason)
        assert f"container {'first' if init_image else 'main'}: " in status["message"]


@pytest.mark.parametrize("why", ["unready-in-traffic", "unready-after-ready", "foreign-gate"])
async def test_pods_that_are_not_ready_with_an_open_gate_fail_the_bake_and_lose_their_traffic(
    releases: Releases, why: str
) -> None:
    instance = f"bake-{why}"
    body = deployflow(
        f"{instance}-2",
        instance,
        image=f"nginx:{why}",
        replicas=OLD,
        batchSize=2,
        bakeSeconds=60,
        pullInTimeoutSeconds=2,
        annotations={"sandbox.triton.io/fail-after-seconds": "0.5"},
    )
    if why == "foreign-gate":
        gates = [{"conditionType": "example.com/nobody-opens-it"}]
        body["spec"]["application"]["template"]["spec"]["readinessGates"] = gates
    async with failing(releases, instance) as history:
        await releases.apply(body)
        status = await releases.batch_is(f"{instance}-2", 1, "BakeFailed")
        assert status["reason"] == "BakeFailed"
        assert (status["conditions"][0]["reason"], status["failedReplicas"]) == ("PullInFailed", 2)
        assert [pod["pullInStatus"] for pod in rows(status)] == ["PullInFailed"] * 2
        assert [bool(pod["since"] and pod["reason"]) for pod in rows(status)] == [True, True]
        for pod in rows(status):
            assert f"{pod['name']} (not Ready within 2 s" in status["message"]
        assert SINCE.search(status["message"])
        if why == "foreign-gate":
            assert "readiness gate example.com/nobody-opens-it is not open" in status["message"]
        await until("both are pulled out", lambda: _pulled_out(releases, status))
        status = await releases.status(f"{instance}-2")
        assert [pod["pullInStatus"] for pod in rows(status)] == ["PullInFailed"] * 2
    lost = {pod["uid"] for pod in rows(status)} & history.pods_ready()
    assert len(lost) == (2 if why == "unready-after-ready" else 0)


async def test_pods_that_crash_while_they_bake_lose_their_traffic_one_after_the_other(
    releases: Releases,
) -> None:
    async with failing(releases, "bake-crash"):
        await releases.apply(
            deployflow(
                "bake-crash-2",
                "bake-crash",
                image="nginx:crash-after-ready",
                replicas=OLD,
                batchSize=2,
                bakeSeconds=60,
                annotations={"sandbox.triton.io/fail-after-seconds": "0.5"},
            )
        )
        await releases.batch_is("bake-crash-2", 1, "BakeFailed")
        status = await releases.until_status(
            "bake-crash-2", "both counted", lambda s: s["failedReplicas"] == 2
        )
        assert status["conditions"][0]["reason"] == "CrashLoopBackOff"
        for pod in rows(status):
            assert (pod["phase"], pod["pullInStatus"]) == ("Failed", "PullInFailed")
            assert "exit code 1" in pod["message"]
            assert pod["since"]
        await until("both are pulled out", lambda: _pulled_out(releases, status))


async def test_pods_that_keep_losing_ready_fail_the_bake_as_flapping(releases: Releases) -> None:
    gate = "example.com/comes-and-goes"
    body = deployflow(
        "flapping-2",
        "flapping",
        image="nginx:2",
        replicas=OLD,
        batchSize=2,
        bakeSeconds=3,
        pullInTimeoutSeconds=3,
    )
    body["spec"]["application"]["template"]["spec"]["readinessGates"] = [{"conditionType": gate}]
    await releases.create("flapping", OLD)
    await releases.apply(body)
    status = await releases.batch_is("flapping-2", 1, "Baking")
    sick, well = (pod["name"] for pod in rows(status))
    await _set_gate(releases, well, gate, "True")
    values = itertools.cycle(["True", "False"])

    async def is_failed() -> Json | None:
        await _set_gate(releases, sick, gate, next(values))
        status = await releases.status("flapping-2")
        return status if status["conditions"][0]["phase"] != "Baking" else None

    status = await until("the batch does not bake for ever", is_failed)
    condition = status["conditions"][0]
    assert (condition["phase"], condition["reason"]) == ("BakeFailed", "Flapping")
    assert re.search(rf"{sick} \(lost Ready (once|\d+ times)\)", status["message"])
    assert well not in status["message"]
    await until("it lost its traffic", lambda: _is_pulled_out(releases, sick))
    assert is_ready(await releases.client.get(k8s.PODS, releases.namespace, well))
    await releases.strategy("flapping-2", canceled=True)
    await releases.finished("flapping-2", "Canceled")


async def _set_gate(releases: Releases, pod: str, gate: str, value: str) -> None:
    body = {"status": {"conditions": [{"type": gate, "status": value}]}}
    await releases.client.patch(
        k8s.PODS, releases.namespace, pod, body, subresource="status", content_type=k8s.STRATEGIC
    )


async def _is_pulled_out(releases: Releases, name: str) -> bool:
    pod = await releases.client.get(k8s.PODS, releases.namespace, name)
    return any(c["type"] == GATE and c["status"] == "False" for c in pod["status"]["conditions"])


async def _pulled_out(releases: Releases, status: Json) -> bool:
    names = {pod["name"] for pod in rows(status)}
    live = [await releases.client.get(k8s.PODS, releases.namespace, name) for name in sorted(names)]
    gates = [c["status"] for pod in live for c in pod["status"]["conditions"] if c["type"] == GATE]
    return gates == ["False"] * len(names)
