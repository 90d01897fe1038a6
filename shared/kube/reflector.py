"""A copy of the cluster's objects that stays current: list, report the differences, watch, and again.

A watch may end at any moment, cleanly or not, or fall silent; after "410 Gone" events are missing, deletions
among them. So a watch that ends is opened again from its last version. Where that is impossible, a fresh list is
compared with the copy: of what happened in a gap only the order is lost.

An object that can't be read, or that `changed` raises for, is left out: the others are not harmed by it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
from prometheus_client import Counter

from shared.domain.json_types import Json
from shared.domain.object_bounds import count_in
from shared.errors import Unavailable
from shared.kube.client import PAGE, ApiError, Client, Resource
from shared.kube.objects import Identity, ObjectDecoder

BACKOFF_SECONDS: Final = (0.2, 10.0)
WATCH_SECONDS: Final = 300
"""The duration requested for one watch, spread so that not all end at once."""

_restarts = Counter("triton_watch_restarts_total", "Watches opened again", ["resource", "why"])
_log = logging.getLogger(__name__)


class Meta(msgspec.Struct, rename="camel", frozen=True):
    """The metadata that a reflector and most of its users need."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []


class HasMeta(Protocol):
    @property
    def metadata(self) -> Meta: ...


T = TypeVar("T", bound=HasMeta)


class _Version(msgspec.Struct, rename="camel"):
    resource_version: str


class _Bookmark(msgspec.Struct):
    metadata: _Version


class _Gone(Exception):
    pass


class Reflector(Generic[T]):
    """Keeps `items` (by uid) equal to the server's and calls `changed` for each difference.

    `changed(old, new)`: old is None for a new object, new is None for a deleted one.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        kind: type[T],
        changed: Callable[[T | None, T | None], None],
        *,
        namespaces: list[str],
        labels: str = "",
        fields: str = "",
        silence_seconds: float = 90,
        listed: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._resource = resource
        self._objects = ObjectDecoder(resource, kind)
        self._changed = changed
        self._listed = listed
        self._namespaces: list[str | None] = [*namespaces] or [None]
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        self._query = {name: selector for name, selector in selectors.items() if selector}
        self._silence = silence_seconds
        self.items: dict[str, T] = {}
        self._by_name: dict[tuple[str, str], T] = {}
        self._reached: dict[str | None, str] = {}
        """The version that each watch has reached: an unknown object of an older version was deleted."""
        self._synced: set[str | None] = set()
        self.synced = asyncio.Event()
        self._troubles = dict.fromkeys(self._namespaces, "not listed yet")
        self.follows: Callable[[str], None] = lambda _: None
        """Called with what keeps the picture from being true, and with nothing once it is."""

    def get(self, namespace: str, name: str) -> T | None:
        return self._by_name.get((namespace, name))

    def put(self, obj: Json) -> None:
        """Take in the server's answer to a write of our own, so that later reads include it."""
        item = self._objects.item(msgspec.json.encode(obj))
        if isinstance(item, Identity):
            return
        meta = item.metadata
        reached = self._reached.get(None) or self._reached.get(meta.namespace, "")
        if meta.uid in self.items or _newer(meta.resource_version, reached):
            self._apply(item)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                group.create_task(self._follow(namespace))

    async def _follow(self, namespace: str | None) -> None:
        wait = BACKOFF_SECONDS[0]
        version: str | None = None
        while True:
            before = self._reached.get(namespace)
            try:
                if version is None:
                    version = await self._list(namespace)
                version = await self._watch(namespace, version)
                _restarts.labels(self._resource.plural, "ended").inc()
                if self._reached[namespace] != before:
                    wait = BACKOFF_SECONDS[0]
                    continue
            except _Gone as error:
                _restarts.labels(self._resource.plural, "gone").inc()
                _log.info("listing %s again: %s", self._resource.plural, error)
                version = None
            except (Unavailable, ApiError, msgspec.DecodeError) as error:
                _restarts.labels(self._resource.plural, "error").inc()
                advice = _advice(error, self._resource)
                if advice != self._troubles[namespace]:
                    _log.warning("watch of %s: %s", self._resource.plural, advice)
                self._trouble(namespace, advice)
                version = None
            if self._reached.get(namespace) != before:
                wait = BACKOFF_SECONDS[0]
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, BACKOFF_SECONDS[1])

    async def _list(self, namespace: str | None) -> str:
        query = {**self._query, "limit": str(PAGE)}
        seen: dict[str, T | None] = {}
        while True:
            page = self._objects.page(await self._client.list_page(self._resource, namespace, query))
            seen |= {item.metadata.uid: item for item in page.items}
            # as it was when it could be read last
            seen |= {identity.uid: self.items.get(identity.uid) for identity in page.unread}
            if not page.metadata.next_page:
                break
            query["continue"] = page.metadata.next_page
        version = page.metadata.resource_version
        for uid, item in list(self.items.items()):
            # what we made ourselves after the list was taken is not gone
            made_since = _newer(item.metadata.resource_version, version)
            if uid not in seen and not made_since and namespace in {None, item.metadata.namespace}:
                self._forget(item)
        for listed in seen.values():
            if listed is not None:
                self._apply(listed)
        self._reached[namespace] = version
        self._synced.add(namespace)
        if len(self._synced) == len(self._namespaces):
            self.synced.set()
        self._trouble(namespace, "")
        if self._listed:
            self._listed()
        return version

    def _trouble(self, namespace: str | None, why: str) -> None:
        self._troubles[namespace] = why
        self.follows("; ".join(sorted({why for why in self._troubles.values() if why})))

    async def _watch(self, namespace: str | None, version: str) -> str:
        seconds = int(random.uniform(1, 2) * WATCH_SECONDS)
        query = {**self._query, "resourceVersion": version, "timeoutSeconds": str(seconds)}
        lines = self._client.watch(self._resource, namespace, query, silence_seconds=self._silence)
        try:
            async with aclosing(lines):
                async for line in lines:
                    if line := line.strip():
                        version = self._reached[namespace] = self._take(line) or version
        except ApiError as error:
            if error.code == 410:
                raise _Gone(str(error)) from error
            raise
        return version

    def _take(self, line: bytes) -> str:
        kind, raw = self._objects.event(line)
        match kind:
            case "ADDED" | "MODIFIED" | "DELETED":
                item = self._objects.item(raw)
                if isinstance(item, Identity):
                    known = self.items.get(item.uid)
                    if kind == "DELETED" and known is not None:
                        self._forget(known)
                    return item.resource_version
                if kind == "DELETED":
                    self._forget(item)
                else:
                    self._apply(item)
                return item.metadata.resource_version
            case "BOOKMARK":
                return msgspec.json.decode(raw, type=_Bookmark).metadata.resource_version
            case _:
                raise _Gone(bytes(raw).decode(errors="replace")[:300])

    def _apply(self, item: T) -> None:
        old = self.items.get(item.metadata.uid)
        if old is not None and not _newer(item.metadata.resource_version, old.metadata.resource_version):
            return
        self.items[item.metadata.uid] = item
        self._by_name[item.metadata.namespace, item.metadata.name] = item
        if not self._report(old, item):
            self._drop(item)

    def _forget(self, item: T) -> None:
        if (old := self._drop(item)) is not None:
            self._report(old, None)

    def _drop(self, item: T) -> T | None:
        old = self.items.pop(item.metadata.uid, None)
        name = (item.metadata.namespace, item.metadata.name)
        if (now := self._by_name.get(name)) is not None and now.metadata.uid == item.metadata.uid:
            del self._by_name[name]
        return old

    def _report(self, old: T | None, new: T | None) -> bool:
        """Call `changed`; return False where it raised for this object, which is at fault then."""
        try:
            self._changed(old, new)
        except Exception as error:
            meta = (new or old).metadata  # type: ignore[union-attr]
            identity = Identity(meta.name, meta.namespace, meta.uid, meta.resource_version)
            self._objects.leave_out(identity, error)
            return False
        return True


