"""The command blocks of a document: the commands, and the output that the document shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- test: ([^>]+) -->\n\Z")


class Step(NamedTuple):
    """A command and the lines that the document shows below it."""

    command: str
    shown: tuple[str, ...]


class Block(NamedTuple):
    """A fenced block; `mark` is empty where no comment above it names a test."""

    language: str
    mark: str
    text: str

    @property
    def steps(self) -> list[Step]:
        """`$ command` lines, each with the lines of output shown below it."""
        steps: list[Step] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line.removeprefix("$ "), ()))
            elif line:
                steps[-1] = steps[-1]._replace(shown=(*steps[-1].shown, line))
        return steps


def blocks(document: Path) -> list[Block]:
    """Every fenced block, in order."""
    text = document.read_text()
    found = []
    for match in _FENCE.finditer(text):
        mark = _MARK.search(text[: match.start()])
        found.append(Block(match[1], mark[1] if mark else "", match[2]))
    return found


def seen(shown: str, output: str) -> bool:
    """Whether a line of the output begins with the shown one's words; `…` stands for anything."""
    parts = [re.escape(" ".join(part.split())) for part in shown.split("…")]
    pattern = re.compile(r".*".join(parts))
    return any(pattern.search(" ".join(line.split())) for line in output.splitlines())
