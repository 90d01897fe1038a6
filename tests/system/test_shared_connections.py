"""What one caller sends holds no connection that releases and other callers need."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from tests.system.hostile.innocent import Innocents
from tests.system.other_system import OtherSystem, deploy
from tests.system.releases import Releases

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

NAMESPACE = "shared-connections"
HELD = 66
"""More than the planner has connections."""
SECONDS = 20.0
"""A request that is held would take 30."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bystanders(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def rest(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=HELD + 10)
    async with httpx.AsyncClient(base_url=sandbox.rest_urls["planner"], timeout=60, limits=limits) as client:
        yield client


def application(instance: str) -> dict[str, object]:
    wanted: dict[str, object] = deploy("", instance)["spec"]["application"]
    return wanted


async def test_names_that_would_be_watches_hold_nothing_that_others_need(
    bystanders: Releases, rest: httpx.AsyncClient
) -> None:
    path = "/api/v1/namespaces/default/deployflows"
    body = {"applicationSpec": application("?watch=1&timeoutSeconds=30&x=")}
    held = [asyncio.create_task(rest.post(path, json=body)) for _ in range(HELD)]
    try:
        async with asyncio.timeout(SECONDS):
            made = await rest.post(
                f"/api/v2/namespaces/{NAMESPACE}/deployflows",
                json={"spec": deploy("", "calm-rest")["spec"]},
                headers={"X-Requested-By": "somebody-else"},
            )
            assert made.status_code == 201, made.text
            await bystanders.finished(made.json()["metadata"]["name"], "Success", SECONDS)
            answers = await asyncio.gather(*held)
        assert {answer.status_code for answer in answers} == {400}
        assert "instanceName" in answers[0].json()["msg"]
    finally:
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_commands_that_would_be_watches_hold_nothing_that_others_need(
    bystanders: Releases, paas: OtherSystem
) -> None:
    names = [f"watched-{number}" for number in range(HELD)]
    for name in names:
        instance = "?watch=1&timeoutSeconds=30&x="
        command = {"id": name, "type": "rollback", "namespace": "default", "instanceName": instance}
        await paas.publish(name, json.dumps(command).encode())
    async with asyncio.timeout(SECONDS):
        await bystanders.create("calm-kafka", replicas=1)
        (letter,) = await paas.dead_letters(names[-1])
    assert letter.headers["triton_reason"] == "InvalidCommand"
    assert "instanceName" in str(letter.headers["triton_message"])


async def test_a_web_page_is_refused_where_nobody_has_to_log_in(
    bystanders: Releases, rest: httpx.AsyncClient, innocents: Innocents
) -> None:
    async with innocents.releasing():
        await bystanders.create("calm-page", replicas=1)
        path = f"/api/v2/namespaces/{NAMESPACE}/instances/calm-page"
        for headers in (
            {"Host": "evil.example"},
            {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        ):
            assert (await rest.post(f"{path}/stops", headers=headers)).status_code == 403
        names = await bystanders.names("calm-page")
        assert len(names) == 1, "nothing was begun"
        local = str(rest.base_url).replace("127.0.0.1", "localhost").removeprefix("http://")
        answer = await rest.post(f"{path}/stops", headers={"Host": local.strip("/")})
        assert answer.status_code == 201, answer.text
        await bystanders.finished(answer.json()["metadata"]["name"], "Success", SECONDS)
