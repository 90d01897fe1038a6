"""The wait between two batches."""

from __future__ import annotations

from services.planner.model.state import Flow


def interval_end(flow: Flow) -> int:
    """When the next batch may start by `batchIntervalSeconds`; there is no wait after the canary."""
    last = flow.batch
    if last is None or last.canary:
        return 0
    return last.finished_at + flow.strategy.interval * 1000
