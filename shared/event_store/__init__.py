"""The store of the release log: `open_store` gives the one that the settings name."""

from __future__ import annotations

from shared.domain.safe_text import without_login
from shared.event_store.interface import (
    SORT,
    Document,
    EventStore,
    Interrupted,
    Query,
    Refused,
    Stream,
    dataset,
    from_ms,
    index_name,
)
from shared.settings import Settings

__all__ = [
    "SORT",
    "Document",
    "EventStore",
    "Interrupted",
    "Query",
    "Refused",
    "Stream",
    "dataset",
    "from_ms",
    "index_name",
    "open_store",
]

_SQLITE = "sqlite:///"


def open_store(settings: Settings) -> EventStore:
    """Return the store at `settings.event_store`, without a request to it. Raise ValueError for another scheme."""
    where = settings.event_store
    if where.startswith(_SQLITE):
        from shared.event_store.sqlite import SqliteStore

        return SqliteStore(where.removeprefix(_SQLITE), settings)
    if where.startswith(("http://", "https://")):
        # imported late: the client takes a quarter of a second, which the sandbox's store need not wait for
        from shared.event_store.elastic import ElasticStore

        return ElasticStore(where, settings)
    msg = f"TRITON_EVENT_STORE: {without_login(where)!r} is neither http(s)://… (Elasticsearch) nor sqlite:///path"
    raise ValueError(msg)
