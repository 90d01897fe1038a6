"""The two ways in which work can fail: the world is away for now, or the work itself is at fault."""

from __future__ import annotations


class Unavailable(Exception):
    """A server that we need does not answer now. Trying again later is right, for as long as it takes."""


class Poison(Exception):
    """A message that can't be worked on, however often it is tried: it goes to the dead letters."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
