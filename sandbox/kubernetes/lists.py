"""Lists and their pages: a page continues the list as it was when it began, and says 410 when that is
forgotten.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from typing import NamedTuple

import msgspec

from .errors import ApiError, bad_request
from .objects import encode, random_suffix
from .resources import Resource
from .store import Record, Store
from .watches import Scope

SNAPSHOTS = 64
"""Paged lists remembered at once. A snapshot holds references only, so its cost is what has changed since."""


class _Token(msgspec.Struct):
    id: str
    at: int
    version: int


class Page(NamedTuple):
    records: list[Record]
    version: int
    token: str
    remaining: int


class Lists:
    """Reads collections, whole or page by page."""

    def __init__(self, store: Store, snapshots: int = SNAPSHOTS) -> None:
        self._store = store
        self.limit = snapshots
        self._snapshots: OrderedDict[str, list[Record]] = OrderedDict()

    def page(self, resource: Resource, scope: Scope, limit: int | None, token: str) -> Page:
        if token:
            return self._continued(limit, token)
        records = [
            record
            for record in self._store.collection(resource.key).ordered(scope.namespace)
            if scope.includes(record.obj)
        ]
        version = self._store.version
        if not limit or len(records) <= limit:
            return Page(records, version, "", 0)
        key = random_suffix(10)
        self._snapshots[key] = records
        while len(self._snapshots) > self.limit:
            self._snapshots.popitem(last=False)
        return self._cut(key, 0, limit, version)

    def _continued(self, limit: int | None, token: str) -> Page:
        try:
            place = msgspec.json.decode(base64.urlsafe_b64decode(token), type=_Token)
        except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
            raise bad_request("continue key is not valid: the token was not made by this server") from error
        if place.id not in self._snapshots:
            raise ApiError(
                410,
                "Expired",
                "The provided continue parameter is too old to display a consistent list "
                "result. You must start a new list without the continue parameter.",
            )
        return self._cut(place.id, place.at, limit or len(self._snapshots[place.id]), place.version)

    def _cut(self, key: str, at: int, limit: int, version: int) -> Page:
        records = self._snapshots[key]
        remaining = len(records) - at - limit
        token = ""
        if remaining > 0:
            token = base64.urlsafe_b64encode(encode(_Token(key, at + limit, version))).decode()
        return Page(records[at : at + limit], version, token, max(remaining, 0))


def list_body(resource: Resource, page: Page) -> bytes:
    """Build the list object from the bytes that its items already have."""
    metadata = encode(list_metadata(page))
    head = encode({"kind": f"{resource.kind}List", "apiVersion": resource.api_version})[:-1]
    items = b",".join([record.data for record in page.records])
    return b'%b,"metadata":%b,"items":[%b]}\n' % (head, metadata, items)


def list_metadata(page: Page) -> dict[str, str | int]:
    metadata: dict[str, str | int] = {"resourceVersion": str(page.version)}
    if page.token:
        metadata |= {"continue": page.token, "remainingItemCount": page.remaining}
    return metadata
