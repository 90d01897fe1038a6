"""A watch that goes on for as long as its reader likes: opened again where the server ended it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from bench.errors import BenchError
from bench.workloads import NAMESPACE, SET_LABEL
from shared.kube.client import Client, Resource

SILENCE_SECONDS: Final = 60.0
"""The server sends bookmarks every few seconds."""


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Version(msgspec.Struct, rename="camel"):
    resource_version: str


class _Any(msgspec.Struct):
    metadata: _Version


_event = msgspec.json.Decoder(_Event)
_any = msgspec.json.Decoder(_Any)


async def follow(client: Client, resource: Resource, of_set: str) -> AsyncIterator[tuple[str, msgspec.Raw]]:
    """(ADDED, MODIFIED or DELETED, the object) of everything in a set, first what is there already."""
    version = ""
    while True:
        query = {"labelSelector": f"{SET_LABEL}={of_set}", "resourceVersion": version}
        async for line in client.watch(resource, NAMESPACE, query, silence_seconds=SILENCE_SECONDS):
            event = _event.decode(line)
            if event.type == "ERROR":
                msg = f"the watch on {resource.plural} broke: {bytes(event.object).decode(errors='replace')}"
                raise BenchError(msg)
            version = _any.decode(event.object).metadata.resource_version
            if event.type != "BOOKMARK":
                yield event.type, event.object
