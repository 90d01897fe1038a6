"""`triton log`: the log of a release, or of all releases of an instance, read once or followed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, NamedTuple, Protocol

import typer
from pydantic import ValidationError

from cli.connection import Place
from cli.exits import BadInput, Failure
from cli.log_text import Line, LogText, Tone, is_of, time_of
from cli.options import CaFile, Context, Kubeconfig, Server, Where, server_of
from cli.output import Format, note, say, show, show_next
from shared.domain.deployflow import FlowPhase
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.event_store import Query, Stream, open_store
from shared.settings import Settings, unfit

POLL_SECONDS: Final = 0.5
SETTLE_SECONDS: Final = 2.0
"""How long to read on after the end of a release: Elasticsearch shows its last events within 1 s."""
OVERLAP: Final = timedelta(seconds=60)
"""How far back `--follow` reads each time: events reach the store out of order, and late."""
AFTERMATH: Final = timedelta(seconds=2)
"""Deletions of pods are observed a moment after the end of the release that deleted them."""


# --- the search ---------------------------------------------------------------------------------------------


class LogStore(Protocol):
    """The part of an event store that reading needs."""

    async def search(self, query: Query) -> list[Json]: ...

    async def close(self) -> None: ...


class _Reader:
    """Reads the documents of a DeployFlow, else of an instance, of that name; each document once."""

    def __init__(self, store: LogStore, namespace: str, name: str, since: datetime | None) -> None:
        self._store = store
        self._namespace = namespace
        self._name = name
        self._since = since
        self._seen: set[tuple[str, str]] = set()
        self._newest: datetime | None = None

    @property
    def found(self) -> bool:
        return bool(self._seen)

    async def read_new(self) -> list[Json]:
        """Return the documents that were not read before, in order."""
        documents = await self._read()
        fresh = [document for document in documents if _identity(document) not in self._seen]
        self._seen |= {_identity(document) for document in fresh}
        if fresh:
            self._newest = max(map(time_of, fresh))
        return fresh

    def wanted(self, document: Json) -> bool:
        """Return whether to show the document: releases are read from their start, but shown only from `since` on."""
        return self._since is None or time_of(document) >= self._since

    async def _read(self) -> list[Json]:
        resume_at = self._newest - OVERLAP if self._newest else None
        streams = [Stream.DEPLOYFLOW]
        release = Query(streams, namespace=self._namespace, deployflow=self._name)
        uids: set[str] = set()
        if flows := await self._store.search(release):
            uids = {flow["triton"]["uid"] for flow in flows}
            begin, last = time_of(flows[0]), flows[-1]
            finished = FlowPhase(last["triton"]["phase"]).finished
            until = time_of(last) + AFTERMATH if finished else None
            instance = flows[0]["triton"]["instance"]
        else:
            begin, until, instance = None, None, self._name
            flows = self._recent(await self._store.search(release._replace(deployflow="", instance=instance)))
        since = max(filter(None, (begin, self._since, resume_at)), default=None)
        if len(flows) >= release.limit:
            _note_once(
                f"the log has more: only the newest {release.limit:,} events of the release are read", ""
            )
        others = Query([Stream.POD, Stream.CLONESET], self._namespace, instance, since=since)
        found = await self._store.search(others._replace(until=until))
        if len(found) >= others.limit and not resume_at:
            note = f"the log has more: only the newest {others.limit:,} events of pods are read (--since, --no-pods)"
            _note_once(note, "")
        if uids:
            # events of the same time may belong to another release, and events of this one may be later
            found = [one for one in found if one["triton"].get("uid", "") in {"", *uids}]
            for uid in uids:
                found += await self._store.search(others._replace(uid=uid))
        unique = {_identity(document): document for document in flows + found}
        return sorted(unique.values(), key=_order)

    def _recent(self, flows: list[Json]) -> list[Json]:
        """Return the documents without those of releases that ended before `since`."""
        last = {flow["triton"]["uid"]: flow for flow in flows}
        finished = {
            uid
            for uid, flow in last.items()
            if FlowPhase(flow["triton"]["phase"]).finished and not self.wanted(flow)
        }
        return [flow for flow in flows if flow["triton"]["uid"] not in finished]


def _identity(document: Json) -> tuple[str, str]:
    return document["event"].get("dataset", ""), document["event"]["id"]


def _order(document: Json) -> tuple[str, int, str]:
    event = document["event"]
    return document["@timestamp"], event.get("sequence", 0), event["id"]


async def _follow(reader: _Reader, text: LogText) -> AsyncIterator[list[Json]]:
    """Yield new documents until every release in the text is finished; without end while there is none."""
    loop = asyncio.get_running_loop()
    quiet_since = loop.time()
    noted = ""
    while True:
        try:
            documents = await reader.read_new()
        except Unavailable as error:
            noted = _note_once(f"waiting: {error}", noted)
            documents = []
        else:
            noted = _note_once("" if reader.found else "no events yet, waiting for the first one", noted)
        if documents:
            quiet_since = loop.time()
            yield documents
        if text.finished and loop.time() - quiet_since > SETTLE_SECONDS:
            return
        await asyncio.sleep(POLL_SECONDS)


def _note_once(message: str, noted: str) -> str:
    """Print the message on stderr unless it was the last one; return it."""
    if message and message != noted:
        note(message)
    return message


# --- the command --------------------------------------------------------------------------------------------


def when(text: str) -> datetime:
    """Parse `90s`, `10m`, `2h`, `1d` (ago), or a time."""
    if match := re.fullmatch(r"(\d+)([smhd])", text):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(match[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        msg = f"{text!r} is neither a duration like 90s, 10m, 2h, 1d nor a time like 2026-01-31T14:05"
        raise typer.BadParameter(msg) from error


LogNamespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Default: the namespace of the kubeconfig's context."),
]
Since = Annotated[
    datetime | None,
    typer.Option(parser=when, metavar="WHEN", help="Show only what is newer: 90s, 2h, 7d (ago), or a time."),
]


def log(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A DeployFlow, or an instance for all its releases.")
    ],
    namespace: LogNamespace = None,
    since: Since = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until the release is finished.")
    ] = False,
    pods: Annotated[bool, typer.Option(help="Show the events of pods.")] = True,
    pod: Annotated[str | None, typer.Option(metavar="POD", help="Show only this pod.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Show only this batch.")] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Show only failures.")] = False,
    commands: Annotated[
        bool, typer.Option("--commands", help="Show only commands, with their requesters.")
    ] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Show also the counts of the CloneSet and normal Events of the cluster."),
    ] = False,
    server: Server = None,
    ca_file: CaFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Annotated[
        Format | None, typer.Option("--output", "-o", help="Print the documents instead of the text.")
    ] = None,
) -> None:
    """Show the log of a release: what happened when, each pod, durations, and the result.

    It is read from the event store (TRITON_EVENT_STORE), or with --server from the server. Seconds are counted from the start of the release.

    Examples:
      triton log web-kvn6b
      triton log web -n shop --since 2h --no-pods
      triton log web-kvn6b --pod web-x7k2p --all
      triton log web --commands
      triton log web-kvn6b --follow -o json

    """
    where = Where(namespace, kubeconfig, server, ca_file, context)
    store = open_log(where)
    place = namespace or ("default" if server_of(where) else Place.of(kubeconfig, None, context).namespace)
    reader = _Reader(store, place, name, since)
    try:
        filter_ = _Filter(pods, pod, batch, failures, commands)
        text = LogText(everything=everything)
        asyncio.run(_log(store, reader, text, _Printer(output, filter_, follow=follow), follow=follow))
    except Unavailable as error:
        raise Failure(str(error)) from error
    if not reader.found:
        msg = f"the event store has no events of {name} in namespace {place}: see `triton get -n {place}`"
        raise Failure(msg)


def open_log(where: Where) -> LogStore:
    """Open the store that options and settings name."""
    if server := server_of(where):
        from cli import by_server

        return by_server.ServerLog(by_server.client(server, where))
    try:
        return open_store(Settings())
    except ValidationError as error:
        raise BadInput(unfit(error)) from error
    except ValueError as error:
        raise BadInput(str(error)) from error


class _Filter(NamedTuple):
    """The events that are shown; all are read, to count seconds from the start of each release."""

    pods: bool
    pod: str | None
    batch: int | None
    failures: bool
    commands: bool

    def accepts(self, document: Json) -> bool:
        triton, pod = document["triton"], document["kubernetes"].get("pod")
        return not (
            (not self.pods and not is_of(document, Stream.DEPLOYFLOW))
            or (self.pod is not None and pod is not None and pod["name"] != self.pod)
            or (self.batch is not None and triton.get("batch") != self.batch)
            or (self.failures and document["event"].get("outcome") != "failure")
            or (self.commands and "command" not in triton)
        )


class _Printer:
    def __init__(self, form: Format | None, filter_: _Filter, *, follow: bool) -> None:
        self._form = form
        self._filter = filter_
        self._follow = follow
        self._collected: list[Json] = []

    def show(self, document: Json, lines: Iterable[Line]) -> None:
        if not self._filter.accepts(document):
            return
        if self._form is None:
            self._lines(lines)
        elif not self._follow:
            self._collected.append(document)
        else:
            show_next(document, self._form)

    def end(self, lines: Iterable[Line]) -> None:
        if self._form is None:
            self._lines(lines)
        elif not self._follow:
            show(self._collected, self._form)

    def _lines(self, lines: Iterable[Line]) -> None:
        for text, tone in lines:
            color = tone if tone in {Tone.GOOD, Tone.BAD} else None
            say(text, color=color, bold=tone == Tone.HEAD)


async def _log(store: LogStore, reader: _Reader, text: LogText, printer: _Printer, *, follow: bool) -> None:
    try:
        async for documents in _follow(reader, text) if follow else _once(reader):
            for document in documents:
                lines = text.add(document)
                if reader.wanted(document):
                    printer.show(document, lines)
        if reader.found:
            printer.end(text.end())
    finally:
        await store.close()


async def _once(reader: _Reader) -> AsyncIterator[list[Json]]:
    yield await reader.read_new()
