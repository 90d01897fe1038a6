"""Read a `.status` back into the planner's own values. Pure."""

from __future__ import annotations

from datetime import datetime

from services.planner.model.state import Batch
from services.planner.rules.clocks import restart_on_rebuild
from shared.domain.deployflow import Condition


def read_batch(condition: Condition, finished_batches: int, now: int) -> Batch:
    """Return a batch as `.status` has it; of an open one the clocks start again."""
    finished = condition.batch <= finished_batches
    started = to_milliseconds(condition.started_at)
    batch = Batch(
        number=condition.batch,
        surge=condition.batch_size,
        canary=condition.canary,
        phase=condition.phase,
        failed_replicas=condition.failed_replicas,
        reason=condition.reason,
        message=condition.message,
        started_at=started,
        surged_at=started,
        pulled_in_at=to_milliseconds(condition.pulled_in_at),
        finished_at=(to_milliseconds(condition.finished_at) or started or 1) if finished else 0,
    )
    return batch if finished else restart_on_rebuild(batch, now)


def to_milliseconds(time: datetime | None) -> int:
    return int(time.timestamp() * 1000) if time else 0
