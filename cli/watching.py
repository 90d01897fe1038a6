"""`triton watch`: follow a release until it is finished, or needs somebody.

A live picture on a terminal, one line per change elsewhere (a CI log, a pipe).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from cli.connection import Cluster
from cli.exits import TIMED_OUT, Failure
from cli.live_picture import Size, picture
from cli.outcome import Outcome, outcome_of, seconds_left
from cli.output import note, now, parse_time, say, span, zone
from cli.rendering import Progress, changes, heading, progress
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS, ApiError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from cli.backend import Backend

SILENCE_SECONDS: Final = 90.0
RETRY_SECONDS: Final = 1.0


async def follow(cluster: Cluster, name: str) -> AsyncIterator[Json]:
    """Yield the DeployFlow now and after each change, without end; raises `Failure` once it is deleted."""
    reported = ""
    while True:
        try:
            flow = await cluster.call(cluster.client.get(DEPLOYFLOWS, cluster.namespace, name))
            reported = ""
            yield flow
            async for changed in _changes(cluster, flow):
                yield changed
        except Unavailable as error:
            if str(error) != reported:
                reported = str(error)
                note(f"waiting: {error}")
            await asyncio.sleep(RETRY_SECONDS)
        except ApiError as error:
            if error.code == 404:
                msg = f"{name} was deleted"
                raise Failure(msg) from error
            if error.code != 410:
                raise


async def _changes(cluster: Cluster, flow: Json) -> AsyncIterator[Json]:
    query = {
        "fieldSelector": f"metadata.name={flow['metadata']['name']}",
        "resourceVersion": flow["metadata"]["resourceVersion"],
    }
    lines = cluster.client.watch(DEPLOYFLOWS, cluster.namespace, query, silence_seconds=SILENCE_SECONDS)
    async for line in lines:
        event = json.loads(line)
        if event["type"] in {"ADDED", "MODIFIED"}:
            yield event["object"]
        elif event["type"] != "BOOKMARK":
            return


class TimedOut(Failure):
    """The release has not come to what was awaited in time."""

    code = TIMED_OUT


class Screen(Protocol):
    """Shows the progress of a release."""

    def show(self, flow: Json) -> None: ...

    def opened(self) -> AbstractContextManager[object]: ...


class PlainScreen:
    """Prints one line per change, with the time of day and the seconds since the watch began."""

    def __init__(self, write: Callable[[str], None] = say, clock: Callable[[], datetime] = now) -> None:
        self._write, self._clock = write, clock
        self._before: Progress | None = None
        self._began = clock()

    def opened(self) -> AbstractContextManager[object]:
        return nullcontext()

    def show(self, flow: Json) -> None:
        view, moment = progress(flow), self._clock()
        if self._before is None:
            self._write(f"times are of the zone {zone()}")
        for line in changes(self._before, view):
            passed = (moment - self._began).total_seconds()
            self._write(f"{moment.astimezone():%H:%M:%S} {passed:6.1f}s  {line}")
        self._before = view


class LiveScreen:
    """Shows the picture of the release, as large as the terminal; the last state stays on the screen."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._flow: Json | None = None
        self._live: Live = Live(console=console, refresh_per_second=4, get_renderable=self._draw)

    def opened(self) -> AbstractContextManager[object]:
        return self._live

    def show(self, flow: Json) -> None:
        self._flow = flow
        self._live.refresh()

    def _draw(self) -> RenderableType:
        if self._flow is None:
            return ""
        width, height = self._console.size
        # the last line is the cursor's
        return drawn(self._flow, Size(width, height - 1), now())


def drawn(flow: Json, size: Size, moment: datetime) -> RenderableType:
    """Return the picture of a release as it is at that moment."""
    status = flow.get("status") or {}
    start, end = parse_time(status.get("startedAt")), parse_time(status.get("finishedAt"))
    elapsed = ((end or moment) - start).total_seconds() if start else None
    return picture(progress(flow), size, elapsed, seconds_left(flow, moment))


def screen() -> Screen:
    from rich.console import Console

    console = Console()
    return LiveScreen(console) if console.is_terminal else PlainScreen()


async def watch(
    backend: Backend, name: str, on: Screen, until: Collection[Outcome] = (), timeout: float | None = None
) -> Json:
    """Show the release until it is finished, or has come to one of the outcomes `until`; return its last state.

    Raises `Failure` with the code of a time-out after `timeout` seconds, and where the release is deleted.
    """
    last: Json | None = None
    with on.opened():
        try:
            async with asyncio.timeout(timeout):
                async for flow in backend.follow(name):
                    last = flow
                    on.show(flow)
                    if (flow.get("status") or {}).get("finished") or outcome_of(flow) in until:
                        return flow
        except TimeoutError:
            if timeout is None:
                raise
    if last is None or timeout is None:
        msg = f"{name} was not found"
        raise Failure(msg)
    msg = f"timed out after {span(timeout)}, the release goes on: {heading(progress(last))}"
    raise TimedOut(msg)
