"""Output of commands: objects as JSON or YAML for programs, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Format(StrEnum):
    JSON = "json"
    YAML = "yaml"


def dump(value: Any, form: Format) -> str:
    if form == Format.JSON:
        return json.dumps(value, indent=2, ensure_ascii=False, default=str)
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)
    return text.rstrip("\n")


def show(value: Any, form: Format) -> None:
    print(dump(value, form))


def note(text: str) -> None:
    """Print a remark for a person on stderr; programs read stdout."""
    print(text, file=sys.stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in kubectl's form: columns of minimal width, three spaces apart."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return [
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


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


def now() -> datetime:
    return datetime.now(UTC)
