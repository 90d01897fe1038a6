"""The longest name that OpenKruise can label pods with is released; longer ones are refused, those from before end well."""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.deployflow import LONGEST_NAME, LONGEST_STORED_NAME
from shared.domain.json_types import Json
from shared.kube.client import DEPLOYFLOWS, ApiError, Resource
from shared.kube.crd import crd
from tests.system.releases import Releases, deployflow, until
from tests.system.whole_releases import SOON

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

DEFINITIONS = Resource("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions")
_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    """In a namespace of each test's own."""
    async with Releases(sandbox, f"long-{next(_numbers)}") as client:
        await client.make_namespace()
        yield client


def _create(name: str, length: int, **strategy: Any) -> Json:
    return deployflow(name, "a" * length, action="create", replicas=2, annotations=SOON, **strategy)


async def _is_accepted(releases: Releases, body: Json) -> bool:
    """Try to create it, dry."""
    try:
        await releases.client.create(DEPLOYFLOWS, releases.namespace, body, dry_run=True)
    except ApiError as error:
        assert (error.code, "spec.application.instanceName" in str(error)) == (422, True)
        return False
    return True


@asynccontextmanager
async def _earlier_definition(releases: Releases) -> AsyncIterator[None]:
    """The definition of DeployFlows as it was before, for a moment."""
    made = crd()
    before = copy.deepcopy(made)
    schema = before["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    schema["properties"]["application"]["properties"]["instanceName"]["maxLength"] = LONGEST_STORED_NAME
    probe = _create("probe", LONGEST_NAME + 1)

    async def is_installed() -> bool:
        return await _is_accepted(releases, probe)

    async def is_replaced() -> bool:
        return not await _is_accepted(releases, probe)

    async def install(definition: Json) -> None:
        versions = {"spec": {"versions": definition["spec"]["versions"]}}
        await releases.client.patch(DEFINITIONS, "", definition["metadata"]["name"], versions)

    await install(before)
    try:
        await until("the earlier definition is in force", is_installed)
        yield
    finally:
        await install(made)
    await until("today's definition is in force", is_replaced)


async def test_the_longest_name_is_released_and_a_longer_one_refused(releases: Releases) -> None:
    await releases.apply(_create("fits", LONGEST_NAME))
    await releases.finished("fits", "Success")
    assert len(await releases.pods("a" * LONGEST_NAME)) == 2
    assert not await _is_accepted(releases, _create("longer", LONGEST_NAME + 1))


async def test_a_release_with_a_longer_name_from_before_is_steered_ended_and_deleted(
    releases: Releases,
) -> None:
    async with _earlier_definition(releases):
        await releases.apply(_create("old", LONGEST_STORED_NAME, canary=1))
        await releases.batch_is("old", 1, "Smoking", "Smoked")
    await releases.strategy("old", paused=True)
    await releases.until_status("old", "paused", lambda status: status["paused"])
    await releases.strategy("old", canceled=True)
    await releases.finished("old", "Canceled")
    await releases.client.delete(DEPLOYFLOWS, releases.namespace, "old")

    async def is_gone() -> bool:
        return not await releases.names()

    await until("the DeployFlow is gone", is_gone)
