"""The end of a deleted namespace: it is Terminating for a while, then its pods go, then the rest, then itself.

As on a real cluster the content is still there and works at first, while nothing new can be created; and as long as
a pod is held by a finalizer, nothing else is deleted at all.
"""

from __future__ import annotations

import asyncio
import contextlib

from .api import Api
from .builtins import NAMESPACES, PODS
from .errors import ApiError
from .objects import is_terminating, name_of
from .resources import Resource
from .store import Event

GRACE_SECONDS = 1.0
"""From the deletion of a namespace to that of its first object; 5 s on a real cluster."""

RETRY_SECONDS = 0.25
"""Between two looks at what is left; a real cluster waits up to half of the pods' grace period."""


class NamespaceController:
    """Empties and removes the namespaces that are marked for deletion."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._timers: dict[str, asyncio.TimerHandle] = {}
        api.store.listen(NAMESPACES.key, self._changed)

    def _changed(self, event: Event) -> None:
        name = name_of(event.record.obj)
        if event.kind != "DELETED" and is_terminating(event.record.obj) and name not in self._timers:
            self._later(name, GRACE_SECONDS)

    def _later(self, name: str, seconds: float) -> None:
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, self._work, name)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def _work(self, name: str) -> None:
        self._timers.pop(name)
        space = self._api.store.get(NAMESPACES.key, "", name)
        if space is None:
            return
        others = [resource for resource in self._api.registry if resource.namespaced and resource is not PODS]
        is_empty = self._emptied([PODS], name) and self._emptied(others, name)
        if is_empty and not space.obj["metadata"].get("finalizers"):
            self._api.store.remove(NAMESPACES.key, "", name)
        else:
            self._later(name, RETRY_SECONDS)

    def _emptied(self, resources: list[Resource], namespace: str) -> bool:
        """Delete all objects of these resources; return whether none is left."""
        collections = [(resource, self._api.store.collection(resource.key)) for resource in resources]
        for resource, collection in collections:
            for record in collection.records(namespace):
                if not is_terminating(record.obj):
                    with contextlib.suppress(
                        ApiError
                    ):  # one that is refused is tried again, as all that is left
                        self._api.delete(resource, namespace, name_of(record.obj))
        return not any(next(collection.records(namespace), None) for _, collection in collections)
