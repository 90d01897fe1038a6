"""The claim that Triton 0.1.x left on a CloneSet goes when its release is over, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.executor.legacy_owners import LegacyOwners
from shared.domain.json_types import Json
from shared.kube.client import CLONESETS, CRDS, DEPLOYFLOWS, Client
from shared.kube.clonesets import CloneSet
from shared.kube.crd import crd
from shared.kube.reflector import Reflector
from tests.unit.parts import LABELS, application


@pytest.fixture
async def reflector(client: Client) -> AsyncIterator[Reflector[CloneSet]]:
    found = Reflector(client, CLONESETS, CloneSet, lambda _old, _new: None, namespaces=["default"])
    task = asyncio.create_task(found.run())
    async with asyncio.timeout(10):
        await found.synced.wait()
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def flow(api: Client) -> Json:
    await api.create(CRDS, None, crd())
    body = {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": "DeployFlow",
        "metadata": {"name": "old"},
        "spec": {"action": "create", "application": application()},
    }
    return await api.create(DEPLOYFLOWS, "default", body)


async def claimed(api: Client, flow: Json, reflector: Reflector[CloneSet]) -> None:
    owner = {"apiVersion": flow["apiVersion"], "kind": flow["kind"], "controller": True}
    owner |= {key: flow["metadata"][key] for key in ("name", "uid")}
    body = {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "CloneSet",
        "metadata": {"name": "web", "labels": LABELS, "ownerReferences": [owner]},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {"containers": [{"name": "main", "image": "demo:1"}]},
            },
        },
    }
    reflector.put(await api.create(CLONESETS, "default", body))


async def owner(api: Client) -> str:
    found = await api.get(CLONESETS, "default", "web")
    owners = found["metadata"].get("ownerReferences") or []
    return str(owners[0]["name"]) if owners else ""


async def test_a_running_release_keeps_its_claim_and_a_finished_one_loses_it(
    client: Client, api: Client, reflector: Reflector[CloneSet], flow: Json
) -> None:
    await claimed(api, flow, reflector)
    owners = LegacyOwners(client, reflector, lambda _: True)
    await owners.check()
    assert await owner(api) == "old"
    finished = {"status": {"phase": "Success", "finished": True}}
    await api.patch(DEPLOYFLOWS, "default", "old", finished, subresource="status")
    await owners.check()
    assert await owner(api) == ""


async def test_the_claims_of_other_replicas_are_left_to_them(
    client: Client, api: Client, reflector: Reflector[CloneSet], flow: Json
) -> None:
    await api.patch(
        DEPLOYFLOWS, "default", "old", {"status": {"phase": "Failed", "finished": True}}, subresource="status"
    )
    await claimed(api, flow, reflector)
    await LegacyOwners(client, reflector, lambda _: False).check()
    assert await owner(api) == "old"


async def test_a_cloneset_that_changed_meanwhile_is_checked_again(
    client: Client, api: Client, reflector: Reflector[CloneSet], flow: Json
) -> None:
    await api.patch(
        DEPLOYFLOWS, "default", "old", {"status": {"phase": "Failed", "finished": True}}, subresource="status"
    )
    await claimed(api, flow, reflector)
    stale = reflector.items
    written = await api.patch(CLONESETS, "default", "web", {"metadata": {"annotations": {"a": "b"}}})
    owners = LegacyOwners(client, reflector, lambda _: True)
    assert stale
    await owners.check()
    reflector.put(written)
    await owners.check()
    assert await owner(api) == ""
