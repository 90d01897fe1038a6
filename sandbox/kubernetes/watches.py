"""One client's watch: which events it sees and in what shape, and when the server has had enough of it.

A watch is a promise to deliver every event after a version. Where that promise cannot be kept (the history is
forgotten, the reader is too slow) the watch ends, and the client has to list again: the buffer is never
unbounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from shared.domain.json_types import Json

from .errors import ApiError, expired
from .objects import encode
from .selectors import FieldSelector, Selector, fields_match, matches
from .store import Collection, Event, Record, Store

BUFFER_BYTES = 8 * 1024 * 1024
"""The most bytes that wait for a slow reader before its watch is closed: some 3,000 pods."""

_NO_LABELS: Mapping[str, str] = {}


class Scope:
    """The objects of a list or a watch."""

    def __init__(self, namespace: str = "", labels: Selector = (), fields: FieldSelector = ()) -> None:
        self.namespace = namespace
        self.labels = labels
        self.fields = fields
        self.everything = not labels and not fields

    def includes(self, obj: Json) -> bool:
        if self.everything:
            return True
        return matches(self.labels, obj["metadata"].get("labels") or _NO_LABELS) and fields_match(
            self.fields, obj
        )

    def view(self, event: Event) -> str | None:
        """Return the event as this scope sees it, None where it does not see it."""
        if self.namespace and event.record.obj["metadata"].get("namespace", "") != self.namespace:
            return None
        if self.everything:
            return event.kind
        before = event.before is not None and self.includes(event.before.obj)
        after = event.kind != "DELETED" and self.includes(event.record.obj)
        if after:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else None


Render = Callable[[str, Record], bytes]
"""Makes a watch line out of an event's kind and object, where it is not the object itself (tables)."""


class Watch:
    """Lines waiting to be sent to one reader."""

    def __init__(
        self, store: Store, collection: Collection, scope: Scope, render: Render | None = None
    ) -> None:
        self._store = store
        self._collection = collection
        self._scope = scope
        self._render = render
        self._pending: list[bytes] = []
        self._size = 0
        self._wake = asyncio.Event()
        self.closed = False

    def start(self, version: int | None) -> None:
        """Start from the events after a version, or, with None, from the current objects (as ADDED events)."""
        if version is None:
            for record in self._collection.ordered(self._scope.namespace):
                if self._scope.includes(record.obj):
                    self._append(self._line("ADDED", Event("ADDED", record, None)))
        else:
            self._replay(version)
        self._collection.listeners.append(self._offer)

    def _replay(self, version: int) -> None:
        events = self._collection.since(version)
        if events is None or version > self._store.version:
            raise expired(f"too old resource version: {version} ({self._collection.forgotten})")
        for event in events:
            self._offer(event)

    def _offer(self, event: Event) -> None:
        kind = self._scope.view(event)
        if kind is not None:
            self._append(self._line(kind, event))

    def _line(self, kind: str, event: Event) -> bytes:
        return event.line(kind) if self._render is None else self._render(kind, event.seen_as(kind))

    def _append(self, line: bytes) -> None:
        self._pending.append(line)
        self._size += len(line)
        self._wake.set()
        if self._size > BUFFER_BYTES:
            self.stop()

    def bookmark(self, kind: str, api_version: str, initial_end: bool = False) -> None:
        """Report to the reader the version reached, also when none of its own objects changed."""
        metadata: Json = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
        self._append(encode({"type": "BOOKMARK", "object": obj}) + b"\n")

    async def lines(self, seconds: float) -> bytes:
        """Return what there is to send, after waiting at most `seconds`; empty where nothing came."""
        if not self._pending and not self.closed:
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                return b""
        chunk = b"".join(self._pending)
        self._pending.clear()
        self._size = 0
        self._wake.clear()
        return chunk

    def stop(self) -> None:
        self.closed = True
        self._wake.set()
        if self._offer in self._collection.listeners:
            self._collection.listeners.remove(self._offer)


def error_line(error: ApiError) -> bytes:
    """Return the event by which a started watch reports that it can't continue."""
    return encode({"type": "ERROR", "object": error.status()}) + b"\n"
