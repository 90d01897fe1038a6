"""`triton log`: the story of a release, or of all releases of an instance, out of the event store.

The store has single facts of three kinds. A reader wants one account of them: what happened when, counted
from the start of the release, with the pods between the batches that they belong to, and how it ended.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple, Protocol

import typer
from pydantic import ValidationError

from cli.connection import Place
from cli.exits import BadInput, Failure
from cli.options import CaFile, Server, Where, server_of
from cli.output import Format, dump
from shared.deployflow import FlowPhase
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


class Tone(StrEnum):
    PLAIN = ""
    GOOD = "green"
    BAD = "red"
    HEAD = "bold"


class Line(NamedTuple):
    text: str
    tone: Tone = Tone.PLAIN


# --- the account: pure ------------------------------------------------------------------------------------


@dataclass
class _Release:
    name: str
    start: datetime
    last: datetime
    phase: str = FlowPhase.PENDING
    batches: int = 0
    began: dict[int, datetime] = field(default_factory=dict)
    took: dict[int, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    """Seconds that each new pod took from its creation to ready containers."""
    failed: set[str] = field(default_factory=set)
    told: bool = False

    @property
    def finished(self) -> bool:
        return FlowPhase(self.phase).finished


class Story:
    """Turns documents, in order, into lines."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._releases: dict[str, _Release] = {}
        self._current: _Release | None = None
        self._pods: dict[str, str] = {}
        self._pending: dict[str, datetime] = {}

    @property
    def finished(self) -> bool:
        """Whether every release that was told of is over."""
        return bool(self._releases) and all(release.finished for release in self._releases.values())

    def tell(self, document: Json) -> list[Line]:
        """The lines about one more event."""
        if "deployflow" in document["triton"]:
            return self._flow(document)
        if "pod" in document["kubernetes"]:
            return self._pod(document)
        return []  # the CloneSet's counts say what its pods say

    def end(self) -> list[Line]:
        """How each release went that has no summary yet."""
        return self._summaries(self._releases.values())

    def _summaries(self, releases: Collection[_Release]) -> list[Line]:
        """After a release's last pod events, hence not at once when it is over."""
        lines = [_summary(release) for release in releases if not release.told]
        for release in releases:
            release.told = True
        return lines

    def _flow(self, document: Json) -> list[Line]:
        triton, at = document["triton"], _time(document)
        release = self._releases.get(triton["uid"])
        lines: list[Line] = []
        if release is None:
            lines += self._summaries([other for other in self._releases.values() if other.finished])
            release = self._releases[triton["uid"]] = _Release(triton["deployflow"], at, at)
            lines.append(Line(self._headline(document), Tone.HEAD))
        self._current = release
        release.phase = triton["phase"]
        release.last = at
        release.batches = triton.get("batches", release.batches)
        if batch := triton.get("batch"):
            release.began.setdefault(batch, at)
            if document["event"]["action"] == "batch-finished":
                release.took[batch] = (at - release.began[batch]).total_seconds()
        lines.append(self._line(document, _flow_text(document)))
        return lines

    def _pod(self, document: Json) -> list[Line]:
        pod, event = document["kubernetes"]["pod"], document["event"]
        name = self._pods.setdefault(pod["uid"], pod.get("name", ""))
        action = event["action"]
        if action == "pod-pending":
            self._pending.setdefault(pod["uid"], _time(document))
        age = self._age(document)
        if release := self._current:
            if not release.finished:
                release.last = max(release.last, _time(document))
            if action == "pod-containers-ready" and age is not None:
                release.started.setdefault(pod["uid"], age)
            if action == "pod-failed":
                release.failed.add(pod["uid"])
        text = str(document["message"])
        if action == "pod-gone" and name:
            text = f"pod {name} is gone"
        if age is not None and action in {"pod-containers-ready", "pod-ready", "pod-failed"}:
            text += f" ({_span(age)} after its creation)"
        return [self._line(document, f"  {text}")]

    def _headline(self, document: Json) -> str:
        triton = document["triton"]
        what = f"{triton['application']}, app {triton['application_id']}, group {triton['group']}"
        where = f"{document['kubernetes']['namespace']}/{triton['instance']}"
        day = _time(document).astimezone(self._zone).strftime("%Y-%m-%d")
        by = f", by {document['user']['name']}" if "user" in document else ""
        return f"{triton['deployflow']}: {triton['action']} of {where} ({what}), {day}{by}"

    def _age(self, document: Json) -> float | None:
        """Seconds since the pod was first seen, else since its creation, of which only the second is known."""
        if first := self._pending.get(document["kubernetes"]["pod"]["uid"]):
            return (_time(document) - first).total_seconds()
        return _seconds(document["event"])

    def _line(self, document: Json, text: str) -> Line:
        at = _time(document)
        local = at.astimezone(self._zone).strftime("%H:%M:%S.") + f"{at.microsecond // 1000:03d}"
        since = f"{(at - self._current.start).total_seconds():+9.1f}" if self._current else " " * 9
        tone = {"failure": Tone.BAD, "success": Tone.GOOD}.get(
            document["event"].get("outcome", ""), Tone.PLAIN
        )
        return Line(f"{local} {since}  {text}", tone)


