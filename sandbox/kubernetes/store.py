"""Objects in memory under one growing resourceVersion, with the history that watches start from.

The cost that matters is a pod's status update with several watchers on it: the object is serialised once, on
first use, and the same bytes go to every reader. Objects handed in become the store's own and must not be
changed afterwards. Nothing survives the process: this is for trying and testing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from shared.clock import now_milliseconds
from shared.domain.json_types import Json

from .objects import encode, owner_uids, with_metadata


def first_version() -> int:
    """Return the first version: the time in milliseconds, so that those of an earlier sandbox on the same port are too
    old for this one, and clients that come back list again.
    """
    return now_milliseconds()


HISTORY_EVENTS = 10_000
"""Events a resource keeps for watches to start from: several minutes of a busy test, some 30 MB of pods at
worst."""


class Record:
    """One version of one object, with its JSON bytes made on first use."""

    __slots__ = ("_data", "obj", "version")

    def __init__(self, obj: Json, version: int) -> None:
        self.obj = obj
        self.version = version
        self._data: bytes | None = None

    @property
    def data(self) -> bytes:
        if self._data is None:
            self._data = encode(self.obj)
        return self._data


class Event:
    """A change: ADDED, MODIFIED or DELETED, the object after it (for DELETED: at its end) and the one
    before.
    """

    __slots__ = ("_lines", "before", "kind", "record")

    def __init__(self, kind: str, record: Record, before: Record | None) -> None:
        self.kind = kind
        self.record = record
        self.before = before
        self._lines: dict[str, bytes] = {}

    def line(self, kind: str) -> bytes:
        """Return the event's line in a watch; `kind` differs from the event's own where a selector hides one side."""
        line = self._lines.get(kind)
        if line is None:
            line = self._lines[kind] = b'{"type":"%b","object":%b}\n' % (
                kind.encode(),
                self.seen_as(kind).data,
            )
        return line

    def seen_as(self, kind: str) -> Record:
        """Return the record to show: for an object that left a selector its last state inside, under the new version."""
        if kind == "DELETED" and self.kind != "DELETED" and self.before is not None:
            return Record(
                with_metadata(self.before.obj, resourceVersion=str(self.record.version)), self.record.version
            )
        return self.record


class ObjectKey(NamedTuple):
    """The place of an object: the resource's key (`pods`, `clonesets.apps.kruise.io`), namespace and name."""

    resource: str
    namespace: str
    name: str


Listener = Callable[[Event], None]


class Collection:
    """All objects of one resource."""

    def __init__(self, key: str, version: int, history: int) -> None:
        self.key = key
        self.namespaces: dict[str, dict[str, Record]] = {}
        self.history: deque[Event] = deque(maxlen=history)
        self.forgotten = version
        self.listeners: list[Listener] = []

    def get(self, namespace: str, name: str) -> Record | None:
        return self.namespaces.get(namespace, {}).get(name)

    def records(self, namespace: str = "") -> Iterator[Record]:
        """Return the records of a namespace, or of all when none is named, in no particular order."""
        if namespace:
            return iter(list(self.namespaces.get(namespace, {}).values()))
        return (record for names in list(self.namespaces.values()) for record in list(names.values()))

    def ordered(self, namespace: str = "") -> list[Record]:
        """Return the records by namespace and name, the order of lists and pages."""
        scopes = [namespace] if namespace else sorted(self.namespaces)
        return [record for scope in scopes for _, record in sorted(self.namespaces.get(scope, {}).items())]

    def since(self, version: int) -> Iterable[Event] | None:
        """Return the events after a version, or None when some of them are forgotten."""
        if version < self.forgotten:
            return None
        return [event for event in self.history if event.record.version > version]

    def notify(self, event: Event) -> None:
        if self.history.maxlen == len(self.history) and self.history:
            self.forgotten = self.history[0].record.version
        self.history.append(event)
        for listener in list(self.listeners):
            listener(event)


class Store:
    """The collections, the version counter, and who owns whom."""

    def __init__(self, history: int = HISTORY_EVENTS) -> None:
        self.version = self._first = first_version()
        self._history = history
        self._collections: dict[str, Collection] = {}
        self.places: dict[str, ObjectKey] = {}
        self._dependents: dict[str, dict[str, ObjectKey]] = {}

    def collection(self, key: str) -> Collection:
        found = self._collections.get(key)
        if found is None:
            found = self._collections[key] = Collection(key, self._first, self._history)
        return found

    def get(self, key: str, namespace: str, name: str) -> Record | None:
        return self.collection(key).get(namespace, name)

    def at(self, place: ObjectKey) -> Record | None:
        return self.collection(place.resource).get(place.namespace, place.name)

    def listen(self, key: str, listener: Listener) -> None:
        """Call back inside each write: a listener only notes what to do later."""
        self.collection(key).listeners.append(listener)

    def dependents(self, uid: str, key: str | None = None) -> list[Record]:
        """Return the objects that name this uid as an owner."""
        places = self._dependents.get(uid, {}).values()
        found = [self.at(place) for place in list(places) if key is None or place.resource == key]
        return [record for record in found if record is not None]

    def put(self, key: str, obj: Json) -> Record:
        """Write an object, new or changed, under the next version."""
        self.version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self.version)}
        record = Record({**obj, "metadata": metadata}, self.version)
        collection = self.collection(key)
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        names = collection.namespaces.setdefault(namespace, {})
        before = names.get(name)
        names[name] = record
        self._index(ObjectKey(key, namespace, name), record.obj, before)
        collection.notify(Event("ADDED" if before is None else "MODIFIED", record, before))
        return record

    def remove(self, key: str, namespace: str, name: str) -> Record | None:
        """Remove an object and return its last state under the version of its deletion."""
        collection = self.collection(key)
        before = collection.namespaces.get(namespace, {}).pop(name, None)
        if before is None:
            return None
        self.version += 1
        last = Record(with_metadata(before.obj, resourceVersion=str(self.version)), self.version)
        self._unindex(before.obj)
        collection.notify(Event("DELETED", last, before))
        return last

    def _index(self, place: ObjectKey, obj: Json, before: Record | None) -> None:
        if before is not None and before.obj["metadata"].get("ownerReferences") == obj["metadata"].get(
            "ownerReferences"
        ):
            return
        if before is not None:
            self._unindex(before.obj)
        uid = obj["metadata"].get("uid", "")
        self.places[uid] = place
        for owner in owner_uids(obj):
            self._dependents.setdefault(owner, {})[uid] = place

    def _unindex(self, obj: Json) -> None:
        uid = obj["metadata"].get("uid", "")
        self.places.pop(uid, None)
        for owner in owner_uids(obj):
            siblings = self._dependents.get(owner, {})
            siblings.pop(uid, None)
            if not siblings:
                self._dependents.pop(owner, None)
