"""The wall clock in milliseconds, the unit of all times in messages and states."""

from __future__ import annotations

import time


def now_milliseconds() -> int:
    """Return the milliseconds since 1970."""
    return time.time_ns() // 1_000_000
