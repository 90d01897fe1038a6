"""Plan a release from its counts: the number of batches, and the size of the next one."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.model.batch_plan import (
    Counts,
    canary_warning,
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
    canary = size_canary(flow.strategy.canary, to_process) if counts.updated < flow.wanted else 0
    warnings = flow.warnings
    if flow.strategy.canary and not canary and to_process:
        warnings = (*warnings, canary_warning(flow.strategy.canary, to_process))
    flow = replace(flow, step=Step.BETWEEN, to_process=to_process, warnings=warnings)
    total = count_batches(to_process, canary, batch_size_of(flow))
    return replace(flow, total=total, planned=total)


def plan_remaining(flow: Flow) -> Flow:
    """Return the release with its number of batches, after its wanted count has changed."""
    batch = flow.open_batch
    counts = Counts(flow.updated, flow.others)
    if batch is not None:
        retire = count_retired(flow.wanted, counts, batch.surge) if batch.surge else batch.retire
        counts = counts_after(counts, batch.surge, retire)
    left = count_remaining(flow.wanted, counts)
    canary = (
        size_canary(flow.strategy.canary, left) if not flow.batches and counts.updated < flow.wanted else 0
    )
    return replace(flow, total=len(flow.batches) + count_batches(left, canary, batch_size_of(flow)))


def size_first_batch(flow: Flow) -> tuple[int, bool]:
    """Return how many pods the next batch makes or removes, and whether it is the canary."""
    left = count_remaining(flow.wanted, Counts(flow.updated, flow.others))
    canary = size_canary(flow.strategy.canary, left) if not flow.batches and flow.updated < flow.wanted else 0
    return min(canary or batch_size_of(flow), left), bool(canary)
