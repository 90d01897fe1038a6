"""What stops a measurement. A result that is slow never does."""

from __future__ import annotations


class BenchError(Exception):
    """The measurement can't go on; the text says why."""
