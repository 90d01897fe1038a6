"""Decodes objects of the cluster, each on its own: one that can't be read is left out, and harms no other.

It is counted, and named in the log once. What is too deep in an object is read as null, so that even one that ends
Python's parsers has a name, and its reader can refuse it.
"""

from __future__ import annotations

import logging
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec
from prometheus_client import Counter

from shared.domain.object_bounds import DEEPEST_READ, cut
from shared.kube.client import IN_A_LIST, Resource

REMEMBERED: Final = 1_000
"""Objects that the log has named already; beyond it, it names them again."""

_left_out = Counter(
    "triton_objects_left_out_total", "Objects of the cluster that could not be read", ["resource"]
)
_log = logging.getLogger(__name__)
T = TypeVar("T")


class ListMeta(msgspec.Struct, rename="camel"):
    """The metadata of a list: its version, and where its next page begins."""

    resource_version: str = ""
    next_page: str = msgspec.field(name="continue", default="")


class Identity(msgspec.Struct, rename="camel", frozen=True):
    """What can be read of any object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name or "without a name"


class Page(NamedTuple, Generic[T]):
    """A page of a list. `unread`: what is known of the objects that could not be read."""

    metadata: ListMeta
    items: list[T]
    unread: list[Identity]


class _List(msgspec.Struct):
    items: list[msgspec.Raw]
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Named(msgspec.Struct):
    metadata: Identity


_list = msgspec.json.Decoder(_List)
_event = msgspec.json.Decoder(_Event)
_named = msgspec.json.Decoder(_Named)


class ObjectDecoder(Generic[T]):
    """Decodes the objects of one resource. A page or an event that is no JSON raises `msgspec.DecodeError`."""

    def __init__(self, resource: Resource, kind: type[T]) -> None:
        self._plural = resource.plural
        self._decoder = msgspec.json.Decoder(kind)
        self._named: set[str] = set()
        """The uids of the objects that the log has named."""
        _left_out.labels(self._plural)  # a first one is a rise only where there was a 0

    def page(self, data: bytes) -> Page[T]:
        try:
            page = _list.decode(data)
        except RecursionError:
            page = _list.decode(cut(data, DEEPEST_READ + IN_A_LIST))
        items: list[T] = []
        unread: list[Identity] = []
        for raw in page.items:
            item = self.item(raw)
            if isinstance(item, Identity):
                unread.append(item)
            else:
                items.append(item)
        return Page(page.metadata, items, unread)

    @staticmethod
    def event(line: bytes) -> tuple[str, msgspec.Raw]:
        """Return the type of a watch's event, and its object undecoded."""
        try:
            event = _event.decode(line)
        except RecursionError:
            event = _event.decode(cut(line, DEEPEST_READ + 1))
        return event.type, event.object

    def item(self, raw: bytes | msgspec.Raw) -> T | Identity:
        """Return the object; of one that can't be read, which is left out, what is known of it."""
        try:
            return self._decoder.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            shallow = cut(bytes(raw))
        try:
            return self._decoder.decode(shallow)
        except (msgspec.DecodeError, RecursionError) as error:
            identity = _identify(shallow)
            self.leave_out(identity, error)
            return identity

    def leave_out(self, identity: Identity, error: Exception) -> None:
        """Count an object that can't be read, or can't be worked on, and name it in the log the first time."""
        _left_out.labels(self._plural).inc()
        if identity.uid in self._named:
            return
        if len(self._named) >= REMEMBERED:
            self._named.clear()
        self._named.add(identity.uid)
        # a traceback is for a fault of the program
        at_fault = None if isinstance(error, (msgspec.DecodeError, RecursionError)) else error
        _log.error(
            "%s %s is left out, as long as it is so: %s", self._plural, identity, error, exc_info=at_fault
        )


def _identify(raw: bytes) -> Identity:
    try:
        return _named.decode(raw).metadata
    except (msgspec.DecodeError, RecursionError):
        return Identity()
