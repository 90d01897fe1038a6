"""The release log in one file, for the sandbox: Elasticsearch's place is taken by SQLite.

Several processes use the file at once: the events service writes, `triton log` reads. Hence write-ahead
logging, and a thread of its own for the connection, so that a slow disk never holds up an event loop.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.event_store.fitting import misfit
from shared.event_store.interface import SORT, Document, Query, Refused, Stream, index_name, timestamp
from shared.event_store.meters import count
from shared.settings import Settings

T = TypeVar("T")

BUSY_MS: Final = 10_000
"""How long to wait for another process's write to end; writes here take milliseconds."""

_COLUMNS: Final = {
    "at": "@timestamp",
    "sequence": "event.sequence",
    "namespace": "kubernetes.namespace",
    "instance": "triton.instance",
    "deployflow": "triton.deployflow",
    "uid": "triton.uid",
}


def _path(field: str) -> str:
    return "$" + "".join(f'."{part}"' for part in field.split("."))


_GENERATED = ",\n".join(
    f"  {column} GENERATED ALWAYS AS (json_extract(document, '{_path(field)}')) STORED"
    for column, field in _COLUMNS.items()
)
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS events (
  index_name TEXT NOT NULL,
  id TEXT NOT NULL,
  document TEXT NOT NULL,
{_GENERATED},
  PRIMARY KEY (index_name, id)
);
CREATE INDEX IF NOT EXISTS events_of_instance ON events (instance, at);
CREATE INDEX IF NOT EXISTS events_of_deployflow ON events (deployflow, at);
CREATE INDEX IF NOT EXISTS events_in_time ON events (at);
"""
_ORDER: Final = {"@timestamp": "at", "event.sequence": "sequence", "event.id": "id"}


class SqliteStore:
    """An `EventStore` in the file at `path`."""

    def __init__(self, path: str, settings: Settings) -> None:
        self._path = Path(path).absolute()
        self._settings = settings
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="event-store")
        self._connection: sqlite3.Connection | None = None

    async def prepare(self) -> None:
        await self._do(self._prepare)

    async def write(self, documents: Sequence[Document]) -> list[Refused]:
        refused: list[Refused] = []
        fitting: list[Document] = []
        rows: list[tuple[str, str, str]] = []
        for document in documents:
            if reason := misfit(document):
                refused.append(Refused(document, reason))
            else:
                body = json.dumps(document.source, separators=(",", ":"))
                fitting.append(document)
                rows.append((index_name(document.stream, self._settings), document.id, body))
        new = await self._do(lambda: self._insert(rows)) if rows else []
        for document, is_new in zip(fitting, new, strict=True):
            count([document], "stored" if is_new else "duplicate")
        count((document for document, _ in refused), "refused")
        return refused

    async def search(self, query: Query) -> list[Json]:
        return await self._do(lambda: self._select(query))

    async def ping(self) -> None:
        await self._do(lambda: self._connected().execute("SELECT 1 FROM events LIMIT 1").fetchall())

    async def close(self) -> None:
        await self._do(self._disconnect)
        self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            if "no such table" in str(error) or "unable to open" in str(error):
                advice = "nobody has made it yet: start the sandbox (triton sandbox) or the events service"
            else:
                advice = "check the file's owner, the free space and whether it is a Triton event store"
            msg = f"the event store {self._path} does not answer ({error}); {advice}"
            raise Unavailable(msg) from error

    def _connected(self, mode: str = "rw") -> sqlite3.Connection:
        if self._connection is None:
            # only the thread of this store ever uses it
            self._connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode={mode}", uri=True, timeout=BUSY_MS / 1000, isolation_level=None
            )
            self._connection.execute("PRAGMA synchronous = NORMAL")
        return self._connection

    def _prepare(self) -> None:
        self._disconnect()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from error
        connection = self._connected("rwc")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _insert(self, rows: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Insert the rows; return whether each was new."""
        statement = "INSERT INTO events (index_name, id, document) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            return [connection.execute(statement, row).rowcount == 1 for row in rows]

    def _select(self, query: Query) -> list[Json]:
        names = [index_name(stream, self._settings) for stream in query.streams or Stream]
        conditions = [f"index_name IN ({', '.join('?' * len(names))})"]
        values: list[str | int] = [*names]
        columns = {field: column for column, field in _COLUMNS.items()}
        for field, value in query.terms.items():
            conditions.append(f"{columns[field]} = ?")
            values.append(value)
        for sign, moment in ((">=", query.since), ("<=", query.until)):
            if moment is not None:
                conditions.append(f"at {sign} ?")
                values.append(timestamp(moment))
        order = ", ".join(f"{_ORDER[field]} DESC" for field in SORT)
        statement = f"SELECT document FROM events WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ?"
        rows = self._connected().execute(statement, [*values, query.limit]).fetchall()
        return [json.loads(document) for (document,) in reversed(rows)]
