"""The plan of a release, from its counts: how many batches, and how large the next one is."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.model.batch_plan import (
    Counts,
    batch_count,
    canary_of,
    canary_warning,
    remaining,
    share_of,
)
from services.planner.model.state import Flow, Step
from shared.domain.deployflow import count_of


def batch_size_of(f: Flow) -> int:
    share = share_of(f.wanted, f.to_process, Counts(f.updated, f.others))
    return count_of(f.strategy.batch_size, share)


def planned(f: Flow) -> Flow:
    """The release with the plan that its counts lead to."""
    counts = Counts(f.updated, f.others)
    to_process = remaining(f.wanted, counts)
    canary = canary_of(f.strategy.canary, to_process) if counts.updated < f.wanted else 0
    warnings = f.warnings
    if f.strategy.canary and not canary and to_process:
        warnings = (*warnings, canary_warning(f.strategy.canary, to_process))
    f = replace(f, step=Step.BETWEEN, to_process=to_process, warnings=warnings)
    total = batch_count(to_process, canary, batch_size_of(f))
    return replace(f, total=total, planned=total)


def first_size(f: Flow) -> tuple[int, bool]:
    """How many pods the next batch of a planned release makes or removes, and whether they are its canary."""
    left = remaining(f.wanted, Counts(f.updated, f.others))
    canary = canary_of(f.strategy.canary, left) if not f.batches and f.updated < f.wanted else 0
    return min(canary or batch_size_of(f), left), bool(canary)
