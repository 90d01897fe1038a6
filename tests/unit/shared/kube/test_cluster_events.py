"""The cluster's own Events about our objects, on a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from shared.domain.json_types import Json
from shared.domain.messages import AppRef, ClusterEvent, FlowRef
from shared.kube.client import EVENTS, Client
from shared.kube.cluster_events import ClusterEvents, Involved, Subject
from shared.messaging import background_publisher
from tests.unit.parts import KEY, BackgroundPublisher, until

FLOW = FlowRef(name="web-2", uid="flow-2", batch=1)
APP = AppRef(name="shop", app_id=1, group_id=2)


def event(name: str, about: str = "web-1", *, kind: str = "Pod", count: int = 1, **more: object) -> Json:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": kind, "name": about, "namespace": "default", "uid": f"uid-{about}"},
        "reason": "BackOff",
        "message": "Back-off restarting failed container",
        "type": "Warning",
        "count": count,
        "lastTimestamp": "2026-01-01T00:00:07Z",
        "source": {"component": "kubelet"},
        **more,
    }


class Watcher:
    def __init__(self, client: Client) -> None:
        self.known = {"uid-web-1"}
        self.owned = True
        self.lookups = 0
        self._outgoing = BackgroundPublisher()
        self.events = ClusterEvents(
            client,
            "Pod",
            self._find,
            lambda _: self.owned,
            cast("background_publisher.BackgroundPublisher", self._outgoing),
            namespaces=["default"],
            silence_seconds=30,
        )

    def _find(self, about: Involved) -> Subject | None:
        self.lookups += 1
        return Subject(KEY, FLOW, APP) if about.uid in self.known else None

    @property
    def messages(self) -> list[ClusterEvent]:
        return cast("list[ClusterEvent]", self._outgoing.messages)


@asynccontextmanager
async def watching(client: Client) -> AsyncIterator[Watcher]:
    watcher = Watcher(client)
    task = asyncio.create_task(watcher.events.run())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_there_and_what_comes_is_told_with_what_it_is_about(client: Client) -> None:
    async with watching(client) as watcher:
        await client.create(EVENTS, "default", event("one"))
        watcher.events.assigned()
        await until(lambda: len(watcher.messages) == 1)
        await client.create(EVENTS, "default", event("two", type="Normal", reason="Killing"))
        await until(lambda: len(watcher.messages) == 2)
        one, two = watcher.messages
        assert (one.key, one.kind, one.name, one.uid) == (KEY, "Pod", "web-1", "uid-web-1")
        assert (one.reason, one.warning, one.component, one.count) == ("BackOff", True, "kubelet", 1)
        assert (one.flow, one.app) == (FLOW, APP)
        assert (two.reason, two.warning) == ("Killing", False)


async def test_an_event_that_is_seen_again_is_told_again_and_no_other(client: Client) -> None:
    async with watching(client) as watcher:
        watcher.events.assigned()
        await client.create(EVENTS, "default", event("one"))
        await until(lambda: len(watcher.messages) == 1)
        await client.patch(EVENTS, "default", "one", {"count": 2})
        await until(lambda: len(watcher.messages) == 2)
        assert [message.count for message in watcher.messages] == [1, 2]
        assert len({message.id for message in watcher.messages}) == 2


async def test_an_event_may_come_before_its_pod_is_known_and_others_are_not_ours(client: Client) -> None:
    async with watching(client) as watcher:
        watcher.events.assigned()
        await client.create(EVENTS, "default", event("theirs", "other", kind="Node"))
        await client.create(EVENTS, "default", event("nobodys", "stranger"))
        await client.create(EVENTS, "default", event("early", "web-2"))
        await client.create(EVENTS, "default", event("known"))
        await until(lambda: len(watcher.messages) == 1)
        watcher.known.add("uid-web-2")
        await until(lambda: len(watcher.messages) == 2)
        assert [message.name for message in watcher.messages] == ["web-1", "web-2"]


async def test_what_was_another_replicas_is_told_when_it_becomes_ours_with_the_same_ids(
    client: Client,
) -> None:
    async with watching(client) as watcher:
        watcher.owned = False
        watcher.events.assigned()
        await client.create(EVENTS, "default", event("one"))
        await client.create(EVENTS, "default", event("two"))
        await until(lambda: watcher.lookups == 2)
        watcher.owned = True
        watcher.events.assigned()
        await until(lambda: len(watcher.messages) == 2)
        watcher.events.assigned()
        await until(lambda: len(watcher.messages) == 4)
        assert len({message.id for message in watcher.messages}) == 2
