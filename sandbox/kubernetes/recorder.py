"""Core/v1 Events: the diary that `kubectl describe` shows, bounded so that a long test does not fill the
memory.
"""

from __future__ import annotations

from collections import deque

from shared.domain.json_types import Json

from .builtins import EVENTS, NAMESPACES
from .objects import is_terminating, timestamp
from .store import Event, Store

KEPT = 2_000
"""Events kept; older ones go first. Real clusters forget theirs after an hour."""


class Recorder:
    """Writes Events; one that is repeated raises the count of the first."""

    def __init__(self, store: Store, kept: int = KEPT) -> None:
        self._store = store
        self._kept = kept
        self._order: deque[tuple[str, str]] = deque()
        self._number = 0
        store.listen(EVENTS.key, self._note)

    def _note(self, event: Event) -> None:
        """Keep the order of all Events, of those that others create too."""
        if event.kind == "ADDED":
            metadata = event.record.obj["metadata"]
            self._order.append((metadata["namespace"], metadata["name"]))

    def about(
        self, obj: Json, reason: str, message: str, kind: str = "Normal", component: str = "kubelet"
    ) -> None:
        """Record an event about an object; do nothing when no events are kept, or its namespace goes."""
        metadata = obj["metadata"]
        namespace = metadata.get("namespace", "default")
        space = self._store.get(NAMESPACES.key, "", namespace)
        if not self._kept or space is None or is_terminating(space.obj):
            return
        name = f"{metadata['name']}.{reason.lower()}.{metadata['uid'][:13]}"
        before = self._store.get(EVENTS.key, namespace, name)
        now = timestamp()
        if before is not None and before.obj["message"] == message:
            self._store.put(
                EVENTS.key, {**before.obj, "count": before.obj["count"] + 1, "lastTimestamp": now}
            )
            return
        if before is not None:
            self._number += 1
            name = f"{name}.{self._number:x}"
        self._store.put(
            EVENTS.key,
            {
                "kind": "Event",
                "apiVersion": "v1",
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "uid": f"event-{name}",
                    "creationTimestamp": now,
                },
                "involvedObject": {
                    "kind": obj["kind"],
                    "namespace": namespace,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "apiVersion": obj["apiVersion"],
                    "resourceVersion": metadata.get("resourceVersion", ""),
                },
                "reason": reason,
                "message": message,
                "type": kind,
                "count": 1,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "source": {"component": component},
                "reportingComponent": component,
                "reportingInstance": "",
            },
        )
        while len(self._order) > self._kept:
            self._store.remove(EVENTS.key, *self._order.popleft())
