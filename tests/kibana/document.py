"""docs/release-log.md as its tests read it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

TEXT: Final = (Path(__file__).parents[2] / "docs" / "release-log.md").read_text()


def rows(mark: str) -> list[list[str]]:
    """The cells of the table below a mark, without its head."""
    (table,) = re.findall(rf"<!-- release log: {mark} -->\n((?:\|.*\n)+)", TEXT)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


class Question(NamedTuple):
    text: str
    view: str
    kql: str


QUESTIONS: Final = [Question(text, view, condition.strip("`")) for text, view, condition in rows("questions")]
