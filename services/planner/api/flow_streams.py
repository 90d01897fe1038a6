"""Open streams: each gets the state of the releases that it watches, at once and after every change.

A change of an instance is read once, however many watch it, and every stream keeps only the newest state of each
release that it has not sent yet: one that is never read costs no more than one that is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from services.planner.api.flow_queries import FlowFilter, FlowQueries
from services.planner.runtime.flow_cache import FlowCache
from shared.domain.json_types import Json
from shared.domain.record import Record
from shared.domain.topics import PHASE_EVENTS, Key
from shared.errors import Unavailable
from shared.messaging.coalescing_queue import CoalescingQueue

AFTER_POD_SECONDS: Final = 0.1
"""The time from an event of a pod until the state that the planner derives from it can be read."""
RECHECK_SECONDS: Final = 5.0
"""How often the watched releases are read without any event."""

_log = logging.getLogger(__name__)


class FlowStream:
    """The stream of one caller: iterate for the changes, until the release (`uid`, "" for all that fit) is deleted."""

    def __init__(self, fits: Callable[[Json], bool], uid: str = "") -> None:
        self.uid = uid
        self._fits = fits
        self._pending: dict[str, Json] = {}
        self._sent: dict[str, str] = {}
        """The fingerprint of the last state of each release, by uid."""
        self._news = asyncio.Event()
        self._deleted = False

    def put(self, flow: Json, state: str) -> None:
        uid = flow["metadata"]["uid"]
        if self._sent.get(uid) != state and self._fits(flow):
            self._pending[uid] = flow
            self._sent[uid] = state
            self._news.set()

    def gone(self, uid: str) -> None:
        """Record that the release is deleted."""
        self._sent.pop(uid, None)
        if uid == self.uid:
            self._deleted = True
            self._news.set()

    async def is_quiet_for(self, seconds: float) -> bool:
        """Wait for news; return True when none came within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return True
        return False

    def __aiter__(self) -> AsyncIterator[Json]:
        return self

    async def __anext__(self) -> Json:
        await self._news.wait()
        if not self._pending:
            raise StopAsyncIteration
        flow = self._pending.pop(next(iter(self._pending)))
        if not self._pending and not self._deleted:
            self._news.clear()
        return flow


class FlowStreams:
    """All open streams of this replica."""

    def __init__(self, flow_queries: FlowQueries, flows: FlowCache) -> None:
        self._flow_queries = flow_queries
        self._flows = flows
        self._of: dict[Key, set[FlowStream]] = {}
        self._of_all: set[FlowStream] = set()
        self._listed: dict[str, str] = {}
        """The fingerprint of the last state that streams of all have sent of each release, by uid."""
        self._finished: set[str] = set()
        """The uids of releases whose end was sent."""
        self._marks = CoalescingQueue(self._send)
        flows.changed = self._changed

    def __len__(self) -> int:
        return len(self._of_all) + sum(len(streams) for streams in self._of.values())

    @contextmanager
    def of(self, flow: Json) -> Iterator[FlowStream]:
        """Open a stream of one release, which begins with the state passed."""
        uid = flow["metadata"]["uid"]
        key = Key(flow["metadata"]["namespace"], flow["spec"]["application"]["instanceName"])
        stream = FlowStream(lambda other: bool(other["metadata"]["uid"] == uid), uid)
        stream.put(flow, _fingerprint(flow))
        self._of.setdefault(key, set()).add(stream)
        try:
            # what has changed since it was read
            self._marks.mark(key)
            yield stream
        finally:
            self._of[key].discard(stream)
            if not self._of[key]:
                del self._of[key]

    @contextmanager
    def of_all(self, wanted: FlowFilter) -> Iterator[FlowStream]:
        """Open a stream of all changes that match, from now on; then list them and call `listed`."""
        stream = FlowStream(wanted.matches)
        self._of_all.add(stream)
        try:
            yield stream
        finally:
            self._of_all.discard(stream)
            if not self._of_all:
                self._listed.clear()

    def listed(self, flows: list[Json]) -> None:
        """Record that these were sent to a stream of all: only their changes are sent from now on."""
        for flow in flows:
            self._listed.setdefault(flow["metadata"]["uid"], _fingerprint(flow))

    def receive(self, record: Record) -> None:
        """Note the change that a record of Kafka reports."""
        key = Key.parse(record.key)
        if not self._watched(key):
            return
        if record.topic == PHASE_EVENTS:
            asyncio.get_running_loop().call_later(AFTER_POD_SECONDS, self._changed, key)
        else:
            self._marks.mark(key)

    def recheck_all(self) -> None:
        """Read all watched releases: an event may have been missed."""
        for key in self._of:
            self._marks.mark(key)
        if self._of_all:
            for flow in self._flows.unfinished_anywhere():
                self._marks.mark(flow.key)

    async def recheck_forever(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            self.recheck_all()

    def _watched(self, key: Key) -> bool:
        return bool(self._of_all) or key in self._of

    def _changed(self, key: Key, gone: str = "") -> None:
        self._finished.discard(gone)
        if not self._watched(key):
            return
        if gone:
            self._listed.pop(gone, None)
            for stream in (*self._of.get(key, ()), *self._of_all):
                stream.gone(gone)
        self._marks.mark(key)

    async def _send(self, key: Key) -> None:
        if not self._watched(key):
            return
        try:
            # a finished release does not change any more
            flows = await self._flow_queries.of_instance(
                key, lambda flow: not flow.finished or flow.metadata.uid not in self._finished
            )
        except Unavailable as error:
            _log.warning("streams of %s: %s", key, error)
            return
        for flow in flows:
            uid, state = flow["metadata"]["uid"], _fingerprint(flow)
            if flow["status"]["finished"]:
                self._finished.add(uid)
            for stream in self._of.get(key, ()):
                stream.put(flow, state)
            if self._of_all and self._listed.get(uid) != state:
                self._listed[uid] = state
                for stream in self._of_all:
                    stream.put(flow, state)


def _fingerprint(flow: Json) -> str:
    """Return a short hash that differs between any two states that are worth sending; every stream keeps it."""
    state = msgspec.json.encode([flow["metadata"]["generation"], flow["status"]], order="sorted")
    return hashlib.blake2b(state, digest_size=16).hexdigest()
