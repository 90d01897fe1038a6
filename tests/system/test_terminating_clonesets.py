"""A CloneSet is deleted in the foreground while a pod holds it: its release ends, and a create waits until it is gone."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.kube.client import CLONESETS, PODS
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

INSTANCE = "leaving"
FINALIZER = "tests.example.com/keep"
_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    """In a namespace of each test's own."""
    async with Releases(sandbox, f"leaving-{next(_numbers)}") as client:
        await client.make_namespace()
        yield client


async def _hold(releases: Releases, pod: str, *finalizers: str) -> None:
    body = {"metadata": {"finalizers": list(finalizers) or None}}
    await releases.client.patch(PODS, releases.namespace, pod, body)


async def test_its_release_ends_and_a_create_waits_until_it_is_gone(releases: Releases) -> None:
    await releases.create(INSTANCE, 2)
    held = (await releases.pods(INSTANCE))[0]["metadata"]["name"]
    await _hold(releases, held, FINALIZER)
    await releases.apply(deployflow("new", INSTANCE, image="nginx:2", replicas=2, canary=1))
    await releases.batch_is("new", 1, "Smoked")
    options = {"propagationPolicy": "Foreground"}
    await releases.client.delete(CLONESETS, releases.namespace, INSTANCE, options)
    status = await releases.finished("new", "Failed")
    assert status["reason"] == "CloneSetTerminating"
    assert "held by foregroundDeletion" in status["message"]

    await releases.apply(deployflow("again", INSTANCE, action="create", image="nginx:2", replicas=2))
    status = await releases.until_status("again", "it waits", lambda s: s.get("reason"))
    assert status["reason"] == "CloneSetTerminating"
    await _hold(releases, held)
    await releases.finished("again", "Success")
    await releases.serves(INSTANCE, 2)


async def test_a_delete_is_successful_when_it_is_gone(releases: Releases) -> None:
    await releases.create(INSTANCE, 1)
    await releases.client.patch(
        CLONESETS, releases.namespace, INSTANCE, {"metadata": {"finalizers": [FINALIZER]}}
    )
    body = deployflow("gone", INSTANCE, action="delete")
    body["spec"]["nonUpdateStrategy"] = body["spec"].pop("updateStrategy")
    del body["spec"]["application"]["template"]
    await releases.apply(body)
    status = await releases.until_status("gone", "it waits", lambda s: s.get("reason"))
    assert (status["reason"], status["finished"]) == ("CloneSetTerminating", False)
    assert FINALIZER in status["message"]
    await releases.client.patch(CLONESETS, releases.namespace, INSTANCE, {"metadata": {"finalizers": None}})
    await releases.finished("gone", "Success")
