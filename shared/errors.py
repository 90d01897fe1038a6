"""The ways in which work can fail: a server is away, the work itself is at fault, or a setting is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Unavailable(Exception):
    """A required server does not answer now: retry for as long as it takes."""


class Poison(Exception):
    """A message that can never be handled: it goes to the dead letters."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Fault(NamedTuple):
    """Why a message is at fault: one word in CamelCase, and a text for people."""

    reason: str
    message: str


class Unpublishable(Poison):
    """Messages that Kafka refuses, whenever it is asked; it has all the others. `faults`: why, by their place."""

    def __init__(self, faults: Mapping[int, Fault]) -> None:
        first = next(iter(faults.values()))
        super().__init__(first.reason, first.message)
        self.faults = faults


class ConfigError(Exception):
    """A setting, or a file that it names, can't be used: somebody has to change it."""
