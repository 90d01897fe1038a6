"""What is deleted with its owner, and who waits for whom: background, foreground and orphans."""

from __future__ import annotations

from typing import Any

from shared.domain.json_types import Json

from .kube import CLONESETS, CONFIGS, PODS, Kube, a_cloneset, a_config, condition, name

HOLD = "triton.io/hold"
FREE: Json = {"metadata": {"finalizers": None}}


def _owner(config: Json, **more: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": name(config),
        "uid": config["metadata"]["uid"],
        **more,
    }


async def _a_held_pod(kube: Kube, replicas: int = 2) -> tuple[str, str]:
    """Return the paths of a CloneSet with its pods Ready and of one of these that a finalizer holds."""
    await kube.made(kube.path(CLONESETS), a_cloneset("web", replicas))
    pods = await kube.pods_until(
        lambda pods: sum(condition(pod, "Ready") == "True" for pod in pods) == replicas, "app=web"
    )
    held = kube.path(PODS, name(pods[0]))
    await kube.patch(held, {"metadata": {"finalizers": [HOLD]}})
    path = kube.path(CLONESETS, "web")
    await kube.until(path, lambda found: found["status"]["readyReplicas"] == replicas)
    return path, held


async def test_a_cloneset_deleted_in_the_foreground_stays_until_its_last_pod_has_gone(kube: Kube) -> None:
    path, held = await _a_held_pod(kube)
    answer = await kube.delete(path, {"propagationPolicy": "Foreground"})
    assert answer.body["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert answer.body["metadata"]["deletionTimestamp"]
    await kube.pods_until(lambda pods: len(pods) == 1, "app=web")
    # it counts its pods on, and makes no new ones, also not for a higher count
    await kube.until(path, lambda found: found["status"]["replicas"] == 0)
    await kube.patch(path, {"spec": {"replicas": 5}})
    await kube.until(path, lambda found: found["status"]["observedGeneration"] == 3)
    assert len(await kube.pods("app=web")) == 1
    again = await kube.post(kube.path(CLONESETS), a_cloneset("web"))
    assert (again.code, again.reason) == (409, "AlreadyExists")
    await kube.patch(held, FREE)
    await kube.gone(path)


async def test_a_deletion_in_the_background_ends_one_in_the_foreground(kube: Kube) -> None:
    path, held = await _a_held_pod(kube)
    await kube.delete(path, {"propagationPolicy": "Foreground"})
    # one that names no policy leaves it as it is
    assert (await kube.delete(path)).body["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert (await kube.delete(path, {"propagationPolicy": "Background"})).code == 200
    assert (await kube.get(path)).code == 404
    await kube.until(held, lambda pod: pod["metadata"]["deletionTimestamp"])
    await kube.patch(held, FREE)
    await kube.gone(held)


async def test_the_pods_of_an_orphaning_deletion_stay_and_have_no_owner(kube: Kube) -> None:
    path, held = await _a_held_pod(kube)
    await kube.delete(path, {"propagationPolicy": "Orphan"})
    await kube.gone(path)
    pods = await kube.pods("app=web")
    assert [pod["metadata"].get("ownerReferences") for pod in pods] == [None, None]
    assert not any("deletionTimestamp" in pod["metadata"] for pod in pods)
    await kube.patch(held, FREE)


async def test_only_dependents_that_block_are_waited_for(kube: Kube) -> None:
    owner = await kube.made(kube.path(CONFIGS), a_config("owner"))
    other = await kube.made(kube.path(CONFIGS), a_config("other"))
    await kube.made(kube.path(CONFIGS), a_config("loose", ownerReferences=[_owner(owner)], finalizers=[HOLD]))
    blocking = _owner(owner, blockOwnerDeletion=True)
    await kube.made(kube.path(CONFIGS), a_config("blocks", ownerReferences=[blocking], finalizers=[HOLD]))
    await kube.made(kube.path(CONFIGS), a_config("shared", ownerReferences=[blocking, _owner(other)]))
    await kube.delete(kube.path(CONFIGS, "owner"), {"propagationPolicy": "Foreground"})
    for called in ("loose", "blocks"):
        await kube.until(kube.path(CONFIGS, called), lambda found: found["metadata"]["deletionTimestamp"])
    # one that has another owner stays, with that one alone
    await kube.until(
        kube.path(CONFIGS, "shared"), lambda found: found["metadata"]["ownerReferences"] == [_owner(other)]
    )
    assert (await kube.get(kube.path(CONFIGS, "owner"))).code == 200
    await kube.patch(kube.path(CONFIGS, "blocks"), FREE)
    await kube.gone(kube.path(CONFIGS, "owner"))
    assert (await kube.get(kube.path(CONFIGS, "loose"))).code == 200
    await kube.patch(kube.path(CONFIGS, "loose"), FREE)


async def test_what_goes_takes_no_new_finalizers(kube: Kube) -> None:
    await kube.made(kube.path(CONFIGS), a_config("one", finalizers=[HOLD, "triton.io/other"]))
    path = kube.path(CONFIGS, "one")
    await kube.delete(path)
    answer = await kube.patch(path, {"metadata": {"finalizers": [HOLD, "triton.io/new"]}})
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert answer.message == (
        'ConfigMap "one" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the '
        'object is being deleted, found new finalizers []string{"triton.io/new"}'
    )
    assert (await kube.patch(path, {"metadata": {"finalizers": [HOLD]}})).code == 200
    assert (await kube.patch(path, FREE)).code == 200
    assert (await kube.get(path)).code == 404


async def test_finalizers_and_owners_have_a_form(kube: Kube) -> None:
    answer = await kube.post(kube.path(CONFIGS), a_config("one", finalizers=["hold"]))
    assert answer.causes() == {
        "metadata.finalizers[0]": (
            'Invalid value: "hold": name is neither a standard finalizer name nor is it fully qualified'
        )
    }
    answer = await kube.post(kube.path(CONFIGS), a_config("one", ownerReferences=[{"kind": "ConfigMap"}]))
    assert answer.causes() == {
        "metadata.ownerReferences.apiVersion": 'Invalid value: "": version must not be empty',
        "metadata.ownerReferences.name": 'Invalid value: "": must not be empty',
        "metadata.ownerReferences.uid": 'Invalid value: "": must not be empty',
    }
