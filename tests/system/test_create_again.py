"""A create of an instance that exists, and an instance whose DeployFlows were deleted."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.kube.client import DEPLOYFLOWS
from tests.system.history import recorded
from tests.system.programs import printed
from tests.system.releases import Releases, deployflow, until
from tests.system.whole_releases import INSTANCE, SOON, stands

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

Verb = Callable[..., Awaitable[str]]
_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    """In a namespace of each test's own, with an instance that was created and updated."""
    async with Releases(sandbox, f"again-{next(_numbers)}") as client:
        await client.make_namespace()
        await client.service(INSTANCE)
        await client.apply(_release("first", action="create"))
        await client.finished("first", "Success")
        await client.apply(_release("second", image="nginx:2"))
        await client.finished("second", "Success")
        await stands(client, 4, image="nginx:2")
        yield client


@pytest.fixture
def verb(sandbox: Sandbox, releases: Releases) -> Verb:
    """Runs `triton ARGUMENTS...`; gives its last word, which is the name of a release that it made."""

    async def run(*arguments: str) -> str:
        text = await printed(*arguments, "-n", releases.namespace, environment=sandbox.environment)
        return text.split()[-1]

    return run


def _release(name: str, **fields: object) -> Json:
    return deployflow(name, INSTANCE, **{"replicas": 4, "annotations": SOON, **fields})  # type: ignore[arg-type]


async def _clean_away(releases: Releases) -> None:
    """Delete the DeployFlows of the instance."""
    for name in await releases.names(INSTANCE):
        await releases.client.delete(DEPLOYFLOWS, releases.namespace, name)

    async def are_gone() -> bool:
        return not await releases.names(INSTANCE)

    await until("the DeployFlows are gone", are_gone)


async def test_a_create_that_is_applied_again_changes_nothing(releases: Releases) -> None:
    before = {pod["metadata"]["uid"] for pod in await releases.pods(INSTANCE)}
    for name, fields in (("older", {}), ("fewer", {"image": "nginx:2", "replicas": 1})):
        await releases.apply(_release(name, action="create", **fields))
        status = await releases.finished(name, "Failed")
        assert (status["reason"], "make an update" in status["message"]) == ("AlreadyExists", True)
    await releases.apply(_release("same", action="create", image="nginx:2"))
    await releases.finished("same", "Success")
    assert {pod["metadata"]["uid"] for pod in await releases.pods(INSTANCE)} == before
    await stands(releases, 4, image="nginx:2")


async def test_without_a_known_release_a_create_goes_in_batches_and_an_update_starts_from_the_cloneset(
    releases: Releases, verb: Verb
) -> None:
    await _clean_away(releases)
    async with recorded(releases, INSTANCE) as history:
        await releases.apply(_release("third", action="create", image="nginx:3", canary=1))
        await releases.batch_is("third", 1, "Smoked")
        await releases.serves(INSTANCE, 4)
        await verb("promote", "third")
        status = await releases.finished("third", "Success")
        await stands(releases, 4, image="nginx:3")
    history.check(4)
    assert len(status["conditions"]) > 2
    await _clean_away(releases)
    made = await verb("update", INSTANCE, "--image", "nginx:4", "--mode", "auto")
    await releases.finished(made, "Success")
    await stands(releases, 4, image="nginx:4")
    application = (await releases.flow(made))["spec"]["application"]
    assert (application["appID"], application["groupID"], application["appName"]) == (7, 8, "shop")
    assert "readinessGates" not in application["template"]["spec"]
