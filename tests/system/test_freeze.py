"""Freeze windows, set by the annotation of a namespace that these tests have for themselves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.kube.client import DEPLOYFLOWS, NAMESPACES
from tests.system.other_system import REPLIES, OtherSystem
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

NAMESPACE = "freeze"
OVERRIDE = "apps.triton.io/freeze-override"


class Freezing(Releases):
    """`annotate` returns once the planner knows it: a release of the same moment may begin."""

    async def annotate(self, text: str | None, known: int = 0, unread: int = 0) -> None:
        body = {"metadata": {"annotations": {"apps.triton.io/freeze-windows": text}}}
        await self.client.patch(NAMESPACES, "", self.namespace, body)

        async def seen() -> bool:
            return (
                await self._counted("triton_freeze_windows") == known
                and await self._counted("triton_freeze_windows_unread") == unread
            )

        await until("the planner knows the windows", seen)

    async def freeze(self, *windows: Json) -> None:
        await self.annotate(json.dumps(windows), known=len(windows))

    async def thaw(self) -> None:
        await self.annotate(None)

    async def _counted(self, metric: str) -> int:
        url = self._sandbox.health_urls["planner"]
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
            lines = (await response.text()).splitlines()
        start = f'{metric}{{namespace="{self.namespace}"}} '
        return next((int(float(line.removeprefix(start))) for line in lines if line.startswith(start)), 0)


def open_until(end: datetime, *, minutes: int = 180, **fields: Any) -> Json:
    """A window that opened so many minutes before its end."""
    begun = (end - timedelta(minutes=minutes)).astimezone(UTC)
    cron = f"{begun.minute} {begun.hour} {begun.day} {begun.month} *"
    return {"name": "weekend", "cron": cron, "duration": f"{minutes}m", "reason": "nobody is there", **fields}


def in_an_hour() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=1)


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def namespace(sandbox: Sandbox) -> AsyncIterator[Freezing]:
    async with Freezing(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def releases(namespace: Freezing) -> AsyncIterator[Freezing]:
    yield namespace
    await namespace.thaw()


async def test_a_release_is_held_back_with_reason_and_end_until_the_window_is_taken_away(
    releases: Freezing,
) -> None:
    await releases.create("held", 2)
    before = await releases.cloneset("held")
    end = in_an_hour()
    await releases.freeze(open_until(end))
    await releases.apply(deployflow("held-2", "held", image="nginx:2", replicas=2))
    status = await releases.until_status("held-2", "a reason", lambda s: s.get("reason"))
    assert (status["phase"], status["reason"]) == ("Pending", "Frozen")
    assert f"freeze window weekend (nobody is there) until {stamp(end)}" in status["message"]
    assert (await releases.cloneset("held"))["spec"] == before["spec"]
    await releases.thaw()
    status = await releases.finished("held-2", "Success")
    assert status["freezeOverride"] == ""
    story = [event["event"]["reason"] for event in await releases.events("held-2")]
    assert story.index("Frozen") < story.index("Initializing")


async def test_a_release_begins_by_itself_when_the_window_ends(releases: Freezing) -> None:
    await releases.create("patient", 1)
    end = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    if end - datetime.now(UTC) < timedelta(seconds=10):
        end += timedelta(minutes=1)
    await releases.freeze(open_until(end, minutes=3))
    await releases.apply(deployflow("patient-2", "patient", image="nginx:2", replicas=1))
    await releases.until_status("patient-2", "held back", lambda s: s.get("reason") == "Frozen")
    status = await releases.finished("patient-2", "Success", seconds=100)
    begun = datetime.fromisoformat(status["startedAt"])
    assert begun >= end


async def test_a_window_of_an_application_holds_back_no_other(releases: Freezing) -> None:
    await releases.create("mine", 1)
    await releases.create("theirs", 1)
    await releases.freeze(open_until(in_an_hour(), applications=["mine"]))
    await releases.apply(deployflow("mine-2", "mine", image="nginx:2", replicas=1))
    await releases.apply(deployflow("theirs-2", "theirs", image="nginx:2", replicas=1))
    await releases.finished("theirs-2", "Success")
    assert (await releases.status("mine-2"))["reason"] == "Frozen"


async def test_an_override_begins_at_once_and_stays_on_record(releases: Freezing) -> None:
    await releases.create("urgent", 1)
    end = in_an_hour()
    await releases.freeze(open_until(end))
    body = deployflow("urgent-2", "urgent", image="nginx:2", replicas=1)
    body["metadata"]["annotations"] = {OVERRIDE: "the shop is down"}
    await releases.apply(body)
    status = await releases.finished("urgent-2", "Success")
    record = (
        f"freeze window weekend (nobody is there) until {stamp(end)}, overridden by kubectl: the shop is down"
    )
    assert status["freezeOverride"] == record
    (warning,) = [
        event["message"]
        for event in await releases.events("urgent-2")
        if event["event"]["reason"] == "FreezeOverridden"
    ]
    assert record in warning


async def test_an_override_that_is_set_later_starts_a_release_that_waits(releases: Freezing) -> None:
    await releases.create("later", 1)
    await releases.freeze(open_until(in_an_hour()))
    await releases.apply(deployflow("later-2", "later", image="nginx:2", replicas=1))
    await releases.until_status("later-2", "held back", lambda s: s.get("reason") == "Frozen")
    body = {"metadata": {"annotations": {OVERRIDE: "found out"}}}
    await releases.client.patch(DEPLOYFLOWS, NAMESPACE, "later-2", body)
    status = await releases.finished("later-2", "Success")
    assert "overridden by kubectl: found out" in status["freezeOverride"]


async def test_a_deploy_command_may_override_and_is_named(releases: Freezing, paas: OtherSystem) -> None:
    await releases.create("requested", 1)
    await releases.freeze(open_until(in_an_hour()))
    spec = deployflow("requested-2", "requested", image="nginx:2", replicas=1)["spec"]
    command = {
        "id": "requested-2",
        "type": "deploy",
        "namespace": NAMESPACE,
        "deployFlow": "requested-2",
        "spec": spec,
        "requestedBy": "paas",
        "freezeOverride": "a leak",
        "replyTo": REPLIES,
    }
    await paas.ask("requested", command)
    (reply,) = await paas.replies("requested-2")
    assert reply["result"] == "accepted"
    status = await releases.finished("requested-2", "Success")
    assert "overridden by paas (claimed) via kafka: a leak" in status["freezeOverride"]


async def test_a_paused_release_is_not_taken_over_by_one_that_is_held_back(releases: Freezing) -> None:
    await releases.create("standing", 2)
    await releases.apply(
        deployflow("standing-2", "standing", image="nginx:2", replicas=2, mode="manual", batchSize=1)
    )
    await releases.until_status("standing-2", "waits", lambda s: s.get("reason") == "WaitingForNext")
    await releases.strategy("standing-2", paused=True)
    await releases.until_status("standing-2", "paused", lambda s: s.get("reason") == "Paused")
    await releases.freeze(open_until(in_an_hour()))
    await releases.apply(deployflow("standing-3", "standing", image="nginx:3", replicas=2))
    await releases.until_status("standing-3", "held back", lambda s: s.get("reason") == "Frozen")
    # what is under way goes on in the window
    await releases.strategy("standing-2", paused=False, mode="auto")
    await releases.finished("standing-2", "Success")
    assert (await releases.status("standing-3"))["reason"] == "Frozen"
    await releases.thaw()
    await releases.finished("standing-3", "Success")


async def test_a_rollback_is_not_held_back(releases: Freezing) -> None:
    await releases.create("back", 1)
    await releases.freeze(open_until(in_an_hour()))
    await releases.apply(deployflow("back-2", "back", action="rollback", image="nginx:1", replicas=1))
    await releases.apply(deployflow("back-3", "back", image="nginx:3", replicas=1))
    await releases.finished("back-2", "Success")
    await releases.until_status("back-3", "held back", lambda s: s.get("reason") == "Frozen")


async def test_a_window_that_can_not_be_read_holds_nothing_back_and_is_reported(releases: Freezing) -> None:
    await releases.create("mistyped", 1)
    window = open_until(in_an_hour())
    await releases.annotate(json.dumps([{**window, "duration": "62 hours"}]), unread=1)
    await releases.apply(deployflow("mistyped-2", "mistyped", image="nginx:2", replicas=1))
    status = await releases.finished("mistyped-2", "Success")
    assert "window 1 (weekend): duration: needs weeks, days, hours and minutes" in status["message"]
