"""The behaviours of the sandbox's pods that annotations request, and the sandbox's lines in their logs."""

from __future__ import annotations

from functools import partial

import pytest

from shared.domain.json_types import Json
from tests.contract.kube import PODS, Kube, a_pod, condition
from tests.contract.kubectl import Run


def _waits_for(reason: str, pod: Json) -> bool:
    return bool(pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason)


def _behaving(called: str, behaviour: str, **notes: str) -> dict[str, object]:
    prefix = "sandbox.triton.io/"
    return a_pod(
        called,
        annotations={
            f"{prefix}behaviour": behaviour,
            **{prefix + key.replace("_", "-"): value for key, value in notes.items()},
        },
    )


@pytest.mark.parametrize("behaviour", ["hang", "never-ready"])
async def test_a_hanging_pod_runs_and_is_never_ready(kube: Kube, behaviour: str) -> None:
    await kube.made(kube.path(PODS), _behaving("one", behaviour))
    pod = await kube.until(kube.path(PODS, "one"), lambda found: found["status"]["phase"] == "Running")
    assert condition(pod, "ContainersReady") == "False"
    assert "running" in pod["status"]["containerStatuses"][0]["state"]


async def test_a_pod_without_an_image_backs_off_pulling_it(kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one", image="demo:imagepull"))
    for reason in ("ErrImagePull", "ImagePullBackOff"):
        pod = await kube.until(kube.path(PODS, "one"), partial(_waits_for, reason))
        assert pod["status"]["phase"] == "Pending"


async def test_an_unschedulable_pod_stays_pending_and_says_why(kube: Kube) -> None:
    await kube.made(kube.path(PODS), _behaving("one", "unschedulable"))
    pod = await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "PodScheduled") == "False")
    assert pod["status"]["phase"] == "Pending"
    await kube.delete(kube.path(PODS, "one"))
    assert (await kube.get(kube.path(PODS, "one"))).code == 404


async def test_a_pod_may_crash_after_it_was_ready(kube: Kube) -> None:
    await kube.made(kube.path(PODS), _behaving("one", "crash-after-ready", fail_after_seconds="0.3"))
    path = kube.path(PODS, "one")
    await kube.until(path, lambda found: condition(found, "Ready") == "True")
    pod = await kube.until(path, lambda found: condition(found, "Ready") == "False")
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1


async def test_a_log_says_that_it_is_simulated(kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one"))
    await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "Ready") == "True")
    assert "simulated" in (await kube.get(kube.path(PODS, "one", "log"))).body["text"]


async def test_kubectl_prints_such_a_log(kubectl: Run, kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one"))
    await kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=20s")
    assert "simulated" in await kubectl("logs", "one")
