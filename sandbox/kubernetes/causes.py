"""The causes of a refused object: one per field, as a `Status` lists them and as validation finds them."""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """One field that is wrong: the path to it, a machine-readable reason and the sentence about it."""

    field: str
    reason: str
    message: str
