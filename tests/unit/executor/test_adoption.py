"""A CloneSet is adopted on request: it and its pods get labels, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from services.executor.adoption import Adoption
from services.executor.cluster_reader import cloneset_from, selector_text
from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.client import CLONESETS, PODS, Client
from shared.kube.clonesets import CloneSet
from shared.kube.reflector import Reflector
from tests.unit.parts import Trouble, refusal, until, until_it

APP: Json = {"app": "web"}


@pytest.fixture
async def reflector(client: Client) -> AsyncIterator[Reflector[CloneSet]]:
    found = Reflector(
        client,
        CLONESETS,
        CloneSet,
        lambda _old, _new: None,
        namespaces=["default"],
        labels="managed-by=triton-io",
    )
    task = asyncio.create_task(found.run())
    async with asyncio.timeout(10):
        await found.synced.wait()
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def adoption(client: Client, reflector: Reflector[CloneSet]) -> Adoption:
    return Adoption(client, reflector)


async def plain(api: Client, **spec: Any) -> CloneSet:
    template = {"metadata": {"labels": APP}, "spec": {"containers": [{"name": "main", "image": "demo:1"}]}}
    body = {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "CloneSet",
        "metadata": {"name": "web", "labels": APP, "annotations": {cs.ADOPT: "true"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": APP}, "template": template, **spec},
    }
    await api.create(CLONESETS, "default", body)
    found: Json = {}

    async def at_rest() -> bool:
        nonlocal found
        found = await api.get(CLONESETS, "default", "web")
        return bool(found.get("status", {}).get("availableReplicas") == 2)

    await until_it(at_rest)
    return cloneset_from(found)


async def pods_are(api: Client, count: int) -> list[Json]:
    found: list[Json] = []

    async def there() -> bool:
        nonlocal found
        found = await api.list(PODS, "default")
        return len(found) == count

    await until_it(there)
    return found


def labeled(pods: list[Json]) -> list[bool]:
    ours = {"app.kubernetes.io/instance": "web", "managed-by": "triton-io", **APP}
    return [ours.items() <= pod["metadata"]["labels"].items() for pod in pods]


async def test_labels_are_all_that_changes(adoption: Adoption, api: Client) -> None:
    before = await plain(api)
    uids = {pod["metadata"]["uid"] for pod in await api.list(PODS, "default")}
    adopted = await adoption.adopt(before)
    await adoption.label_pods(adopted)
    assert (adopted.spec, adopted.metadata.generation) == (before.spec, before.metadata.generation)
    pods = await api.list(PODS, "default")
    assert ({pod["metadata"]["uid"] for pod in pods}, labeled(pods)) == (uids, [True, True])


async def test_what_can_not_be_adopted_and_what_nobody_requested_is_not_written(
    adoption: Adoption, api: Client, trouble: Trouble
) -> None:
    limited = await plain(api, scaleStrategy={"maxUnavailable": 1})
    bare = {
        "metadata": {"annotations": {cs.ADOPT: None}},
        "spec": {"scaleStrategy": {"maxUnavailable": None}},
    }
    trouble.requests.clear()
    for live in (limited, cloneset_from(await api.patch(CLONESETS, "default", "web", bare))):
        assert await adoption.adopt(live) is live
        await adoption.label_pods(live)
    assert not [one for one in trouble.requests if one.startswith("PATCH")]


async def test_pods_that_come_later_are_labeled_when_the_cloneset_changes(
    adoption: Adoption, api: Client, reflector: Reflector[CloneSet]
) -> None:
    await adoption.adopt(await plain(api))
    await api.patch(CLONESETS, "default", "web", {"spec": {"replicas": 3}})
    await pods_are(api, 3)
    live = reflector.get("default", "web")
    assert live is not None
    adoption.cloneset_changed(live)

    async def all_labeled() -> bool:
        return all(labeled(await api.list(PODS, "default")))

    await until_it(all_labeled)


async def test_labels_that_could_not_be_written_are_written_at_the_next_change(
    adoption: Adoption, api: Client, reflector: Reflector[CloneSet], trouble: Trouble
) -> None:
    await adoption.adopt(await plain(api))
    live = reflector.get("default", "web")
    assert live is not None
    refused: list[str] = []

    async def refuse_once(request: web.Request) -> web.StreamResponse | None:
        if request.method != "PATCH" or refused:
            return None
        refused.append(request.path)
        return refusal(403, "Forbidden", "not now")

    trouble.meddle = refuse_once
    adoption.cloneset_changed(live)
    await until(lambda: refused)
    adoption.cloneset_changed(live)

    async def all_labeled() -> bool:
        return all(labeled(await api.list(PODS, "default")))

    await until_it(all_labeled)


def test_a_selector_is_a_query() -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "old", "operator": "DoesNotExist"},
        {"key": "new", "operator": "Exists"},
        {"key": "x", "operator": "NotIn", "values": ["y"]},
    ]
    text = selector_text({"matchLabels": APP, "matchExpressions": expressions})
    assert text == "app=web,tier in (a,b),!old,new,x notin (y)"
