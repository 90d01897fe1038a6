"""The output of the demo and its summary: live and coloured on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console

from cli.demo.checks import Check
from cli.log_text import Line
from cli.output import Format, show, styled, table
from cli.watching import LiveScreen, PlainScreen, Screen
from shared.domain.json_types import Json

_MB = 1 << 20


class Stage:
    """The output of the demo. With `quiet` it is stderr: stdout is then for a program."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(file=sys.stderr if quiet else sys.stdout, highlight=False, soft_wrap=True)
        self._began = time.monotonic()

    def say(self, text: str, style: str | None = None) -> None:
        for line in text.split("\n"):
            self._console.print(styled(line, style or ""))

    def title(self, text: str) -> None:
        self.say(f"\n=== {text} ===", "bold")

    def lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.say(line)

    def toned(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self.say(line.text, line.tone.value or None)

    @contextmanager
    def screen(self) -> Iterator[Screen]:
        """Open a screen for one release."""
        live = self._console.is_terminal
        screen: Screen = LiveScreen(self._console) if live else PlainScreen(self.say)
        with screen.opened():
            yield screen


class Report:
    """The times and checks of the demo."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.seconds: dict[str, float] = {}
        self.checks: list[Check] = []
        self.memory: dict[str, int] = {}

    @property
    def holds(self) -> bool:
        return bool(self.checks) and all(check.holds for check in self.checks)

    def took(self, what: str, since: float) -> None:
        self.seconds[what] = round(time.monotonic() - since, 1)

    def add(self, *found: Check) -> None:
        self.checks += found
        for check in found:
            self.stage.say(_line(check), "green" if check.holds else "bold red")

    def print(self, output: Format | None) -> None:
        if output is not None:
            show(self.as_object(), output)
            return
        self.stage.title("Summary")
        rows = [(what, f"{seconds:.1f} s") for what, seconds in self.seconds.items()]
        self.stage.lines(table(("PART", "TOOK"), rows))
        total = sum(self.memory.values()) // _MB
        parts = ", ".join(f"{name} {peak // _MB}" for name, peak in self.memory.items())
        self.stage.say(f"\npeak memory of all processes together: {total} MB ({parts})")
        failed = [check for check in self.checks if not check.holds]
        for check in failed:
            self.stage.say(_line(check), "bold red")
        held = f"{len(self.checks) - len(failed)} of {len(self.checks)} checks hold"
        self.stage.say(held, "bold red" if failed else "bold green")

    def as_object(self) -> Json:
        return {
            "holds": self.holds,
            "simulation": True,
            "seconds": self.seconds,
            "checks": [check._asdict() for check in self.checks],
            "peakMemoryMB": {name: peak // _MB for name, peak in self.memory.items()},
            "peakMemoryTotalMB": sum(self.memory.values()) // _MB,
        }


def _line(check: Check) -> str:
    return f"{'ok    ' if check.holds else 'FAILED'}  {check.what}: {check.seen}"
