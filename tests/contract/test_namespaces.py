"""A deleted namespace: Terminating first, with its content still there, and nothing new in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from shared.domain.json_types import Json

from .kube import CLONESETS, CONFIGS, EVENTS, PODS, Kube, a_cloneset, a_config, a_pod, condition, name

HOLD = "triton.io/hold"


@pytest_asyncio.fixture
async def namespace(kube: Kube) -> AsyncIterator[str]:
    """The path of the test's namespace, and at the end no finalizer in it any more."""
    path = f"/api/v1/namespaces/{kube.namespace}"
    yield path
    for collection in (PODS, CONFIGS):
        for item in (await kube.get(kube.path(collection))).body["items"]:
            await kube.patch(kube.path(collection, name(item)), {"metadata": {"finalizers": None}})
    await kube.patch(path, {"metadata": {"finalizers": None}})


def _is_deleting(obj: Json) -> bool:
    return "deletionTimestamp" in obj["metadata"]


async def test_a_deleted_namespace_is_terminating_and_still_has_its_content(
    kube: Kube, namespace: str
) -> None:
    await kube.made(kube.path(CONFIGS), a_config("one"))
    answer = await kube.delete(namespace)
    assert (answer.code, answer.body["status"]) == (200, {"phase": "Terminating"})
    assert answer.body["metadata"]["deletionTimestamp"]
    assert (await kube.patch(kube.path(CONFIGS, "one"), {"data": {"a": "2"}})).code == 200
    again = await kube.delete(namespace)
    assert again.body["metadata"]["deletionTimestamp"] == answer.body["metadata"]["deletionTimestamp"]
    await kube.gone(kube.path(CONFIGS, "one"))
    await kube.gone(namespace)
    assert (await kube.delete(namespace)).code == 404


async def test_nothing_new_is_made_in_it_and_the_refusal_has_its_cause(kube: Kube, namespace: str) -> None:
    await kube.made(kube.path(CONFIGS), a_config("held", finalizers=[HOLD]))
    await kube.delete(namespace)
    for path, body, what in (
        (CONFIGS, a_config("new"), "configmaps"),
        (PODS, a_pod("new"), "pods"),
        (CLONESETS, a_cloneset("new"), "clonesets.apps.kruise.io"),
    ):
        answer = await kube.post(kube.path(path), body)
        assert (answer.code, answer.reason) == (403, "Forbidden")
        assert answer.message == (
            f'{what} "new" is forbidden: unable to create new content in namespace {kube.namespace} '
            "because it is being terminated"
        )
        assert answer.body["details"]["causes"] == [
            {
                "reason": "NamespaceTerminating",
                "message": f"namespace {kube.namespace} is being terminated",
                "field": "metadata.namespace",
            }
        ]


async def test_its_pods_go_first_and_nothing_else_before_the_last_of_them(kube: Kube, namespace: str) -> None:
    await kube.made(kube.path(CONFIGS), a_config("one"))
    await kube.made(kube.path(PODS), a_pod("held", finalizers=[HOLD]))
    await kube.made(kube.path(PODS), a_pod("free"))
    await kube.pods_until(lambda pods: all(condition(pod, "Ready") == "True" for pod in pods))
    await kube.delete(namespace)
    await kube.gone(kube.path(PODS, "free"))
    await kube.until(kube.path(PODS, "held"), _is_deleting)
    assert not _is_deleting((await kube.get(kube.path(CONFIGS, "one"))).body)


async def test_a_finalizer_of_its_content_or_of_its_own_holds_it(kube: Kube, namespace: str) -> None:
    await kube.made(kube.path(CONFIGS), a_config("held", finalizers=[HOLD]))
    await kube.made(kube.path(CONFIGS), a_config("free"))
    await kube.patch(namespace, {"metadata": {"finalizers": [HOLD]}})
    await kube.delete(namespace)
    await kube.gone(kube.path(CONFIGS, "free"))
    await kube.until(kube.path(CONFIGS, "held"), _is_deleting)
    await kube.patch(kube.path(CONFIGS, "held"), {"metadata": {"finalizers": None}})
    await kube.gone(kube.path(CONFIGS, "held"))
    assert (await kube.get(namespace)).body["status"]["phase"] == "Terminating"
    await kube.patch(namespace, {"metadata": {"finalizers": None}})
    await kube.gone(namespace)


async def test_a_cloneset_in_it_gets_no_pods_back_and_no_events(kube: Kube, namespace: str) -> None:
    await kube.made(kube.path(PODS), a_pod("held", finalizers=[HOLD]))
    await kube.made(kube.path(CLONESETS), a_cloneset("web", 2))
    await kube.pods_until(lambda pods: sum(condition(pod, "Ready") == "True" for pod in pods) == 2, "app=web")
    await kube.delete(namespace)
    await kube.pods_until(lambda pods: not pods, "app=web")
    cloneset = await kube.until(kube.path(CLONESETS, "web"), lambda found: found["status"]["replicas"] == 0)
    assert not _is_deleting(cloneset)
    events = (await kube.get(kube.path(EVENTS), fieldSelector="involvedObject.name=web")).body["items"]
    assert "FailedCreate" not in {event["reason"] for event in events}


async def test_the_namespaces_of_the_system_stay(kube: Kube) -> None:
    answer = await kube.delete("/api/v1/namespaces/default")
    assert (answer.code, answer.message) == (
        403,
        'namespaces "default" is forbidden: this namespace may not be deleted',
    )
