"""Conditions in Kibana's query language that know their fields."""

from __future__ import annotations

from typing import NamedTuple


class Kql(NamedTuple):
    """A condition and its fields. An empty text is no condition."""

    text: str = ""
    fields: frozenset[str] = frozenset()

    def __and__(self, other: Kql) -> Kql:
        return Kql(f"{self.text} and {other.text}", self.fields | other.fields)


def one_of(field: str, *values: str) -> Kql:
    """Return the condition that the field has one of these values."""
    words = " or ".join(f'"{value}"' for value in values)
    return Kql(f"{field} : {words if len(values) == 1 else f'({words})'}", frozenset({field}))


def known(field: str) -> Kql:
    """Return the condition that the field has a value."""
    return Kql(f"{field} : *", frozenset({field}))
