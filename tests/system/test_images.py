"""The image from and to of a release: in `.status`, by REST, in the release log, `triton get` and `triton history`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from tests.system.programs import by_server, run
from tests.system.releases import Releases, deployflow
from triton_client import AsyncTriton

NAMESPACE = "images"
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


async def _triton(sandbox: Sandbox, *arguments: str) -> str:
    ended = await run(*arguments, environment=by_server(sandbox))
    assert ended.code == 0, ended
    return ended.out


async def test_every_view_of_a_release_has_the_image_before_and_after(
    sandbox: Sandbox, releases: Releases
) -> None:
    await releases.create("pictured", replicas=2)
    (first,) = await releases.names("pictured")
    (change,) = (await releases.status(first))["images"]
    assert (change["fromImage"], bool(change["toImage"])) == ("", True)
    before = change["toImage"]

    # the image before a release that takes the place of a failed one is still the good one
    failing = await releases.apply(
        deployflow("pictured-2", "pictured", image="nginx:crash", replicas=2, batchSize=1)
    )
    await releases.until_status(failing, "fails", lambda status: status.get("reason") == "SmokeFailed")
    after = await releases.apply(
        deployflow("pictured-3", "pictured", image="nginx:3", replicas=2, mode="auto")
    )
    await releases.strategy(failing, canceled=True)
    await releases.finished(after, "Success")
    for name, image in ((failing, "nginx:crash"), (after, "nginx:3")):
        (shown,) = (await releases.status(name))["images"]
        assert shown == {**change, "fromImage": before, "toImage": image}
    async with AsyncTriton(sandbox.rest_urls["planner"], namespace=NAMESPACE) as client:
        (by_rest,) = (await client.deployflow(after)).status.images
    assert (by_rest.from_image, by_rest.to_image) == (before, "nginx:3")

    (planned,) = [
        one["triton"] for one in await releases.events(after) if one["event"]["action"] == "planned"
    ]
    assert (planned["image_from"], planned["image_to"]) == ([before], ["nginx:3"])
    words = f"{before} → nginx:3"
    assert words in await _triton(sandbox, "get", "-n", NAMESPACE)
    assert words in await _triton(sandbox, "history", "pictured", "-n", NAMESPACE)
    assert words in await _triton(sandbox, "log", after, "-n", NAMESPACE)
