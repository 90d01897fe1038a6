"""Garbage collection: what belongs to a deleted object goes too.

Runs in the background as in Kubernetes: the owner is gone first, its dependents follow a moment later. An owner that
is deleted in the foreground waits for the dependents that name it with `blockOwnerDeletion`.
"""

from __future__ import annotations

import asyncio

from shared.domain.json_types import Json

from .api import Api
from .errors import ApiError
from .objects import is_terminating, name_of, namespace_of, owner_uids, uid_of, with_metadata
from .resources import Resource
from .store import Event, Record

SOON_SECONDS = 0.01
RETRY_SECONDS = 1.0
"""Until a deletion that was refused is tried again."""

_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"


class GarbageCollector:
    """Watches everything for owners that go."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._owners: dict[str, None] = {}
        self._orphans: dict[str, None] = {}
        self._held: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._listening: set[str] = set()
        self.listen()

    def listen(self) -> None:
        """Listen to every resource, those added since the last call included."""
        for resource in self._api.registry:
            if resource.key not in self._listening:
                self._listening.add(resource.key)
                self._api.store.listen(resource.key, self._changed)

    def _changed(self, event: Event) -> None:
        obj = event.record.obj
        if obj["kind"] == "CustomResourceDefinition":
            self.listen()
        if event.kind == "DELETED":
            self._owners[uid_of(obj)] = None
            for owner in owner_uids(obj):
                self._held[owner] = None
        elif event.kind == "ADDED" and any(owner not in self._api.store.places for owner in owner_uids(obj)):
            self._orphans[uid_of(obj)] = None
        elif event.before is not None and (freed := _owners_removed(event.before.obj, obj)):
            self._held.update(dict.fromkeys(freed))
        elif is_terminating(obj) and {_FOREGROUND, _ORPHAN} & set(obj["metadata"].get("finalizers") or ()):
            self._held[uid_of(obj)] = None
        else:
            return
        self._wake(SOON_SECONDS)

    def _wake(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() <= loop.time() + seconds:
            return
        self.close()
        self._timer = loop.call_later(seconds, self._work)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _work(self) -> None:
        self._timer = None
        owners, self._owners = self._owners, {}
        for uid in owners:
            for record in self._api.store.dependents(uid):
                self._drop(record)
        orphans, self._orphans = self._orphans, {}
        for uid in orphans:
            place = self._api.store.places.get(uid)
            if place and (orphan := self._api.store.at(place)):
                self._drop(orphan)
        held, self._held = self._held, {}
        for uid in held:
            self._release(uid)

    def _resource(self, obj: Json) -> Resource | None:
        group, _, version = obj["apiVersion"].rpartition("/")
        return next(
            (
                resource
                for resource in self._api.registry.of_version(group, version)
                if resource.kind == obj["kind"]
            ),
            None,
        )

    def _delete(self, record: Record, body: Json | None = None) -> None:
        """Delete an object; try it again later where that is refused."""
        resource = self._resource(record.obj)
        if resource is None or is_terminating(record.obj):
            return
        try:
            self._api.delete(resource, namespace_of(record.obj), name_of(record.obj), body)
        except ApiError:
            self._orphans[uid_of(record.obj)] = None
            self._wake(RETRY_SECONDS)

    def _drop(self, record: Record) -> None:
        """Delete a dependent, unless another of its owners stays: then only take the one that goes from its list."""
        owners = record.obj["metadata"].get("ownerReferences") or []
        staying = [owner for owner in owners if self._stays(owner["uid"])]
        if not staying:
            own = self._api.store.dependents(uid_of(record.obj))
            waiting = any(owner["uid"] in self._api.store.places for owner in owners)
            self._delete(record, {"propagationPolicy": "Foreground"} if own and waiting else None)
        elif len(staying) < len(owners):
            self._put_owners(record, staying)

    def _stays(self, uid: str) -> bool:
        """Return whether an owner exists and is not itself waiting for the end of its dependents."""
        place = self._api.store.places.get(uid)
        owner = self._api.store.at(place) if place else None
        return owner is not None and not (
            is_terminating(owner.obj) and _FOREGROUND in (owner.obj["metadata"].get("finalizers") or ())
        )

    def _release(self, uid: str) -> None:
        """Finish the deletion of an owner that waited for its dependents to be deleted or set free."""
        place = self._api.store.places.get(uid)
        owner = self._api.store.at(place) if place else None
        if place is None or owner is None or not is_terminating(owner.obj):
            return
        finalizers = owner.obj["metadata"].get("finalizers") or []
        if _ORPHAN in finalizers:
            for record in self._api.store.dependents(uid):
                self._set_free(record, uid)
        elif _FOREGROUND in finalizers:
            for record in self._api.store.dependents(uid):
                self._drop(record)
            if any(_blocks(record, uid) for record in self._api.store.dependents(uid)):
                return
        else:
            return
        left = [name for name in finalizers if name not in (_ORPHAN, _FOREGROUND)]
        resource = self._resource(owner.obj)
        if resource is not None:
            self._api.patch(
                resource,
                place.namespace,
                place.name,
                lambda live: with_metadata(live, finalizers=left or None),
            )

    def _set_free(self, record: Record, uid: str) -> None:
        owners = record.obj["metadata"]["ownerReferences"]
        self._put_owners(record, [owner for owner in owners if owner["uid"] != uid])

    def _put_owners(self, record: Record, owners: list[Json]) -> None:
        place = self._api.store.places[uid_of(record.obj)]
        self._api.store.put(place.resource, with_metadata(record.obj, ownerReferences=owners or None))


def _blocks(dependent: Record, uid: str) -> bool:
    owners = dependent.obj["metadata"].get("ownerReferences") or ()
    return any(owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in owners)


def _owners_removed(before: Json, after: Json) -> set[str]:
    if before["metadata"].get("ownerReferences") == after["metadata"].get("ownerReferences"):
        return set()
    return set(owner_uids(before)) - set(owner_uids(after))
