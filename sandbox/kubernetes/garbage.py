"""Garbage collection: what belongs to a deleted object goes too, and what is in a deleted namespace.

Runs in the background as in Kubernetes: the owner is gone first, its dependents follow a moment later.
"""

from __future__ import annotations

import asyncio

from shared.domain.json_types import Json

from .api import Api
from .builtins import NAMESPACES, PODS
from .objects import is_terminating, name_of, namespace_of, owner_uids, uid_of, with_metadata
from .resources import Resource
from .store import Event, Record

SOON_SECONDS = 0.01
_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"


class GarbageCollector:
    """Watches everything for owners that go."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._owners: dict[str, None] = {}
        self._orphans: dict[str, None] = {}
        self._held: dict[str, None] = {}
        self._namespaces: dict[str, None] = {}
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
            if is_terminating(obj) or namespace_of(obj):
                self._namespaces[namespace_of(obj)] = None
        elif event.kind == "ADDED" and any(owner not in self._api.store.places for owner in owner_uids(obj)):
            self._orphans[uid_of(obj)] = None
        elif is_terminating(obj):
            if obj["kind"] == "Namespace":
                self._namespaces[name_of(obj)] = None
            elif {_FOREGROUND, _ORPHAN} & set(obj["metadata"].get("finalizers") or ()):
                self._held[uid_of(obj)] = None
            else:
                return
        else:
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON_SECONDS, self._work)

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
        names, self._namespaces = self._namespaces, {}
        for name in names:
            self._empty(name)

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
        resource = self._resource(record.obj)
        if resource is not None and not is_terminating(record.obj):
            self._api.delete(resource, namespace_of(record.obj), name_of(record.obj), body)

    def _drop(self, record: Record) -> None:
        """Delete a dependent, unless another of its owners still exists."""
        if not any(owner in self._api.store.places for owner in owner_uids(record.obj)):
            self._delete(record)

    def _release(self, uid: str) -> None:
        """Finish the deletion of an owner that waited for its dependents to be deleted or set free."""
        place = self._api.store.places.get(uid)
        owner = self._api.store.at(place) if place else None
        if place is None or owner is None or not is_terminating(owner.obj):
            return
        finalizers = owner.obj["metadata"].get("finalizers") or []
        dependents = self._api.store.dependents(uid)
        if _ORPHAN in finalizers:
            for record in dependents:
                self._set_free(record, uid)
        elif _FOREGROUND in finalizers:
            for record in dependents:
                self._delete(record, {"propagationPolicy": "Background"})
            if self._api.store.dependents(uid):
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
        place = self._api.store.places[uid_of(record.obj)]
        others = [owner for owner in record.obj["metadata"]["ownerReferences"] if owner["uid"] != uid]
        self._api.store.put(place.resource, with_metadata(record.obj, ownerReferences=others or None))

    def _empty(self, namespace: str) -> None:
        """Delete the contents of a terminating namespace, and then the namespace."""
        space = self._api.store.get(NAMESPACES.key, "", namespace)
        if space is None or not is_terminating(space.obj):
            return
        left = 0
        for resource in self._api.registry:
            for record in (
                self._api.store.collection(resource.key).records(namespace) if resource.namespaced else ()
            ):
                self._delete(record, {"gracePeriodSeconds": 0} if resource is not PODS else None)
                left += self._api.store.get(resource.key, namespace, name_of(record.obj)) is not None
        if not left:
            self._api.store.remove(NAMESPACES.key, "", namespace)
