"""Decide when a write of a DeployFlow that the API server refused is tried again."""

from __future__ import annotations

from typing import Final

FIRST_SECONDS: Final = 1.0
"""The wait after the first refusal; twice as long each time, at most `LONGEST_SECONDS`."""
LONGEST_SECONDS: Final = 60.0


def wait_after(refusals: int) -> float:
    """Return the seconds to wait after so many refusals in a row."""
    return min(FIRST_SECONDS * (1 << min(refusals - 1, 10)), LONGEST_SECONDS)
