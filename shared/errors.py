"""The ways in which work can fail: a server is away, the work itself is at fault, or a setting is."""

from __future__ import annotations


class Unavailable(Exception):
    """A required server does not answer now: retry for as long as it takes."""


class Poison(Exception):
    """A message that can never be handled: it goes to the dead letters."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ConfigError(Exception):
    """A setting, or a file that it names, can't be used: somebody has to change it."""
