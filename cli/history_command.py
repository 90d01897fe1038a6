"""`triton history`: past releases with requester, time, result and commands, from the event store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

import typer

from cli.connection import Place
from cli.exits import BadInput, Failure
from cli.log_command import LogNamespace, LogStore, Since, open_log, when
from cli.log_text import BATCH_FAILED, release_requester_of, seconds, sender_of, stands_after, time_of
from cli.options import CaFile, Context, Kubeconfig, Server, Where, server_of
from cli.output import Format, note, say, show, span, table, terminal_width, zone
from shared.domain.deployflow import FlowPhase
from shared.domain.json_types import Json
from shared.domain.requesters import show_requester
from shared.errors import Unavailable
from shared.event_store import Query, Stream

COLUMNS = (
    "RELEASE",
    "INSTANCE",
    "ACTION",
    "BY",
    "STARTED",
    "TOOK",
    "RESULT",
    "BATCHES",
    "FAILED",
    "IMAGE",
    "COMMANDS",
)


Sender = tuple[str, str, bool, str]
"""A command with the name of its requester, whether it is claimed, and how the command came."""


@dataclass
class PastRelease:
    """One release, from its events. `commands`: how often each command came from each requester, in order of the first.

    `took`: seconds, None while it is not finished. `failed_batches`: how often a batch of it has failed. `stands`: its
    last batch failed, and nothing has continued it since.
    """

    name: str
    uid: str
    instance: str
    action: str
    began: datetime
    by: str = ""
    claimed: bool = False
    via: str = ""
    phase: str = FlowPhase.PENDING
    took: float | None = None
    batches: int = 0
    finished_batches: int = 0
    failed_batches: int = 0
    stands: bool = False
    images_from: list[str] = field(default_factory=list)
    images_to: list[str] = field(default_factory=list)
    commands: Counter[Sender] = field(default_factory=Counter)

    @property
    def result(self) -> str:
        """Return the phase for people: a release that stands at a failed batch is Failed, though it may be retried."""
        return str(FlowPhase.FAILED) if self.stands and not FlowPhase(self.phase).finished else self.phase

    @property
    def image(self) -> str:
        texts = [", ".join(images) or "none" for images in (self.images_from, self.images_to)]
        return " → ".join(texts) if self.images_from or self.images_to else "-"

    def as_json(self) -> Json:
        commands = [
            {"command": command, "by": by, "byClaimed": claimed, "via": via, "count": count}
            for (command, by, claimed, via), count in self.commands.items()
        ]
        return {
            "name": self.name,
            "uid": self.uid,
            "instance": self.instance,
            "action": self.action,
            "requestedBy": self.by,
            "requestedByClaimed": self.claimed,
            "requestedVia": self.via,
            "began": self.began.isoformat(),
            "seconds": self.took,
            "phase": self.phase,
            "batches": self.batches,
            "finishedBatches": self.finished_batches,
            "failedBatches": self.failed_batches,
            "imagesFrom": self.images_from,
            "imagesTo": self.images_to,
            "commands": commands,
        }


def past_releases(documents: Iterable[Json]) -> list[PastRelease]:
    """Return the releases of these events, which are in order; oldest first."""
    releases: dict[str, PastRelease] = {}
    for document in documents:
        triton, event = document["triton"], document["event"]
        by, claimed, via = sender_of(document)
        release = releases.get(triton["uid"])
        if release is None:
            release = releases[triton["uid"]] = PastRelease(
                triton["deployflow"],
                triton["uid"],
                triton["instance"],
                triton["action"],
                time_of(document),
                *release_requester_of(document),
            )
        release.phase = triton["phase"]
        release.batches = triton.get("batches", release.batches)
        release.finished_batches += event["action"] == "batch-finished"
        release.failed_batches += event["action"] in BATCH_FAILED
        release.stands = stands_after(event["action"], release.stands)
        release.images_from = triton.get("image_from", release.images_from)
        release.images_to = triton.get("image_to", release.images_to)
        if FlowPhase(release.phase).finished:
            whole = (time_of(document) - release.began).total_seconds()
            release.took = seconds(event) or whole
        if (command := triton.get("command")) and event["action"] != "received":
            release.commands[command, by, claimed, via] += 1
    return list(releases.values())


def rows(releases: Iterable[PastRelease]) -> list[tuple[str, ...]]:
    return [
        (
            release.name,
            release.instance,
            release.action,
            show_requester(release.by, claimed=release.claimed, via=release.via) or "-",
            release.began.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            span(release.took) if release.took is not None else "-",
            release.result,
            f"{release.finished_batches}/{release.batches}" if release.batches else "-",
            str(release.failed_batches or "-"),
            release.image,
            ", ".join(map(_command_text, release.commands.items())) or "-",
        )
        for release in releases
    ]


def _command_text(one: tuple[Sender, int]) -> str:
    (command, name, claimed, via), count = one
    by = show_requester(name, claimed=claimed, via=via)
    times = f" ×{count}" if count > 1 else ""
    return f"{command}{times} by {by}" if by else f"{command}{times}"


def history(
    instance: Annotated[
        str | None, typer.Argument(metavar="[INSTANCE]", help="Default: all instances of the namespace.")
    ] = None,
    namespace: LogNamespace = None,
    since: Since = None,
    until: Annotated[
        datetime | None, typer.Option(parser=when, metavar="WHEN", help="Show only what is older.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="Show only releases that this person started or sent commands to."),
    ] = None,
    server: Server = None,
    ca_file: CaFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Annotated[
        Format | None, typer.Option("--output", "-o", help="Print JSON or YAML instead of text.")
    ] = None,
) -> None:
    """List past releases: who released what, when, with which result, and who sent commands.

    They are read from the event store (TRITON_EVENT_STORE), or with --server from the server. `triton log RELEASE` shows one in full.

    Examples:
      triton history
      triton history web -n shop --since 7d
      triton history --by deployer -o json

    """
    where = Where(namespace, kubeconfig, server, ca_file, context)
    by_server = server_of(where) is not None
    if by_server and instance is None:
        msg = "a server has the history of one instance only: name it, `triton history INSTANCE --server …`"
        raise BadInput(msg)
    place = namespace or ("default" if by_server else Place.of(kubeconfig, None, context).namespace)
    query = Query([Stream.DEPLOYFLOW], place, instance or "", since=since, until=until)
    try:
        documents = asyncio.run(_read(open_log(where), query))
    except Unavailable as error:
        raise Failure(str(error)) from error
    if len(documents) >= query.limit:
        note(f"the log has more: only the newest {query.limit:,} events are read (--since, --until)")
    found = [
        one
        for one in past_releases(documents)
        if by is None or by in {one.by, *(requester for _, requester, *_ in one.commands)}
    ]
    if output is not None:
        show([one.as_json() for one in found], output)
    elif found:
        header = [f"{column} ({zone()})" if column == "STARTED" else column for column in COLUMNS]
        say(*table(header, rows(found), width=terminal_width()))
    else:
        of_instance = f"of {instance} " if instance else ""
        note(f"the event store has no releases {of_instance}in namespace {place}")


async def _read(store: LogStore, query: Query) -> list[Json]:
    try:
        return await store.search(query)
    finally:
        await store.close()
