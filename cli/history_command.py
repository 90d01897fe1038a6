"""`triton history`: who released what, when, how it went and who let it go on, out of the event store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import typer

from cli.connection import Place
from cli.exits import BadInput, Failure
from cli.log_command import Readable, readable, when
from cli.log_text import seconds, span, time_of
from cli.options import CaFile, Server, Where, server_of
from cli.output import Format, dump, table
from shared.domain.deployflow import FlowPhase
from shared.errors import Unavailable
from shared.event_store import Query, Stream

Json = dict[str, Any]

COLUMNS = ("RELEASE", "INSTANCE", "ACTION", "BY", "BEGAN", "TOOK", "RESULT", "BATCHES", "FAILED", "ASKED FOR")


@dataclass
class Past:
    """One release, as its events tell it. `commands`: who asked for what, how often, in the order of the first time.

    `took`: seconds, None while it is not over. `failed_batches`: how often a batch of it has failed.
    """

    name: str
    uid: str
    instance: str
    action: str
    began: datetime
    by: str = ""
    phase: str = FlowPhase.PENDING
    took: float | None = None
    batches: int = 0
    finished_batches: int = 0
    failed_batches: int = 0
    commands: Counter[tuple[str, str]] = field(default_factory=Counter)

    def as_json(self) -> Json:
        asked = [
            {"command": command, "by": by, "count": count} for (command, by), count in self.commands.items()
        ]
        return {
            "name": self.name,
            "uid": self.uid,
            "instance": self.instance,
            "action": self.action,
            "requestedBy": self.by,
            "began": self.began.isoformat(),
            "seconds": self.took,
            "phase": self.phase,
            "batches": self.batches,
            "finishedBatches": self.finished_batches,
            "failedBatches": self.failed_batches,
            "commands": asked,
        }


def past(documents: Iterable[Json]) -> list[Past]:
    """The releases that events, in order, tell of; oldest first."""
    releases: dict[str, Past] = {}
    for document in documents:
        triton, event = document["triton"], document["event"]
        by = document.get("user", {}).get("name", "")
        release = releases.get(triton["uid"])
        if release is None:
            release = releases[triton["uid"]] = Past(
                triton["deployflow"],
                triton["uid"],
                triton["instance"],
                triton["action"],
                time_of(document),
                by,
            )
        release.phase = triton["phase"]
        release.batches = triton.get("batches", release.batches)
        release.finished_batches += event["action"] == "batch-finished"
        release.failed_batches += event["action"] in {"batch-smoke-failed", "batch-bake-failed"}
        if FlowPhase(release.phase).finished:
            whole = (time_of(document) - release.began).total_seconds()
            release.took = seconds(event) or whole
        if (command := triton.get("command")) and event["action"] != "received":
            release.commands[command, by] += 1
    return list(releases.values())


def rows(releases: Iterable[Past]) -> list[tuple[str, ...]]:
    return [
        (
            release.name,
            release.instance,
            release.action,
            release.by or "-",
            release.began.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            span(release.took) if release.took is not None else "-",
            release.phase,
            f"{release.finished_batches}/{release.batches}" if release.batches else "-",
            str(release.failed_batches or "-"),
            ", ".join(map(_asked, release.commands.items())) or "-",
        )
        for release in releases
    ]


def _asked(one: tuple[tuple[str, str], int]) -> str:
    (command, by), count = one
    times = f" ×{count}" if count > 1 else ""
    return f"{command}{times} by {by}" if by else f"{command}{times}"


def history(
    instance: Annotated[
        str | None, typer.Argument(metavar="[INSTANCE]", help="Default: all of the namespace.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Default: that of the kubeconfig's context.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=when, metavar="WHEN", help="Only from then on: 2h, 7d ago, or a time."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=when, metavar="WHEN", help="Only until then.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="WHO", help="Only what this one released or asked for.")
    ] = None,
    server: Server = None,
    ca_file: CaFile = None,
    output: Annotated[
        Format | None, typer.Option("--output", "-o", help="For programs, instead of text.")
    ] = None,
) -> None:
    """Who released what, when, how it went, and who let it go on.

    It comes from the event store (TRITON_EVENT_STORE), or with --server from there. `triton log RELEASE` has the whole story.

    Examples:
      triton history
      triton history web -n shop --since 7d
      triton history --by deployer -o json

    """
    where = Where(namespace=namespace, server=server, ca_file=ca_file)
    asked = server_of(where)
    if asked and instance is None:
        msg = "the server tells the history of one instance: name it, `triton history INSTANCE --server …`"
        raise BadInput(msg)
    place = namespace or ("default" if asked else Place.of(None, None).namespace)
    query = Query([Stream.DEPLOYFLOW], place, instance or "", since=since, until=until)
    try:
        documents = asyncio.run(_read(readable(where), query))
    except Unavailable as error:
        raise Failure(str(error)) from error
    if len(documents) >= query.limit:
        typer.echo(
            f"the log has more: only the newest {query.limit:,} events are read (--since, --until)", err=True
        )
    found = [
        one for one in past(documents) if by is None or by in {one.by, *(who for _, who in one.commands)}
    ]
    if output is not None:
        print(dump([one.as_json() for one in found], output))
    elif found:
        print("\n".join(table(COLUMNS, rows(found))))
    else:
        whose = f"of {instance} " if instance else ""
        typer.echo(f"the event store knows no releases {whose}in namespace {place}", err=True)


async def _read(store: Readable, query: Query) -> list[Json]:
    try:
        return await store.search(query)
    finally:
        await store.close()
