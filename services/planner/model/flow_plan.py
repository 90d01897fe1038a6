"""Plan a release from its counts: the number of batches, and the size of the next one."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.model.batch_plan import (
    Counts,
    count_batches,
    count_remaining,
    count_retired,
    counts_after,
    size_batches,
    size_canary,
)
from services.planner.model.state import Flow, Step


def batch_size_of(flow: Flow) -> int:
    counts = Counts(flow.updated, flow.others)
    return size_batches(flow.action, flow.strategy.batch_size, flow.wanted, flow.to_process, counts)


def plan_batches(flow: Flow) -> Flow:
    """Return the release with its number of batches, as its counts require."""
    counts = Counts(flow.updated, flow.others)
    to_process = count_remaining(flow.wanted, counts)
    flow = replace(flow, step=Step.BETWEEN, to_process=to_process)
    size = batch_size_of(flow)
    canary = size_canary(flow.strategy.canary, flow.wanted - counts.updated, size)
    total = count_batches(to_process, canary, size)
    return replace(flow, total=total, planned=total)


def plan_remaining(flow: Flow) -> Flow:
    """Return the release with its number of batches, after its wanted count has changed."""
    batch = flow.open_batch
    counts = Counts(flow.updated, flow.others)
    if batch is not None:
        retire = count_retired(flow.wanted, counts, batch.surge) if batch.surge else batch.retire
        counts = counts_after(counts, batch.surge, retire)
    left = count_remaining(flow.wanted, counts)
    size = batch_size_of(flow)
    canary = 0 if flow.batches else size_canary(flow.strategy.canary, flow.wanted - counts.updated, size)
    return replace(flow, total=len(flow.batches) + count_batches(left, canary, size))


def plan_next_batch(flow: Flow) -> tuple[int, bool]:
    """Return how many pods the next batch makes or removes, and whether it is the canary."""
    counts = Counts(flow.updated, flow.others)
    size = batch_size_of(flow)
    canary = 0 if flow.batches else size_canary(flow.strategy.canary, flow.wanted - counts.updated, size)
    return min(canary or size, count_remaining(flow.wanted, counts)), bool(canary)
