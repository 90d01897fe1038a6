"""The picture of a release on a terminal: it always fits, with the batch under way and what it waits for in sight."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from cli.output import span, styled
from cli.rendering import Batch, Progress, counted, heading, waits_line

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

_BAR_WIDTH: Final = 24
_COLORS: Final = {"Ready": "green", "ContainersReady": "cyan", "Running": "yellow", "Failed": "red"}
_cut: Final = partial(styled, cut=True)
_LEAST_PODS: Final = 6
_LONGEST_WAIT: Final = 3
"""Lines of what it waits for, beside the command that continues it."""


class Size(NamedTuple):
    """Columns and lines of the terminal."""

    width: int
    height: int


def picture(view: Progress, size: Size, elapsed: float | None = None, left: float | None = None) -> Group:
    """Return the picture in at most `size.height` lines. `elapsed` and `left`: seconds since the start, and to the end."""
    from rich.console import Group

    color = {"Success": "bold green"}.get(view.phase, "bold red" if view.finished else "bold")
    head: list[RenderableType] = [
        _cut(heading(view), color),
        _cut(counted(view), "dim"),
    ]
    if elapsed is not None:
        head.append(_cut(_times(view, elapsed, left), "dim"))
    waits = _waits(view, size.width)
    lines = [*head, *_batches(view, max(size.height - len(head) - len(waits), 3)), *waits]
    return Group(*lines)


def _times(view: Progress, elapsed: float, left: float | None) -> str:
    if view.finished:
        return f"took {span(elapsed)}"
    rest = "" if left is None else f", about {span(left)} {'to do after that' if view.waits else 'left'}"
    return f"{span(elapsed)} so far{rest}"


def _waits(view: Progress, width: int) -> list[RenderableType]:
    """Return what it waits for, and the command that continues it on a line of its own."""
    if not view.waits:
        return []
    why, arrow, commands = view.waits.rpartition(" → ")
    lines = textwrap.wrap(waits_line(why if arrow else commands), max(width, 20))
    if len(lines) > _LONGEST_WAIT:
        lines = [*lines[: _LONGEST_WAIT - 1], lines[_LONGEST_WAIT - 1][: max(width, 20) - 1] + "…"]
    if arrow:
        lines += textwrap.wrap(
            f"→ {commands}", max(width, 20), subsequent_indent="  ", break_on_hyphens=False
        )
    return [_cut(line, "bold yellow") for line in lines]


def _batches(view: Progress, room: int) -> list[RenderableType]:
    """Return the batches in at most `room` lines: those before and after the one under way are folded if need be."""
    done = [batch for batch in view.batches if batch.finished]
    current = next((batch for batch in view.batches if not batch.finished), None)
    coming = range(0) if view.finished else range(len(view.batches) + 1, view.total + 1)
    # of the batch under way, some pods have their place before others get theirs
    least = 0 if current is None else 1 + min(len(current.pods), _LEAST_PODS)
    after = [_cut(f"batch {number:<3} not started", "dim") for number in coming]
    if len(done) + least + len(after) > room and len(after) > 1:
        after = [_cut(f"batches {coming[0]}-{coming[-1]}: not started", "dim")]
    before = [_line(batch) for batch in done]
    if len(done) + least + len(after) > room:
        before = _folded(done)
    if current is None:
        return [*before, *after]
    pods = _pods(current, room - len(before) - len(after) - 1)
    return [*before, _line(current), *pods, *after]


def _folded(done: list[Batch]) -> list[RenderableType]:
    if len(done) < 2:
        return [_line(batch) for batch in done]
    line = _cut(f"{f'{done[0].number}-{done[-1].number}':<9} ")
    line.append("█" * _BAR_WIDTH, "green")
    pods = sum(batch.size for batch in done)
    line.append(_cut(f" {len(done)} batches, {pods} pods ✓"))
    return [line]


def _line(batch: Batch) -> RenderableType:
    filled = round(batch.share * _BAR_WIDTH)
    color = "red" if batch.failed else "green" if batch.finished else "cyan"
    line = _cut(f"{batch.title:<9} ")
    line.append("█" * filled, color)
    line.append("░" * (_BAR_WIDTH - filled), "dim")
    line.append(_cut(f" {batch.phase}{' ✓' if batch.finished else ''}"))
    return line


def _pods(batch: Batch, room: int) -> list[RenderableType]:
    """Return the pods in at most `room` lines, the failed ones first."""
    pods = sorted(batch.pods, key=lambda pod: pod.phase != "Failed")
    shown = pods if len(pods) <= room else pods[: max(room - 1, 0)]
    lines: list[RenderableType] = [
        _cut(
            f"  {pod.name}  {pod.phase}{f' {pod.reason}' if pod.reason else ''}",
            _COLORS.get(pod.phase, "dim"),
        )
        for pod in shown
    ]
    if len(shown) < len(pods) and room > 0:
        failed = sum(pod.phase == "Failed" for pod in pods[len(shown) :])
        lines.append(
            _cut(
                f"  and {len(pods) - len(shown)} more{f', {failed} of them failed' if failed else ''}", "dim"
            )
        )
    return lines
