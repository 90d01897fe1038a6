"""The errors of commands: each ends as one line on stderr and an exit code."""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
USAGE: Final = 2
WAITING: Final = 3
"""The release waits for a person."""
TIMED_OUT: Final = 4
RUNNING: Final = 5
"""The release goes on by itself."""
INTERRUPTED: Final = 130
"""128 + SIGINT, as in shells."""


class Failure(Exception):
    """The command could not be carried out. The text is for people: what, where, what to do."""

    code = FAILED


class BadInput(Failure):
    """The input is invalid: a file, a field, an option."""

    code = USAGE
