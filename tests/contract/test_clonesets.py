"""CloneSets: OpenKruise's arithmetic, as a release depends on it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from shared.domain.json_types import Json

from .kube import CLONESETS, PODS, Kube, a_cloneset, a_pod, condition, name

HASH = "controller-revision-hash"


def _ready(number: int) -> Any:
    return lambda pods: sum(condition(pod, "Ready") == "True" for pod in pods) == number == len(_live(pods))


def _contained(number: int) -> Any:
    return lambda pods: (
        sum(condition(pod, "ContainersReady") == "True" for pod in pods) == number == len(pods)
    )


def _live(pods: list[Json]) -> list[Json]:
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def _revisions(pods: list[Json]) -> Counter[str]:
    return Counter(pod["metadata"]["labels"][HASH] for pod in _live(pods))


async def _running(kube: Kube, called: str = "web", replicas: int = 3, **more: Any) -> str:
    """A CloneSet whose pods are all Ready; the answer is its path."""
    await kube.made(kube.path(CLONESETS), a_cloneset(called, replicas, **more))
    await kube.pods_until(_ready(replicas), f"app={called}")
    path = kube.path(CLONESETS, called)
    await kube.until(path, lambda found: found["status"]["readyReplicas"] == replicas)
    return path


def _template(image: str) -> Json:
    return dict(a_cloneset("web", image=image)["spec"]["template"])


async def _settled(kube: Kube, path: str, **numbers: int) -> Json:
    """The CloneSet once its status is about its present spec and has these numbers."""
    return await kube.until(
        path,
        lambda found: (
            found["status"]["observedGeneration"] == found["metadata"]["generation"]
            and all(found["status"].get(key, 0) == number for key, number in numbers.items())
        ),
    )


async def test_pods_carry_their_revision_owner_and_kruises_gates(kube: Kube) -> None:
    path = await _running(kube)
    cloneset = (await kube.get(path)).body
    for pod in await kube.pods("app=web"):
        labels, identity = pod["metadata"]["labels"], name(pod).rpartition("-")[2]
        assert labels[HASH] == cloneset["status"]["updateRevision"]
        assert labels[HASH].endswith(f"-{labels['pod-template-hash']}")
        assert labels["apps.kruise.io/cloneset-instance-id"] == identity
        assert (len(identity), name(pod).startswith("web-")) == (5, True)
        [owner] = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == (
            "CloneSet",
            cloneset["metadata"]["uid"],
            True,
        )
        gates = {gate["conditionType"] for gate in pod["spec"]["readinessGates"]}
        assert {"InPlaceUpdateReady", "KruisePodReady"} <= gates
        assert all(condition(pod, gate) == "True" for gate in gates)


async def test_status_counts_pods_and_names_revisions(kube: Kube) -> None:
    path = await _running(kube)
    status = (await _settled(kube, path, availableReplicas=3, updatedAvailableReplicas=3))["status"]
    assert status["updateRevision"].startswith("web-")
    assert status["currentRevision"] == status["updateRevision"]
    assert status["labelSelector"] == "app=web"
    for count in (
        "replicas",
        "readyReplicas",
        "updatedReplicas",
        "updatedReadyReplicas",
        "expectedUpdatedReplicas",
    ):
        assert status[count] == 3, count


async def test_scaling_up_makes_pods_and_down_takes_unready_ones_first(kube: Kube) -> None:
    path = kube.path(CLONESETS, "web")
    await kube.made(kube.path(CLONESETS), a_cloneset("web", 2, gated=True))
    first = await kube.pods_until(_contained(2), "app=web")
    await kube.open_gate(*first)
    await kube.pods_until(_ready(2), "app=web")
    await kube.patch(path, {"spec": {"replicas": 5}})
    await kube.pods_until(_contained(5), "app=web")
    await _settled(kube, path, replicas=5, readyReplicas=2)
    await kube.patch(path, {"spec": {"replicas": 2}})
    left = await kube.pods_until(lambda pods: len(pods) == 2, "app=web")
    assert {name(pod) for pod in left} == {name(pod) for pod in first}


async def test_surge_with_partition_makes_new_pods_and_touches_nothing_else(kube: Kube) -> None:
    path = await _running(kube)
    old = {name(pod) for pod in await kube.pods("app=web")}
    await kube.patch(
        path,
        {
            "spec": {
                "replicas": 4,
                "template": _template("demo:2"),
                "updateStrategy": {"partition": 3, "paused": True, "maxSurge": 0},
            }
        },
    )
    pods = await kube.pods_until(_ready(4), "app=web")
    status = (await _settled(kube, path, replicas=4, updatedReplicas=1, updatedReadyReplicas=1))["status"]
    assert old < {name(pod) for pod in pods}
    assert _revisions(pods) == {status["currentRevision"]: 3, status["updateRevision"]: 1}
    assert status["currentRevision"] != status["updateRevision"]


async def test_named_old_pods_are_retired_and_no_others(kube: Kube) -> None:
    path = await _running(kube)
    strategy = {"paused": True, "maxSurge": 0, "maxUnavailable": "100%"}
    await kube.patch(
        path,
        {
            "spec": {
                "replicas": 4,
                "template": _template("demo:2"),
                "updateStrategy": {**strategy, "partition": 3},
            }
        },
    )
    pods = await kube.pods_until(_ready(4), "app=web")
    revision = (await _settled(kube, path, replicas=4))["status"]["updateRevision"]
    victim = next(name(pod) for pod in pods if pod["metadata"]["labels"][HASH] != revision)
    await kube.patch(
        path,
        {
            "spec": {
                "replicas": 3,
                "updateStrategy": {**strategy, "partition": 2},
                "scaleStrategy": {"podsToDelete": [victim]},
            }
        },
    )
    left = await kube.pods_until(lambda now: len(now) == 3, "app=web")
    assert {name(pod) for pod in left} == {name(pod) for pod in pods} - {victim}


async def test_retire_and_next_surge_work_in_one_write(kube: Kube) -> None:
    path = await _running(kube)
    strategy = {"paused": True, "maxSurge": 0, "maxUnavailable": "100%"}
    await kube.patch(
        path,
        {
            "spec": {
                "replicas": 4,
                "template": _template("demo:2"),
                "updateStrategy": {**strategy, "partition": 3},
            }
        },
    )
    pods = await kube.pods_until(_ready(4), "app=web")
    revision = (await _settled(kube, path, replicas=4))["status"]["updateRevision"]
    victim = next(name(pod) for pod in pods if pod["metadata"]["labels"][HASH] != revision)
    await kube.patch(
        path,
        {
            "spec": {
                "replicas": 4,
                "updateStrategy": {**strategy, "partition": 2},
                "scaleStrategy": {"podsToDelete": [victim]},
            }
        },
    )
    await kube.pods_until(lambda now: _ready(4)(now) and victim not in {name(pod) for pod in now}, "app=web")
    status = (await _settled(kube, path, replicas=4, updatedReplicas=2))["status"]
    assert _revisions(await kube.pods("app=web"))[status["updateRevision"]] == 2


async def test_a_paused_set_does_not_update_but_scales(kube: Kube) -> None:
    path = await _running(kube, replicas=2)
    before = {name(pod) for pod in await kube.pods("app=web")}
    await kube.patch(path, {"spec": {"template": _template("demo:2"), "updateStrategy": {"paused": True}}})
    await _settled(kube, path, updatedReplicas=0)
    await kube.patch(path, {"spec": {"replicas": 3}})
    pods = await kube.pods_until(_ready(3), "app=web")
    assert before < {name(pod) for pod in pods}
    await _settled(kube, path, updatedReplicas=1)


async def test_an_unpaused_set_updates_up_to_its_partition(kube: Kube) -> None:
    path = await _running(kube, replicas=4)
    await kube.patch(path, {"spec": {"template": _template("demo:2"), "updateStrategy": {"partition": 1}}})
    status = (await _settled(kube, path, updatedReadyReplicas=3, readyReplicas=4, replicas=4))["status"]
    assert _revisions(await kube.pods("app=web")) == {
        status["updateRevision"]: 3,
        status["currentRevision"]: 1,
    }
    await kube.patch(path, {"spec": {"updateStrategy": {"partition": "0%"}}})
    status = (await _settled(kube, path, updatedReadyReplicas=4, replicas=4))["status"]
    assert status["currentRevision"] == status["updateRevision"]


async def test_an_update_with_surge_never_has_too_few_ready_pods(kube: Kube) -> None:
    path = await _running(kube, replicas=3, maxSurge=1, maxUnavailable=0)
    seen: list[int] = []
    await kube.patch(path, {"spec": {"template": _template("demo:2")}})

    def done(pods: list[Json]) -> bool:
        seen.append(sum(condition(pod, "Ready") == "True" for pod in _live(pods)))
        images = {pod["spec"]["containers"][0]["image"] for pod in pods}
        return images == {"demo:2"} and len(pods) == 3 and seen[-1] == 3

    await kube.pods_until(done, "app=web")
    assert min(seen) >= 3


async def test_a_sick_old_pod_does_not_hold_up_a_retirement(kube: Kube) -> None:
    path = kube.path(CLONESETS, "web")
    await kube.made(kube.path(CLONESETS), a_cloneset("web", 2, "demo:crash"))
    sick = await kube.pods_until(lambda pods: len(pods) == 2, "app=web")
    await _settled(kube, path, replicas=2)
    strategy = {"paused": True, "maxSurge": 0, "maxUnavailable": "100%"}
    await kube.patch(
        path,
        {
            "spec": {
                "replicas": 3,
                "template": _template("demo:2"),
                "updateStrategy": {**strategy, "partition": 2},
            }
        },
    )
    await kube.pods_until(lambda pods: sum(condition(pod, "Ready") == "True" for pod in pods) == 1, "app=web")
    await kube.patch(
        path,
        {
            "spec": {
                "replicas": 2,
                "updateStrategy": {**strategy, "partition": 1},
                "scaleStrategy": {"podsToDelete": [name(sick[0])]},
            }
        },
    )
    left = await kube.pods_until(lambda pods: len(pods) == 2, "app=web")
    assert name(sick[0]) not in {name(pod) for pod in left}


async def test_ready_pods_are_not_deleted_beyond_what_may_be_unavailable(kube: Kube) -> None:
    path = await _running(kube, replicas=3, maxUnavailable=1)
    pods = await kube.pods("app=web")
    await kube.patch(path, {"spec": {"scaleStrategy": {"podsToDelete": [name(pod) for pod in pods[:2]]}}})
    lowest = 3

    def replaced(now: list[Json]) -> bool:
        nonlocal lowest
        lowest = min(lowest, sum(condition(pod, "Ready") == "True" for pod in _live(now)))
        names = {name(pod) for pod in now}
        return _ready(3)(now) and not names & {name(pod) for pod in pods[:2]}

    await kube.pods_until(replaced, "app=web")
    assert lowest >= 2


async def test_names_of_dead_pods_leave_the_list_by_themselves(kube: Kube) -> None:
    path = await _running(kube, replicas=2)
    victim = name((await kube.pods("app=web"))[0])
    await kube.patch(path, {"spec": {"replicas": 1, "scaleStrategy": {"podsToDelete": [victim]}}})
    await kube.gone(kube.path(PODS, victim))
    await kube.until(path, lambda found: not found["spec"]["scaleStrategy"].get("podsToDelete"))
    assert len(await kube.pods("app=web")) == 1


async def test_a_pod_labelled_for_deletion_is_replaced(kube: Kube) -> None:
    await _running(kube, replicas=2)
    victim = name((await kube.pods("app=web"))[0])
    await kube.patch(
        kube.path(PODS, victim), {"metadata": {"labels": {"apps.kruise.io/specified-delete": "true"}}}
    )
    await kube.gone(kube.path(PODS, victim))
    await kube.pods_until(_ready(2), "app=web")


async def test_going_back_to_an_earlier_template_gives_its_revision_again(kube: Kube) -> None:
    path = await _running(kube, replicas=1)
    first = (await kube.get(path)).body
    revision = first["status"]["updateRevision"]
    await kube.patch(path, {"spec": {"template": _template("demo:2")}})
    await kube.until(
        path,
        lambda found: (
            found["status"]["updateRevision"] != revision
            and found["status"]["updatedReadyReplicas"] == 1
            and found["status"]["replicas"] == 1
        ),
    )
    await kube.patch(path, {"spec": {"template": first["spec"]["template"]}})
    await kube.until(path, lambda found: found["status"]["updateRevision"] == revision)
    revisions = (await kube.get(kube.path("/apis/apps/v1/namespaces/{}/controllerrevisions"))).body["items"]
    assert revision in {name(item) for item in revisions}


async def test_the_scale_subresource_has_the_selector(kube: Kube) -> None:
    path = await _running(kube, replicas=1)
    scale = (await kube.get(f"{path}/scale")).body
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 1, "selector": "app=web"})
    await kube.patch(f"{path}/scale", {"spec": {"replicas": 2}})
    await kube.pods_until(_ready(2), "app=web")


async def test_deleting_a_set_deletes_its_pods(kube: Kube) -> None:
    path = await _running(kube, replicas=2)
    assert (await kube.delete(path, {"propagationPolicy": "Background"})).code == 200
    await kube.pods_until(lambda pods: not pods, "app=web")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"updateStrategy": {"maxUnavailable": 0, "maxSurge": 0}},
            "maxUnavailable and maxSurge should not both be less",
        ),
        ({"scaleStrategy": {"podsToDelete": ["web-nobody"]}}, "find pod web-nobody failed"),
        ({"scaleStrategy": {"podsToDelete": ["stranger"]}}, "find pod stranger owner is not this CloneSet"),
        ({"scaleStrategy": {"podsToDelete": ["a", "a"]}}, "duplicated items"),
        ({"selector": {"matchLabels": {"app": "web", "x": "y"}}}, "are forbidden"),
        (
            {"template": {"metadata": {"labels": {"app": "other"}}}},
            "`selector` does not match template `labels`",
        ),
    ],
)
async def test_kruises_webhook_refuses(kube: Kube, change: Json, words: str) -> None:
    await kube.made(kube.path(PODS), a_pod("stranger"))
    path = await _running(kube, replicas=1)
    answer = await kube.patch(path, {"spec": change})
    assert answer.code == 422
    assert answer.message.startswith('admission webhook "vcloneset.kb.io" denied the request: ')
    assert words in answer.message
    tried = await kube.patch(path, {"spec": change}, dryRun="All")
    assert words in tried.message


async def test_a_terminating_pod_cannot_be_named(kube: Kube) -> None:
    path = await _running(kube, replicas=1)
    victim = name((await kube.pods("app=web"))[0])
    await kube.patch(kube.path(PODS, victim), {"metadata": {"finalizers": ["triton.io/hold"]}})
    await kube.delete(kube.path(PODS, victim))
    answer = await kube.patch(path, {"spec": {"scaleStrategy": {"podsToDelete": [victim]}}})
    assert f"find pod {victim} already terminating" in answer.message
    await kube.patch(kube.path(PODS, victim), {"metadata": {"finalizers": None}})


async def test_a_pod_whose_labels_leave_the_selector_is_released_and_replaced(kube: Kube) -> None:
    """Putting the label back does not bring it back."""
    await _running(kube, replicas=2)
    pod = (await kube.pods("app=web"))[0]
    path = kube.path(PODS, name(pod))
    await kube.patch(path, {"metadata": {"labels": {"app": None}}})
    released = await kube.until(path, lambda found: not found["metadata"].get("ownerReferences"))
    assert "deletionTimestamp" not in released["metadata"]
    await kube.pods_until(_ready(2), "app=web")
    await kube.patch(path, {"metadata": {"labels": {"app": "web"}}})
    await kube.pods_until(lambda pods: len(_live(pods)) == 3, "app=web")
    await _settled(kube, kube.path(CLONESETS, "web"), replicas=2)
    assert not (await kube.get(path)).body["metadata"].get("ownerReferences")


LIFECYCLE = "lifecycle.apps.kruise.io/state"


def _marked(pods: list[Json]) -> list[str]:
    return [name(pod) for pod in _live(pods) if pod["metadata"]["labels"].get(LIFECYCLE) == "PreparingDelete"]


async def test_a_pre_delete_hook_only_marks_what_a_lower_count_would_remove(kube: Kube) -> None:
    """And a higher count gives the same pod back; without the hook a marked pod goes."""
    hook = {"preDelete": {"labelsHandler": {"app": "web"}}}
    path = await _running(kube)
    before = {name(pod) for pod in await kube.pods("app=web")}
    await kube.patch(path, {"spec": {"replicas": 2, "lifecycle": hook}})
    await kube.pods_until(lambda pods: len(_marked(pods)) == 1, "app=web")
    pods = _live(await kube.pods("app=web"))
    assert {name(pod) for pod in pods} == before
    assert all(condition(pod, "Ready") == "True" for pod in pods)
    await kube.patch(path, {"spec": {"replicas": 3}})
    await kube.pods_until(lambda pods: not _marked(pods), "app=web")
    assert {name(pod) for pod in await kube.pods("app=web")} == before
    await kube.patch(path, {"spec": {"replicas": 2}})
    [marked] = _marked(await kube.pods_until(lambda pods: len(_marked(pods)) == 1, "app=web"))
    await kube.patch(path, {"spec": {"lifecycle": None}})
    await kube.pods_until(lambda pods: {name(pod) for pod in _live(pods)} == before - {marked}, "app=web")
