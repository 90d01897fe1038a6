"""`triton watch`: follow a release until it is finished.

Live progress bars on a terminal, one line per change elsewhere (a CI log, a pipe).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final, Protocol

from cli.connection import Cluster
from cli.exits import Failure
from cli.output import note, say, styled
from cli.rendering import Batch, Progress, changes, counted, heading, progress
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS, ApiError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from cli.backend import Backend

SILENCE_SECONDS: Final = 90.0
RETRY_SECONDS: Final = 1.0
_SHOWN_PODS: Final = 12
"""The most pods that are shown of a batch, except that every failed pod is shown."""
_BAR_WIDTH: Final = 24
_COLORS: Final = {"Ready": "green", "ContainersReady": "cyan", "Running": "yellow", "Failed": "red"}


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


class Screen(Protocol):
    """Shows the progress of a release."""

    def show(self, view: Progress) -> None: ...

    def opened(self) -> AbstractContextManager[object]: ...


class PlainScreen:
    """Prints one line per change, with the seconds since the start."""

    def __init__(self, write: Callable[[str], None] = say) -> None:
        self._write = write
        self._before: Progress | None = None
        self._began = time.monotonic()

    def opened(self) -> AbstractContextManager[object]:
        return nullcontext()

    def show(self, view: Progress) -> None:
        for line in changes(self._before, view):
            self._write(f"{time.monotonic() - self._began:6.1f}s  {line}")
        self._before = view


class LiveScreen:
    """Shows progress bars; the last state stays on the screen."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._live: Live = Live(console=console, refresh_per_second=12)

    def opened(self) -> AbstractContextManager[object]:
        return self._live

    def show(self, view: Progress) -> None:
        self._live.update(picture(view))


def screen() -> Screen:
    from rich.console import Console

    console = Console()
    return LiveScreen(console) if console.is_terminal else PlainScreen()


def picture(view: Progress) -> RenderableType:
    """Return the picture of the whole release for a terminal."""
    from rich.console import Group

    color = {"Success": "bold green"}.get(view.phase, "bold red" if view.finished else "bold")
    parts: list[RenderableType] = [styled(heading(view), color), styled(counted(view), "dim")]
    for batch in view.batches:
        parts += _batch_picture(batch)
    parts += [styled(f"batch {number}: not started", "dim") for number in _not_started(view)]
    if view.waits:
        parts.append(styled(f"waits: {view.waits}", "bold yellow"))
    return Group(*parts)


def _not_started(view: Progress) -> range:
    return range(0) if view.finished else range(len(view.batches) + 1, view.total + 1)


def _batch_picture(batch: Batch) -> list[RenderableType]:
    filled = round(batch.share * _BAR_WIDTH)
    color = "red" if batch.failed else "green" if batch.finished else "cyan"
    line = styled(f"{batch.title:<9} ")
    line.append("█" * filled, color)
    line.append("░" * (_BAR_WIDTH - filled), "dim")
    line.append(styled(f" {batch.phase}{' ✓' if batch.finished else ''}"))
    if batch.finished:
        return [line]
    pods = [pod for pod in batch.pods if pod.phase == "Failed"]
    pods += [pod for pod in batch.pods if pod.phase != "Failed"][: max(_SHOWN_PODS - len(pods), 0)]
    lines: list[RenderableType] = [line]
    for pod in pods:
        reason = f" {pod.reason}" if pod.reason else ""
        lines.append(styled(f"  {pod.name}  {pod.phase}{reason}", _COLORS.get(pod.phase, "dim")))
    if len(pods) < len(batch.pods):
        lines.append(styled(f"  and {len(batch.pods) - len(pods)} more", "dim"))
    return lines


async def watch(backend: Backend, name: str, on: Screen) -> Progress:
    """Show the release until it is finished; return its last state."""
    view: Progress | None = None
    with on.opened():
        async for flow in backend.follow(name):
            view = progress(flow)
            on.show(view)
            if view.finished:
                break
    if view is None:
        msg = f"{name} was not found"
        raise Failure(msg)
    return view