def _newer(version: str, old: str) -> bool:
    """Return whether `version` is newer: opaque by contract, versions are numbers in etcd, since 1.35 by documentation."""
    try:
        return int(version) > int(old)
    except ValueError:
        return version != old


def _advice(error: Exception, resource: Resource) -> str:
    if isinstance(error, msgspec.DecodeError):
        return f"the answer of the API server, or of a proxy before it, cannot be read: {error}"
    if not isinstance(error, ApiError):
        return str(error)
    if error.code == 404:
        what = (
            "OpenKruise (https://openkruise.io/docs/installation)"
            if resource.plural == "clonesets"
            else "the CRD (make install)"
        )
        return f"the cluster does not know {resource.plural}: install {what}; trying again"
    if error.code in {401, 403}:
        return f"{error} (give this service's account the rights of deploy/rbac)"
    return str(error)


def milliseconds(timestamp: str | None) -> int:
    """Convert a Kubernetes time (RFC 3339) to milliseconds since 1970; 0 for none, and for a text that is no time."""
    if not timestamp:
        return 0
    try:
        return int(datetime.fromisoformat(timestamp).timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0


def int_or_percent(value: Any, total: int) -> int:
    """Return an int-or-string field as a count of `total`, percentages rounded up as OpenKruise does; 0 for none.

    A value that is neither, which OpenKruise refuses too, counts as `total`.
    """
    if value is None or isinstance(value, int):
        return value or 0
    number = count_in(str(value).removesuffix("%"))
    if number is None:
        return total if value else 0
    return -(-number * total // 100) if str(value).endswith("%") else number
