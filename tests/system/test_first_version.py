"""A program that was written for the original Triton, and sends each field whether it is set or not, by REST v1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

NAMESPACE = "first-version"
INSTANCE = "old"
UNSET: Json = {
    "paused": None,
    "canceled": False,
    "batchSize": None,
    "batchIntervalSeconds": 0,
    "mode": "",
    "batches": 0,
}
"""What a strategy in which nothing is set has."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def rest(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    base = f"{sandbox.rest_urls['planner']}/api/v1/namespaces/{NAMESPACE}"
    async with httpx.AsyncClient(base_url=base, timeout=60, follow_redirects=True) as client:
        yield client


async def begun(rest: httpx.AsyncClient, path: str, body: Json | None) -> Json:
    """The answer to a request that begins a release, sent without a content type."""
    content = httpx.Request("POST", "http://x", json=body).content if body is not None else b""
    answer = await rest.post(path, content=content)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()["data"]
    return made


def application(image: str, **fields: Any) -> Json:
    template = deployflow("", INSTANCE, image=image)["spec"]["application"]["template"]
    return {
        "instanceName": INSTANCE,
        "selector": None,
        "template": template,
        "applicationType": "",
        "volumeClaimTemplates": None,
        "applicationLabel": None,
        "anotherField": 1,
        **fields,
    }


async def test_a_program_that_sends_every_field_releases_scales_and_updates(
    releases: Releases, rest: httpx.AsyncClient
) -> None:
    made = await begun(
        rest,
        "/deployflows/",
        {
            "applicationSpec": application("nginx:1", appID=7, appName="shop", replicas=2),
            "updateStrategy": {**UNSET, "noPullIn": False, "canary": 2, "stage": ""},
        },
    )
    assert (made["appID"], made["groupID"], made["mode"], made["startedAt"]) == (7, 0, "manual", None)
    await releases.batch_is(made["name"], 1, "Smoked")
    shown = (await rest.get(f"/deployflows/{made['name']}")).json()["data"]
    assert shown["conditions"][0]["canary"]
    assert (shown["finishedAt"], shown["conditions"][0]["pulledInAt"]) == (None, None)
    for stage in ("Baking", "Baked"):
        answer = await rest.patch(f"/deployflows/{made['name']}", json={**UNSET, "stage": stage})
        assert answer.status_code == 200, answer.text
    await releases.finished(made["name"], "Success")

    same = await begun(rest, f"/instances/{INSTANCE}/scales", None)
    status = await releases.finished(same["deployName"], "Success")
    assert (status["replicasToProcess"], len(await releases.pods(INSTANCE))) == (0, 2)

    # neither ids nor a count: those of the instance
    updated = await begun(
        rest, "/deployflows", {"applicationSpec": application("nginx:2"), "updateStrategy": UNSET}
    )
    assert (updated["action"], updated["appID"], updated["replicas"]) == ("update", 7, 2)
    await releases.finished(updated["name"], "Success")
    pods = await releases.pods(INSTANCE)
    assert [pod["spec"]["containers"][0]["image"] for pod in pods] == ["nginx:2", "nginx:2"]

    none = await begun(
        rest,
        f"/instances/{INSTANCE}/scales",
        {"replicas": 0, "nonUpdateStrategy": {**UNSET, "podsToDelete": None}},
    )
    await releases.finished(none["deployName"], "Success")
    assert await releases.pods(INSTANCE) == []
