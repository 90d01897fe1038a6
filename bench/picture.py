"""Draws a result of `release.py -o json` as SVG: for each workload two bars, the floor's and Triton's, cut into
the legs of a release. `python bench/picture.py result.json > docs/images/bench-sandbox.svg`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Final

from shared.domain.json_types import Json

if __name__ == "__main__":
    # started as a script: the folder above is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.legs import LEGS

COLOURS: Final = {
    "first": "#4e79a7",
    "start": "#c9cdd2",
    "gate": "#f28e2b",
    "turn": "#e15759",
    "old": "#9aa5b1",
    "end": "#76b7b2",
}
"""Grey is what pods take by themselves; what has a colour is for a driver to save."""
SIDES: Final = {"floor": "floor", "triton": "Triton"}
WIDTH: Final = 900
LEFT: Final = 80
RIGHT: Final = 70
BAR: Final = 22
HEAD: Final = 34
BLOCK: Final = 104
LEGEND_LINE: Final = 20


def picture(result: Json) -> str:
    """The SVG. Seconds have one scale in all workloads."""
    workloads = result["workloads"]
    longest = max(sum(_legs(one, side).values()) for one in workloads.values() for side in SIDES)
    scale = (WIDTH - LEFT - RIGHT) / longest
    body = [_text(10, 22, _title(result), size=13)]
    top = HEAD
    for workload in workloads.values():
        body += _workload(workload, top, scale)
        top += BLOCK
    body += _legend(top + 6)
    height = top + 6 + LEGEND_LINE * ((len(LEGS) + 1) // 2) + 8
    about = f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {about}>',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def _title(result: Json) -> str:
    machine = result["machine"]
    return (
        f"Mean time of one release in the {result['where']}, seconds "
        f"({result['date'][:10]}, {machine['cores']} cores, median of {_runs(result)} runs)"
    )


def _runs(result: Json) -> int:
    return max(len(workload["runs"]) for workload in result["workloads"].values())


def _legs(workload: Json, side: str) -> dict[str, float]:
    runs = [run["sides"][side]["legs"] for run in workload["runs"]]
    return {leg: median(run[leg] for run in runs) for leg in LEGS}


def _workload(workload: Json, top: int, scale: float) -> list[str]:
    ratio = workload["ratio"]["median"]
    told = f"{workload['what']} · wall time Triton ÷ floor: {ratio:.2f}"
    if workload["target"] is not None:
        told += f" (target ≤ {workload['target']:g})"
    parts = [_text(10, top + 20, told, size=12, weight="bold")]
    for number, (side, name) in enumerate(SIDES.items()):
        y = top + 32 + number * (BAR + 8)
        parts.append(_text(10, y + 15, name, size=12))
        parts += _bar(_legs(workload, side), y, scale)
    return parts


def _bar(legs: dict[str, float], y: int, scale: float) -> list[str]:
    x = float(LEFT)
    parts = []
    for leg, seconds in legs.items():
        width = max(seconds, 0.0) * scale
        title = f"<title>{escape(LEGS[leg])}: {seconds:.2f} s</title>"
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{COLOURS[leg]}">{title}</rect>'
        )
        x += width
    return [*parts, _text(x + 6, y + 15, f"{sum(legs.values()):.2f} s", size=12)]


def _legend(top: int) -> list[str]:
    parts = []
    for number, (leg, what) in enumerate(LEGS.items()):
        x, y = 10 + (number % 2) * (WIDTH // 2), top + (number // 2) * LEGEND_LINE
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="14" fill="{COLOURS[leg]}"/>')
        parts.append(_text(x + 20, y + 12, what, size=12))
    return parts


def _text(x: float, y: float, text: str, *, size: int, weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}">{escape(text)}</text>'


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python bench/picture.py", description=__doc__)
    parser.add_argument("result", type=Path, help="what `release.py -o json` printed")
    given = parser.parse_args(arguments)
    try:
        result = json.loads(given.result.read_text())
    except (OSError, ValueError) as error:
        parser.error(f"{given.result} can't be read: {error}")
    if not result.get("workloads"):
        parser.error(f"{given.result} has no workloads: it was made without --sandbox")
    sys.stdout.write(picture(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
