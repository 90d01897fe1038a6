"""Output of commands: objects as JSON or YAML for programs, tables and lines for people.

Commands write by `say`, `note`, `ask`, `show` and `styled` only, which make the texts of other people safe for a terminal:
`tests/unit/cli/test_output.py` finds a command that writes in another way.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from shared.domain.safe_text import has_unsafe, json_text, quoted_escapes, shortened, visible

if TYPE_CHECKING:
    from rich.text import Text

WIDEST: Final = 120
"""The most characters of a cell that others are aligned with. A key of Kafka, namespace/instance, has at most 116."""
LONGEST: Final = 4000
"""The most characters of the last cell of a row, as of a dead letter's message."""


class Format(StrEnum):
    JSON = "json"
    YAML = "yaml"


def dump(value: Any, form: Format) -> str:
    """Return the text of an object: equal to it, with unsafe characters escaped as JSON and YAML do."""
    if form == Format.JSON:
        return json_text(value, indent=2)
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text_of(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar(
            "tag:yaml.org,2002:str", text, style='"' if has_unsafe(text.replace("\n", "")) else None
        )

    Dumper.add_representer(str, text_of)
    text: str = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)
    return quoted_escapes(text).rstrip("\n")


def show(value: Any, form: Format) -> None:
    """Print an object for a program."""
    print(dump(value, form), flush=True)


def show_next(value: Any, form: Format) -> None:
    """Print one of a stream of objects for a program: a line of JSON, or a document of YAML."""
    print(json_text(value) if form == Format.JSON else f"---\n{dump(value, form)}", flush=True)


def say(*lines: str, color: str | None = None, bold: bool = False) -> None:
    """Print lines for a person, each of which stays one line. Colors are left out where there is no terminal."""
    import typer

    for line in lines:
        typer.secho(visible(line), fg=color, bold=bold or None)
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a remark for a person on stderr; programs read stdout."""
    print(visible(text), file=sys.stderr, flush=True)


def ask(question: str) -> bool:
    """Ask the person at the terminal, on stderr; return whether the answer is yes. No answer is no."""
    print(f"{visible(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def verbatim(text: str) -> None:
    """Print a text of Triton's own, with its line breaks."""
    print(text, end="" if text.endswith("\n") else "\n", flush=True)


def styled(text: str, style: str = "", *, cut: bool = False) -> Text:
    """Return a text for a terminal; `cut`: at its right edge, instead of on more lines."""
    from rich.text import Text

    return Text(visible(text), style=style, no_wrap=cut or None, overflow="ellipsis" if cut else None)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None = None) -> list[str]:
    """Return the lines of a table in kubectl's form: columns of minimal width, three spaces apart.

    Too long cells are shortened, so that one of them does not pad every row. `width`: of the terminal; the widest
    columns are shortened until the lines fit.
    """
    lines = [_cells(row) for row in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    least = [min(len(title), _LEAST) for title in header]
    while width is not None and sum(widths) + 3 * (len(widths) - 1) > width:
        spare = [have - need for have, need in zip(widths, least, strict=True)]
        if max(spare) <= 0:
            break
        widths[max(range(len(widths)), key=lambda column: (spare[column] > 0, widths[column]))] -= 1
    return [
        "   ".join(_fitted(cell, size).ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def terminal_width() -> int | None:
    """Return the columns of the terminal; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


_LEAST: Final = 6


def _fitted(cell: str, size: int) -> str:
    return cell if len(cell) <= size else f"{cell[: size - 1]}…"


def _cells(row: Sequence[str]) -> list[str]:
    *aligned, last = row
    return [*(shortened(visible(cell), WIDEST) for cell in aligned), shortened(visible(last), LONGEST)]


def parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def age(since: str | None, now: datetime) -> str:
    """Return the age in kubectl's form: 45s, 12m, 5h, 3d."""
    moment = parse_time(since)
    if moment is None:
        return "-"
    seconds = max(int((now - moment).total_seconds()), 0)
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"


def clock(text: str | None) -> str:
    """Return the local time of day with tenths of a second; "-" when it is not known yet."""
    moment = parse_time(text)
    return moment.astimezone().strftime("%H:%M:%S.%f")[:-5] if moment else "-"


def zone() -> str:
    """Return the name of the zone of `clock`: `UTC+01:00`."""
    offset = datetime.now().astimezone().strftime("%z")
    return "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:]}"


def span(seconds: float) -> str:
    """Format a duration: `2.4 s`, `12 min 05 s`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def now() -> datetime:
    return datetime.now(UTC)