def _flow_text(document: Json) -> str:
    triton, event = document["triton"], document["event"]
    reason, message = event.get("reason", ""), triton.get("message", "")
    text = message or reason
    if message and event.get("outcome") == "failure" and reason not in message:
        text = f"{reason}: {message}"
    took = _seconds(event)
    return f"{text} (took {_span(took)})" if took is not None else text


def _summary(release: _Release) -> Line:
    took = _span((release.last - release.start).total_seconds())
    how = f"{release.phase} after {took}" if release.finished else f"{release.phase}, not over after {took}"
    parts = [f"{release.name}: {how}"]
    if release.batches:
        times = ", ".join(f"{batch}: {_span(span)}" for batch, span in sorted(release.took.items()))
        parts.append(
            f"{len(release.took)} of {release.batches} batches finished" + (f" ({times})" if times else "")
        )
    if release.started:
        slowest = max(release.started.values())
        parts.append(f"{_pods(len(release.started))} started, the slowest in {_span(slowest)}")
    if release.failed:
        parts.append(f"{_pods(len(release.failed))} failed")
    tone = {FlowPhase.SUCCESS: Tone.GOOD}.get(
        FlowPhase(release.phase), Tone.BAD if release.finished else Tone.PLAIN
    )
    return Line("; ".join(parts), tone)


def _pods(number: int) -> str:
    return f"{number} pod" if number == 1 else f"{number} pods"


def _time(document: Json) -> datetime:
    return datetime.fromisoformat(document["@timestamp"])


def _seconds(event: Json) -> float | None:
    return event["duration"] / 1e9 if "duration" in event else None


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


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
            self._newest = max(map(_time, fresh))
        return fresh

    def wanted(self, document: Json) -> bool:
        """Releases are read from their beginning, to count from it; what is before `since` is not shown."""
        return self._since is None or _time(document) >= self._since

    async def _read(self) -> list[Json]:
        again = self._newest - OVERLAP if self._newest else None
        streams = [Stream.DEPLOYFLOW]
        release = Query(streams, namespace=self._namespace, deployflow=self._name)
        if flows := await self._store.search(release):
            begin, last = _time(flows[0]), flows[-1]
            over = FlowPhase(last["triton"]["phase"]).finished
            until = _time(last) + AFTERMATH if over else None
            instance = flows[0]["triton"]["instance"]
        else:
            begin, until, instance = None, None, self._name
            flows = self._recent(await self._store.search(release._replace(deployflow="", instance=instance)))
        since = max(filter(None, (begin, self._since, again)), default=None)
        others = await self._store.search(
            Query([Stream.POD, Stream.CLONESET], self._namespace, instance, since=since, until=until)
        )
        return sorted(flows + others, key=_order)

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


def _since(text: str) -> datetime:
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
            parser=_since, metavar="WHEN", help="Only what is newer: 90s, 10m, 2h, 1d ago, or a time."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the release is over.")] = False,
    pods: Annotated[bool, typer.Option(help="With what each pod did.")] = True,
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
      triton log web-kvn6b --follow -o json

    """
    where = Where(namespace=namespace, server=server, ca_file=ca_file)
    store = _store(where)
    place = namespace or ("default" if server_of(where) else Place.of(None, None).namespace)
    reader = _Reader(store, place, name, since)
    try:
        asyncio.run(_log(store, reader, _Printer(output, pods=pods, follow=follow), follow=follow))
    except Unavailable as error:
        raise Failure(str(error)) from error
    if not reader.found:
        msg = f"the event store knows nothing of {name} in namespace {place}: see `triton get -n {place}`"
        raise Failure(msg)


def _store(where: Where) -> Readable:
    if server := server_of(where):
        from cli import remote

        return remote.Log(remote.client(server, where))
    try:
        return open_store(Settings())
    except ValidationError as error:
        raise BadInput(unfit(error)) from error
    except ValueError as error:
        raise BadInput(str(error)) from error


class _Printer:
    def __init__(self, form: Format | None, *, pods: bool, follow: bool) -> None:
        self._form = form
        self._pods = pods
        self._follow = follow
        self._collected: list[Json] = []

    def show(self, document: Json, lines: Iterable[Line]) -> None:
        if not self._pods and "deployflow" not in document["triton"]:
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


async def _log(store: Readable, reader: _Reader, printer: _Printer, *, follow: bool) -> None:
    story = Story()
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
