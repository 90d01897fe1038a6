"""The cluster's own Events about our objects, for the log: FailedScheduling, BackOff, Killing and the like.

There are more Events than objects, and none is read twice: they are passed on and not kept. An Event may arrive
before its object is known, so it waits a moment for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

from shared.clock import now_milliseconds
from shared.domain.messages import AppRef, ClusterEvent, FlowRef
from shared.domain.topics import Key
from shared.kube.client import EVENTS, PAGE, Client
from shared.kube.reflector import Meta, Reflector, milliseconds
from shared.messaging.background_publisher import BackgroundPublisher

PATIENCE_SECONDS: Final = 10.0
"""How long an Event waits for its object to be known."""
CHECK_SECONDS: Final = 1.0
WAITING: Final = 10_000
"""Events of objects that are not known; most of them are not ours."""
LONGEST_MESSAGE: Final = 2_000
LONGEST_NAME: Final = 253
FOR_THE_LOG: Final = 5_000
"""How many messages that only the log needs wait for Kafka; in a queue of their own, so that no release waits for
them.
"""


class Involved(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""


class Series(msgspec.Struct, rename="camel", frozen=True):
    count: int = 0
    last_observed_time: str | None = None


class Source(msgspec.Struct, frozen=True):
    component: str = ""


class Event(msgspec.Struct, rename="camel", frozen=True):
    metadata: Meta
    involved_object: Involved
    reason: str = ""
    message: str = ""
    type: str = ""
    count: int | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    series: Series | None = None
    source: Source | None = None
    reporting_component: str = ""

    @property
    def times(self) -> int:
        """Return how often it has occurred."""
        return (self.series.count if self.series else 0) or self.count or 1

    @property
    def at(self) -> int:
        """Return when it occurred last, in ms."""
        series = self.series.last_observed_time if self.series else None
        made = self.metadata.creation_timestamp
        return milliseconds(series or self.last_timestamp or self.event_time or made)

    @property
    def writer(self) -> str:
        return self.reporting_component or (self.source.component if self.source else "")


class Subject(NamedTuple):
    """The instance, release and application that an Event's object belongs to."""

    key: Key
    flow: FlowRef | None
    app: AppRef


class ClusterEvents:
    """Publishes the Events about our objects of a kind. `find`: None for one that is not known.

    `noticed` is called with each that is published.
    """

    def __init__(
        self,
        client: Client,
        kind: Literal["Pod", "CloneSet"],
        find: Callable[[Involved], Subject | None],
        owns: Callable[[Key], bool],
        outgoing: BackgroundPublisher,
        *,
        namespaces: list[str],
        silence_seconds: float,
        noticed: Callable[[ClusterEvent], None] = lambda _: None,
    ) -> None:
        self._noticed = noticed
        self._kind: Literal["Pod", "CloneSet"] = kind
        self._find = find
        self._owns = owns
        self._outgoing = outgoing
        self._assigned = asyncio.Event()
        self._waiting: deque[tuple[float, Event]] = deque(maxlen=WAITING)
        self._watch = _Passing(
            client,
            EVENTS,
            Event,
            self._passes,
            namespaces=namespaces,
            fields=f"involvedObject.kind={kind}",
            silence_seconds=silence_seconds,
        )

    def assigned(self) -> None:
        """List again after a rebalance: Events of newly owned instances may be missing. Their ids make it harmless."""
        self._assigned.set()

    async def run(self) -> None:
        while True:
            await self._assigned.wait()
            self._assigned.clear()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._watch.run()), group.create_task(self._retry_waiting())]
                await self._assigned.wait()
                for task in tasks:
                    task.cancel()

    async def _retry_waiting(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now = time.monotonic()
            for _ in range(len(self._waiting)):
                until, event = self._waiting.popleft()
                if not self._publish(event) and now < until:
                    self._waiting.append((until, event))

    def _passes(self, _: Event | None, event: Event | None) -> None:
        if event is not None and not self._publish(event):
            self._waiting.append((time.monotonic() + PATIENCE_SECONDS, event))

    def _publish(self, event: Event) -> bool:
        """Publish the Event if its object is owned here; return False while its object is not known."""
        about = event.involved_object
        subject = self._find(about)
        if subject is None:
            return False
        if self._owns(subject.key):
            at, seen = event.at, now_milliseconds()
            message = ClusterEvent(
                namespace=subject.key.namespace,
                instance=subject.key.instance,
                id=f"{event.metadata.uid}:{event.times}",
                at=min(seen, at + 999 if at % 1000 == 0 else at),
                kind=self._kind,
                name=about.name[:LONGEST_NAME],
                uid=about.uid,
                flow=subject.flow,
                app=subject.app,
                warning=event.type == "Warning",
                reason=event.reason[:LONGEST_NAME],
                message=event.message[:LONGEST_MESSAGE],
                component=event.writer[:LONGEST_NAME],
                count=event.times,
            )
            self._outgoing.put(message)
            self._noticed(message)
        return True


class _Passing(Reflector[Event]):
    """A reflector that keeps nothing: it reports each object as it passes, once for each change."""

    async def _list(self, namespace: str | None) -> str:
        query = {**self._query, "limit": str(PAGE)}
        while True:
            page = self._objects.page(await self._client.list_page(self._resource, namespace, query))
            for item in page.items:
                self._apply(item)
            if not page.metadata.next_page:
                break
            query["continue"] = page.metadata.next_page
        self._reached[namespace] = page.metadata.resource_version
        return page.metadata.resource_version

    def _apply(self, item: Event) -> None:
        self._report(None, item)

    def _forget(self, item: Event) -> None:
        """Do nothing: the cluster deletes its Events after an hour, the log keeps them."""
