"""The wait between two batches."""

from __future__ import annotations

from services.planner.model.state import Flow


def interval_end(f: Flow) -> int:
    """When the next batch may start by `batchIntervalSeconds`; there is no wait after the canary."""
    last = f.batch
    if last is None or last.canary:
        return 0
    return last.finished_at + f.strategy.interval * 1000
