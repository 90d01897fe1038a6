"""The planner's picture of freeze windows: annotations of Namespaces, and what it does where it may not see them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import pytest
from aiohttp import web

from services.planner.rules.freeze_hold import Windows
from services.planner.runtime.flow_cache import FlowCache
from services.planner.runtime.namespace_watch import NamespaceWatch
from shared.kube.client import NAMESPACES, Client, Resource
from shared.service.health import Health
from shared.service.process import Context
from shared.settings import Settings
from tests.unit.parts import MemoryKafka, Trouble, refusal, until

WEEKEND = {"name": "weekend", "cron": "0 18 * * FRI", "duration": "62h"}
SETTINGS = Settings(freeze_windows=json.dumps([{**WEEKEND, "name": "of-settings"}]))
CONFIG_MAPS = Resource("/api/v1", "configmaps")
FORBIDDEN = 'namespaces is forbidden: User "planner" cannot list resource "namespaces"'


class Flows:
    """Takes the place of the DeployFlows: remembers the instances that are to be checked again."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.ending: list[str] = []

    def recheck_waiting(self, namespace: str) -> None:
        self.looked.append(namespace)

    def recheck_namespace(self, namespace: str) -> None:
        self.ending.append(namespace)


@asynccontextmanager
async def following(client: Client, flows: Flows) -> AsyncIterator[NamespaceWatch]:
    windows = NamespaceWatch(client, cast("FlowCache", flows), SETTINGS)
    context = Context(SETTINGS, Health(), MemoryKafka().kafka, AsyncExitStack(), asyncio.Event())
    async with asyncio.timeout(10):
        await windows.follow(context)
    try:
        yield windows
    finally:
        await context.cancel_tasks()


async def annotate(api: Client, *windows: object) -> None:
    text = json.dumps(windows) if windows else None
    body = {"metadata": {"annotations": {"apps.triton.io/freeze-windows": text}}}
    await api.patch(NAMESPACES, "", "shop", body)


def names(found: Windows) -> list[str]:
    return [window.name for window in found.windows]


async def test_windows_come_and_go_with_the_annotation_and_waiting_releases_are_looked_at(
    client: Client, api: Client
) -> None:
    await api.create(NAMESPACES, None, {"metadata": {"name": "shop"}})
    await annotate(api, WEEKEND)
    flows = Flows()
    async with following(client, flows) as windows:
        assert names(windows.of("shop")) == ["of-settings", "weekend"]
        assert names(windows.of("another")) == ["of-settings"]
        assert flows.looked == ["shop"]
        # another change of the namespace is nothing to look at
        await api.patch(NAMESPACES, "", "shop", {"metadata": {"labels": {"team": "web"}}})
        await annotate(api)
        await until(lambda: names(windows.of("shop")) == ["of-settings"])
        assert flows.looked == ["shop", "shop"]


async def test_the_releases_of_a_namespace_that_is_being_deleted_are_looked_at_once(
    client: Client, api: Client
) -> None:
    await api.create(NAMESPACES, None, {"metadata": {"name": "shop"}})
    kept = {"metadata": {"name": "kept", "finalizers": ["shop.example.com/keep"]}}
    await api.create(CONFIG_MAPS, "shop", kept)
    flows = Flows()
    async with following(client, flows) as namespaces:
        assert not namespaces.is_terminating("shop")
        await api.delete(NAMESPACES, "", "shop")
        await until(lambda: namespaces.is_terminating("shop"))
        await api.patch(NAMESPACES, "", "shop", {"metadata": {"labels": {"team": "web"}}})
        await api.patch(CONFIG_MAPS, "shop", "kept", {"metadata": {"finalizers": None}})
        await until(lambda: not namespaces.is_terminating("shop"))
        assert flows.ending == ["shop"]


async def test_what_can_not_be_read_is_reported_by_namespace_and_window(
    client: Client, api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await api.create(NAMESPACES, None, {"metadata": {"name": "shop"}})
    await annotate(api, {**WEEKEND, "cron": "fridays"}, {**WEEKEND, "name": "good"})
    async with following(client, Flows()) as windows:
        found = windows.of("shop")
        assert names(found) == ["of-settings", "good"]
        said = "annotation apps.triton.io/freeze-windows of namespace shop can't be read and holds nothing back: "
        assert found.unread.startswith(f"{said}window 1 (weekend): cron: needs five fields")
        assert found.unread in caplog.text
        await annotate(api, WEEKEND)
        await until(lambda: windows.of("shop").unread == "")


async def test_without_rights_windows_of_settings_hold_and_it_is_said_once_until_the_rights_are_there(
    client: Client, api: Client, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    await api.create(NAMESPACES, None, {"metadata": {"name": "shop"}})
    await annotate(api, WEEKEND)
    checks = 0

    async def refuse(_: web.Request) -> web.Response:
        nonlocal checks
        checks += 1
        return refusal(403, "Forbidden", FORBIDDEN)

    trouble.meddle = refuse
    async with following(client, Flows()) as windows:
        assert names(windows.of("shop")) == ["of-settings"]
        await until(lambda: checks > 3)
        assert caplog.text.count("freeze windows in annotations of Namespaces do not apply") == 1
        assert caplog.text.count("watch of namespaces: ") == 1
        trouble.meddle = None
        await until(lambda: names(windows.of("shop")) == ["of-settings", "weekend"])
