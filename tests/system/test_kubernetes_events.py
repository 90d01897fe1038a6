"""What `kubectl describe` shows of a release: the Events about its DeployFlow."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.kube.client import EVENTS
from tests.contract.kubectl import kubectl_of
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

INSTANCE: Final = "described"
_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def here(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, f"described-{next(_numbers)}") as client:
        await client.make_namespace()
        yield client


async def events(releases: Releases, name: str) -> list[Json]:
    """Return the Events about a DeployFlow, as kubectl describe asks for them."""
    flow = await releases.flow(name)
    fields = {
        "involvedObject.kind": "DeployFlow",
        "involvedObject.namespace": releases.namespace,
        "involvedObject.name": name,
        "involvedObject.uid": flow["metadata"]["uid"],
    }
    query = {"fieldSelector": ",".join(f"{field}={value}" for field, value in fields.items())}
    items: list[Json] = json.loads(await releases.client.list_page(EVENTS, releases.namespace, query))[
        "items"
    ]
    return items


async def shown(releases: Releases, name: str, *reasons: str) -> dict[str, Json]:
    """Wait for Events with these reasons; return them by reason."""
    found: dict[str, Json] = {}

    async def there() -> bool:
        found.update({event["reason"]: event for event in await events(releases, name)})
        return found.keys() >= set(reasons)

    await until(f"Events {reasons} about {name}; there are {found.keys()}", there, 20)
    return found


async def test_each_gate_and_each_step_of_a_person_is_an_event_and_so_is_the_end(
    sandbox: Sandbox, here: Releases, tmp_path: Path
) -> None:
    body = deployflow("first", INSTANCE, action="create", replicas=3, canary=1, batchSize=2)
    await here.apply(body)
    await here.batch_is("first", 1, "Smoked")
    found = await shown(here, "first", "Planned", "WaitingForNext")
    assert found["Planned"]["message"] == "3 pods in 2 batches: nginx:1"
    for stage, phase in (("Baking", "Baking"), ("Baked", "Baked")):
        await here.strategy("first", batches=1, stage=stage)
        await here.batch_is("first", 1, phase)
    # its step is written before the wait for the next batch
    await shown(here, "first", "BatchFinished")
    await here.strategy("first", batches=2, stage=None)
    await here.finished("first", "Success")
    found = await shown(here, "first", "WaitingForNext", "GoAhead", "BatchFinished", "Deployed")
    assert {event["type"] for event in found.values()} == {"Normal"}
    assert "pressed next" in found["GoAhead"]["message"]
    described = await kubectl_of(sandbox.kubeconfig, here.namespace, tmp_path)("describe", "df", "first")
    assert re.search(r"Normal +Deployed +\S+ +triton-planner", described.partition("Events:")[2]), described
    # none comes back into the log as an Event of the cluster
    logged = [str(document["message"]) for document in await here.logged("first")]
    assert logged
    assert not [message for message in logged if message.startswith("DeployFlow ")]


async def test_a_failed_batch_is_unhealthy_with_its_reason(here: Releases) -> None:
    await here.apply(deployflow("first", INSTANCE, action="create", replicas=2))
    await here.finished("first", "Success")
    await here.apply(deployflow("second", INSTANCE, image="nginx:crash", replicas=2, batchSize=1))
    await here.batch_is("second", 1, "SmokeFailed")
    found = await shown(here, "second", "Unhealthy")
    assert found["Unhealthy"]["type"] == "Warning"
    assert "CrashLoopBackOff" in found["Unhealthy"]["message"]
    await here.strategy("second", canceled=True)
    await here.finished("second", "Canceled")
    await shown(here, "second", "CancelRequested", "Canceled")


async def test_a_release_by_itself_costs_one_event(here: Releases) -> None:
    await here.apply(deployflow("first", INSTANCE, action="create", replicas=4, batchSize=1))
    await here.finished("first", "Success")
    found = await shown(here, "first", "Deployed")
    assert len(found) <= 2, found
