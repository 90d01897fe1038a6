"""What the sandbox reports of pods in trouble: their warnings, and logs as a kubelet gives them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.json_types import Json
from tests.contract.kube import GATE, PODS, Kube, a_pod, condition
from tests.contract.kubectl import Run

EVENTS = "/api/v1/namespaces/{}/events"
GATED = [{"conditionType": GATE}]


def behaving(behaviour: str, **spec: Any) -> Json:
    notes = {"sandbox.triton.io/fail-after-seconds": "0.2", "sandbox.triton.io/log": "one\ntwo\nno database"}
    return a_pod("one", image=f"demo:{behaviour}", annotations=notes, **spec)


async def crashed(kube: Kube) -> str:
    await kube.made(kube.path(PODS), behaving("crash"))
    path = kube.path(PODS, "one")
    await kube.until(path, lambda pod: pod["status"].get("containerStatuses"))
    return f"{path}/log"


async def text(kube: Kube, path: str, **query: str) -> str:
    answer = await kube.get(path, **query)
    assert answer.code == 200, answer.body
    return str(answer.body["text"])


async def test_a_log_has_what_an_annotation_says_and_the_end_of_a_container_that_crashed(kube: Kube) -> None:
    path = await crashed(kube)
    lines = (await text(kube, path, previous="true")).splitlines()
    assert "simulated" in lines[0]
    assert lines[-4:-1] == ["one", "two", "no database"]
    assert "fatal: exit code 1" in lines[-1]


async def test_a_log_is_cut_as_requested(kube: Kube) -> None:
    path = await crashed(kube)
    last = await text(kube, path, tailLines="2")
    assert last.startswith("no database\n")
    assert len(last.splitlines()) == 2
    assert await text(kube, path, tailLines="2", limitBytes="5") == "no da"
    assert await text(kube, path, tailLines="0") == ""


@pytest.mark.parametrize(
    ("behaviour", "query", "says"),
    [
        ("crash", {"container": "nobody"}, "container nobody is not valid for pod one"),
        ("never-ready", {"previous": "true"}, 'previous terminated container "main" in pod "one" not found'),
        ("imagepull", {}, 'container "main" in pod "one" is waiting to start'),
    ],
)
async def test_there_is_no_log_where_nothing_has_run(
    kube: Kube, behaviour: str, query: Json, says: str
) -> None:
    await kube.made(kube.path(PODS), behaving(behaviour))
    path = kube.path(PODS, "one")
    await kube.until(path, lambda pod: pod["status"].get("containerStatuses"))
    answer = await kube.get(f"{path}/log", **query)
    assert (answer.code, answer.reason, answer.message) == (400, "BadRequest", says)


async def test_kubectl_prints_the_last_lines_of_the_run_before(kubectl: Run, kube: Kube) -> None:
    await crashed(kube)
    printed = await kubectl("logs", "one", "--previous", "--tail=2")
    assert printed.splitlines()[0] == "no database"


@pytest.mark.parametrize(
    ("behaviour", "reason", "says"),
    [
        ("crash", "BackOff", "Back-off restarting failed container main in pod one_"),
        ("imagepull", "BackOff", 'Back-off pulling image "demo:imagepull"'),
        ("imagepull", "Failed", "Error: ImagePullBackOff"),
        ("never-ready", "Unhealthy", "Readiness probe failed"),
        ("unready-after-ready", "Unhealthy", "Readiness probe failed"),
        ("unready-in-traffic", "Unhealthy", "Readiness probe failed"),
        ("crash-after-ready", "BackOff", "Back-off restarting"),
        ("unschedulable", "FailedScheduling", "0/5 nodes are available"),
    ],
)
async def test_a_pod_in_trouble_has_a_warning_that_says_why(
    kube: Kube, behaviour: str, reason: str, says: str
) -> None:
    pod = await kube.made(kube.path(PODS), behaving(behaviour))
    selector = f"involvedObject.uid={pod['metadata']['uid']},type=Warning,reason={reason}"
    await kube.until(
        kube.path(EVENTS),
        lambda found: any(says in event["message"] for event in found["items"]),
        fieldSelector=selector,
    )


async def test_a_pod_may_lose_ready_while_its_containers_run(kube: Kube) -> None:
    await kube.made(kube.path(PODS), behaving("unready-after-ready", readinessGates=GATED))
    path = kube.path(PODS, "one")
    pod = await kube.until(path, lambda found: condition(found, "ContainersReady") == "True")
    await kube.open_gate(pod)
    await kube.until(path, lambda found: condition(found, "Ready") == "True")
    pod = await kube.until(path, lambda found: condition(found, "Ready") == "False")
    assert condition(pod, "ContainersReady") == "False"
    assert "running" in pod["status"]["containerStatuses"][0]["state"]


async def test_a_pod_may_be_ready_for_everything_but_traffic(kube: Kube) -> None:
    await kube.made(kube.path(PODS), behaving("unready-in-traffic", readinessGates=GATED))
    path = kube.path(PODS, "one")
    pod = await kube.until(path, lambda found: condition(found, "ContainersReady") == "True")
    async with kube.watch(kube.path(PODS), resourceVersion=pod["metadata"]["resourceVersion"]) as watching:
        await kube.open_gate(pod)
        while True:
            seen = (await watching.event())["object"]
            assert condition(seen, "Ready") == "False"
            if condition(seen, "ContainersReady") == "False":
                break
