"""The release log has two homes: Elasticsearch in production, a file in the sandbox.

Whoever writes it (the events service) and whoever reads it (`triton log`) must not notice which one it is.
This is what both offer. A document has a deterministic id, so that publishing the same fact twice, which
Kafka's at-least-once delivery does, leaves one document.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.settings import Settings


class Stream(StrEnum):
    """The kind of object that a document is about; each has an index of its own."""

    DEPLOYFLOW = "deployflow"
    POD = "pod"
    CLONESET = "cloneset"


class Document(NamedTuple):
    """One event. `source` has at least `@timestamp` and, for the search, the fields of `SORT`."""

    stream: Stream
    id: str
    source: Json


class Refused(NamedTuple):
    """A document that the store will never take, and why."""

    document: Document
    reason: str


class Interrupted(Unavailable):
    """The store took some of the documents only: `refused` are done with, `left` are to be written again."""

    def __init__(self, why: str, refused: Sequence[Refused], left: Sequence[Document]) -> None:
        super().__init__(why)
        self.refused = refused
        self.left = left


SORT: Final = ("@timestamp", "event.sequence", "event.id")
"""Ascending order of every answer: the time, then the order in which Kafka had it, then the id."""


class Query(NamedTuple):
    """A filter of events; what is left empty does not restrict. `limit` keeps the newest."""

    streams: Sequence[Stream] = tuple(Stream)
    namespace: str = ""
    instance: str = ""
    deployflow: str = ""
    uid: str = ""
    """The uid of the DeployFlow."""
    since: datetime | None = None
    until: datetime | None = None
    """Both inclusive."""
    limit: int = 10_000

    @property
    def terms(self) -> dict[str, str]:
        """Return the fields that must have an exact value."""
        wanted = {
            "kubernetes.namespace": self.namespace,
            "triton.instance": self.instance,
            "triton.deployflow": self.deployflow,
            "triton.uid": self.uid,
        }
        return {field: value for field, value in wanted.items() if value}


class EventStore(Protocol):
    """Every call raises `shared.errors.Unavailable` when the store does not answer."""

    async def prepare(self) -> None:
        """Make what the store needs (templates, tables) or bring it up to date; never destroys data."""

    async def write(self, documents: Sequence[Document]) -> list[Refused]:
        """Store all of them; those that are there already count as stored. Raises `Interrupted` when only some
        could be dealt with.
        """

    async def search(self, query: Query) -> list[Json]:
        """Return the documents, in the order of `SORT`."""

    async def ping(self) -> None:
        """Return when the store can work."""

    async def close(self) -> None: ...


def index_name(stream: Stream, settings: Settings) -> str:
    """Return the data stream of these documents, by Elastic's scheme `<type>-<dataset>-<namespace>`.

    Dashes separate its parts, so those of the prefix become underscores.
    """
    return f"logs-{dataset(stream)}-{settings.prefix.replace('-', '_')}"


def dataset(stream: Stream) -> str:
    return f"triton.{stream}"


def timestamp(moment: datetime) -> str:
    """Format a time in UTC with milliseconds: texts sort in the order of time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def from_ms(milliseconds: int) -> str:
    """Format milliseconds since 1970 as a timestamp."""
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _second(second: int) -> str:
    # many events share their second, and this is the dear part of writing it
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
