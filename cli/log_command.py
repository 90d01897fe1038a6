"""`triton log`: the story of a release, or of all releases of an instance, read once or followed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple, Protocol

import typer
from pydantic import ValidationError

from cli.connection import Place
from cli.exits import BadInput, Failure
from cli.log_text import Line, Story, Tone, is_of, time_of
from cli.options import CaFile, Server, Where, server_of
from cli.output import Format, dump
from shared.domain.deployflow import FlowPhase
from shared.errors import Unavailable
from shared.event_store import Query, Stream, open_store
from shared.settings import Settings, unfit

Json = dict[str, Any]

POLL_SECONDS: Final = 0.5
SETTLE_SECONDS: Final = 2.0
"""After the end of a release its last events are still on their way: Elasticsearch shows them within 1 s."""
OVERLAP: Final = timedelta(seconds=60)
"""How far back `--follow` looks each time: events reach the store out of order, and late."""
AFTERMATH: Final = timedelta(seconds=2)
"""Pods are seen gone a moment after the release that deleted them is over."""


# --- the search ---------------------------------------------------------------------------------------------


class Readable(Protocol):
    """An event store, as far as it is read here."""

    async def search(self, query: Query) -> list[Json]: ...

    async def close(self) -> None: ...


class _Reader:
    """The documents of a DeployFlow, else of an instance, of that name; each once, however often asked."""

    def __init__(self, store: Readable, namespace: str, name: str, since: datetime | None) -> None:
        self._store = store
        self._namespace = namespace
        self._name = name
        self._since = since
        self._seen: set[tuple[str, str]] = set()
        self._newest: datetime | None = None

    @property
    def found(self) -> bool:
        return bool(self._seen)

    async def news(self) -> list[Json]:
        """What has come in since the last time, in order."""
        documents = await self._read()
        fresh = [document for document in documents if _identity(document) not in self._seen]
        self._seen |= {_identity(document) for document in fresh}
        if fresh:
            self._newest = max(map(time_of, fresh))
        return fresh

    def wanted(self, document: Json) -> bool:
        """Releases are read from their beginning, to count from it; what is before `since` is not shown."""
        return self._since is None or time_of(document) >= self._since

    async def _read(self) -> list[Json]:
        again = self._newest - OVERLAP if self._newest else None
        streams = [Stream.DEPLOYFLOW]
        release = Query(streams, namespace=self._namespace, deployflow=self._name)
        uids: set[str] = set()
        if flows := await self._store.search(release):
            uids = {flow["triton"]["uid"] for flow in flows}
            begin, last = time_of(flows[0]), flows[-1]
            over = FlowPhase(last["triton"]["phase"]).finished
            until = time_of(last) + AFTERMATH if over else None
            instance = flows[0]["triton"]["instance"]
        else:
            begin, until, instance = None, None, self._name
            flows = self._recent(await self._store.search(release._replace(deployflow="", instance=instance)))
        since = max(filter(None, (begin, self._since, again)), default=None)
        if len(flows) >= release.limit:
            _say(f"the log has more: only the newest {release.limit:,} events of the release are read", "")
        others = Query([Stream.POD, Stream.CLONESET], self._namespace, instance, since=since)
        found = await self._store.search(others._replace(until=until))
        if len(found) >= others.limit and not again:
            note = f"the log has more: only the newest {others.limit:,} events of pods are read (--since, --no-pods)"
            _say(note, "")
        if uids:
            # what happened at the time and is of another release is none of this one's; what is may come late
            found = [one for one in found if one["triton"].get("uid", "") in {"", *uids}]
            for uid in uids:
                found += await self._store.search(others._replace(uid=uid))
        unique = {_identity(document): document for document in flows + found}
        return sorted(unique.values(), key=_order)

    def _recent(self, flows: list[Json]) -> list[Json]:
        """Without the releases that were over before `since`."""
        last = {flow["triton"]["uid"]: flow for flow in flows}
        over = {
            uid
            for uid, flow in last.items()
            if FlowPhase(flow["triton"]["phase"]).finished and not self.wanted(flow)
        }
        return [flow for flow in flows if flow["triton"]["uid"] not in over]


def _identity(document: Json) -> tuple[str, str]:
    return document["event"].get("dataset", ""), document["event"]["id"]


def _order(document: Json) -> tuple[str, int, str]:
    event = document["event"]
    return document["@timestamp"], event.get("sequence", 0), event["id"]


async def _follow(reader: _Reader, story: Story) -> AsyncIterator[list[Json]]:
    """What comes in until every release told of is over; for ever while there is none."""
    loop = asyncio.get_running_loop()
    quiet_since = loop.time()
    said = ""
    while True:
        try:
            documents = await reader.news()
        except Unavailable as error:
            said = _say(f"waiting: {error}", said)
            documents = []
        else:
            said = _say("" if reader.found else "no events yet, waiting for the first one", said)
        if documents:
            quiet_since = loop.time()
            yield documents
        if story.finished and loop.time() - quiet_since > SETTLE_SECONDS:
            return
        await asyncio.sleep(POLL_SECONDS)


def _say(message: str, said: str) -> str:
    """Tell on stderr what we wait for, once."""
    if message and message != said:
        typer.echo(message, err=True)
    return message


# --- the command --------------------------------------------------------------------------------------------


def when(text: str) -> datetime:
    """`90s`, `10m`, `2h`, `1d` ago, or a time."""
    if match := re.fullmatch(r"(\d+)([smhd])", text):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(match[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        msg = f"{text!r} is neither a span like 90s, 10m, 2h, 1d nor a time like 2026-01-31T14:05"
        raise typer.BadParameter(msg) from error


def log(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A DeployFlow, or an instance for all its releases.")
    ],
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Default: that of the kubeconfig's context.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=when, metavar="WHEN", help="Only what is newer: 90s, 10m, 2h, 1d ago, or a time."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the release is over.")] = False,
    pods: Annotated[bool, typer.Option(help="With what each pod did.")] = True,
    pod: Annotated[str | None, typer.Option(metavar="POD", help="Of the pods only this one.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Only what belongs to this batch.")] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Only what went wrong.")] = False,
    commands: Annotated[
        bool, typer.Option("--commands", help="Only what somebody asked for, and who.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="With the CloneSet's counts and the cluster's normal Events.")
    ] = False,
    server: Server = None,
    ca_file: CaFile = None,
    output: Annotated[
        Format | None, typer.Option("--output", "-o", help="Print the documents instead of the story.")
    ] = None,
) -> None:
    """The story of a release: what happened when, what each pod did, how long it took, how it ended.

    It comes from the event store (TRITON_EVENT_STORE), or with --server from there. Seconds are counted from the start of the release.

    Examples:
      triton log web-kvn6b
      triton log web -n shop --since 2h --no-pods
      triton log web-kvn6b --pod web-x7k2p --all
      triton log web --commands
      triton log web-kvn6b --follow -o json

    """
    where = Where(namespace=namespace, server=server, ca_file=ca_file)
    store = readable(where)
    place = namespace or ("default" if server_of(where) else Place.of(None, None).namespace)
    reader = _Reader(store, place, name, since)
    try:
        wanted = _Wanted(pods, pod, batch, failures, commands)
        story = Story(everything=everything)
        asyncio.run(_log(store, reader, story, _Printer(output, wanted, follow=follow), follow=follow))
    except Unavailable as error:
        raise Failure(str(error)) from error
    if not reader.found:
        msg = f"the event store knows nothing of {name} in namespace {place}: see `triton get -n {place}`"
        raise Failure(msg)


def readable(where: Where) -> Readable:
    """The store that the options and settings name."""
    if server := server_of(where):
        from cli import by_server

        return by_server.ServerLog(by_server.client(server, where))
    try:
        return open_store(Settings())
    except ValidationError as error:
        raise BadInput(unfit(error)) from error
    except ValueError as error:
        raise BadInput(str(error)) from error


class _Wanted(NamedTuple):
    """Which events are shown; all of them are read, to count from the start of each release."""

    pods: bool
    pod: str | None
    batch: int | None
    failures: bool
    commands: bool

    def show(self, document: Json) -> bool:
        triton, pod = document["triton"], document["kubernetes"].get("pod")
        return not (
            (not self.pods and not is_of(document, Stream.DEPLOYFLOW))
            or (self.pod is not None and pod is not None and pod["name"] != self.pod)
            or (self.batch is not None and triton.get("batch") != self.batch)
            or (self.failures and document["event"].get("outcome") != "failure")
            or (self.commands and "command" not in triton)
        )


class _Printer:
    def __init__(self, form: Format | None, wanted: _Wanted, *, follow: bool) -> None:
        self._form = form
        self._wanted = wanted
        self._follow = follow
        self._collected: list[Json] = []

    def show(self, document: Json, lines: Iterable[Line]) -> None:
        if not self._wanted.show(document):
            return
        if self._form is None:
            self._lines(lines)
        elif not self._follow:
            self._collected.append(document)
        elif self._form == Format.JSON:
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            typer.echo(f"---\n{dump(document, self._form)}")

    def end(self, lines: Iterable[Line]) -> None:
        if self._form is None:
            self._lines(lines)
        elif not self._follow:
            typer.echo(dump(self._collected, self._form))

    def _lines(self, lines: Iterable[Line]) -> None:
        for text, tone in lines:
            color = tone if tone in {Tone.GOOD, Tone.BAD} else None
            typer.secho(text, fg=color, bold=tone == Tone.HEAD)


async def _log(store: Readable, reader: _Reader, story: Story, printer: _Printer, *, follow: bool) -> None:
    try:
        async for documents in _follow(reader, story) if follow else _once(reader):
            for document in documents:
                lines = story.tell(document)
                if reader.wanted(document):
                    printer.show(document, lines)
        if reader.found:
            printer.end(story.end())
    finally:
        await store.close()


async def _once(reader: _Reader) -> AsyncIterator[list[Json]]:
    yield await reader.news()
