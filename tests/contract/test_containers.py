"""What a kubelet reports about init containers and about images whose names can't be read."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.json_types import Json

from .kube import PODS, Kube, a_pod, condition
from .kubectl import Run


def _init(*images: str) -> list[Json]:
    return [{"name": f"first-{n}", "image": image} for n, image in enumerate(images)]


def _states(pod: Json, containers: str = "initContainerStatuses") -> list[tuple[str, str]]:
    """Return the state of each container (`running`, `waiting`, `terminated`) and its reason."""
    found: list[tuple[str, str]] = []
    for container in pod["status"][containers]:
        [(state, detail)] = container["state"].items()
        found.append((state, detail.get("reason", "")))
    return found


async def test_init_containers_run_before_the_containers(kube: Kube) -> None:
    path = kube.path(PODS, "one")
    async with kube.watch(kube.path(PODS), fieldSelector="metadata.name=one") as watching:
        await kube.made(kube.path(PODS), a_pod("one", initContainers=_init("demo:1", "demo:2")))
        seen: list[Any] = []
        while condition(pod := (await watching.event())["object"], "ContainersReady") != "True":
            if "initContainerStatuses" in pod["status"]:
                seen.append(
                    (condition(pod, "Initialized"), _states(pod)[0], _states(pod, "containerStatuses"))
                )
    assert seen[0] == ("False", ("running", ""), [("waiting", "PodInitializing")])
    pod = await kube.until(path, lambda found: condition(found, "Ready") == "True")
    assert condition(pod, "Initialized") == "True"
    assert _states(pod) == [("terminated", "Completed")] * 2
    assert all(container["ready"] for container in pod["status"]["initContainerStatuses"])


@pytest.mark.parametrize(
    ("image", "state", "word"),
    [
        ("demo:crash", ("waiting", "CrashLoopBackOff"), "Init:CrashLoopBackOff"),
        ("demo:imagepull", ("waiting", "ImagePullBackOff"), "Init:ImagePullBackOff"),
        ("Demo:1", ("waiting", "InvalidImageName"), "Init:InvalidImageName"),
        ("demo:hang", ("running", ""), "Init:1/3"),
    ],
)
async def test_an_init_container_that_fails_keeps_the_containers_waiting(
    kube: Kube, kubectl: Run, image: str, state: tuple[str, str], word: str
) -> None:
    await kube.made(kube.path(PODS), a_pod("one", initContainers=_init("demo:1", image, "demo:2")))
    pod = await kube.until(kube.path(PODS, "one"), lambda found: _states(found)[1] == state)
    assert _states(pod) == [("terminated", "Completed"), state, ("waiting", "PodInitializing")]
    assert _states(pod, "containerStatuses") == [("waiting", "PodInitializing")]
    assert (pod["status"]["phase"], condition(pod, "Initialized")) == ("Pending", "False")
    assert condition(pod, "Ready") == "False"
    if image == "demo:crash":
        failed = pod["status"]["initContainerStatuses"][1]
        assert failed["restartCount"] > 0
        assert failed["lastState"]["terminated"]["exitCode"] == 1
    assert word in await kubectl("get", "pod", "one")


async def test_a_sidecar_runs_on_beside_the_containers(kube: Kube) -> None:
    sidecar = {"name": "beside", "image": "demo:1", "restartPolicy": "Always"}
    await kube.made(kube.path(PODS), a_pod("one", initContainers=[sidecar]))
    pod = await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "Ready") == "True")
    assert _states(pod) == [("running", "")]
    assert pod["status"]["initContainerStatuses"][0]["ready"]


@pytest.mark.parametrize(
    "image", ["Demo:1", "demo:::1", "demo:a b", "registry.io/Demo", "demo@sha256:12", "-"]
)
async def test_an_image_whose_name_cannot_be_read_does_not_run(kube: Kube, image: str) -> None:
    await kube.made(kube.path(PODS), a_pod("one", image=image))
    pod = await kube.until(
        kube.path(PODS, "one"),
        lambda found: _states(found, "containerStatuses") == [("waiting", "InvalidImageName")],
    )
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"] == (
        f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": '
        "invalid reference format"
    )
    assert (pod["status"]["phase"], condition(pod, "Ready")) == ("Pending", "False")


@pytest.mark.parametrize(
    "image",
    [
        "demo",
        "demo:V1.0_x",
        "a/b/c:1",
        "registry.io:5000/a__b/c-d:1",
        "Host/demo:1",
        f"demo@sha256:{'a' * 64}",
    ],
)
async def test_every_name_that_can_be_read_does(kube: Kube, image: str) -> None:
    await kube.made(kube.path(PODS), a_pod("one", image=image))
    await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "Ready") == "True")
