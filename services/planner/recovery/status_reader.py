"""What a `.status` tells, read back into the planner's own values. Pure."""

from __future__ import annotations

from datetime import datetime

from services.planner.model.state import Batch
from shared.domain.deployflow import BatchPhase, Condition


def read_batch(condition: Condition, finished_batches: int, now: int) -> Batch:
    """A batch as `.status` tells it; the start-up and pull-in times of one under way begin anew."""
    finished = condition.batch <= finished_batches
    started = to_milliseconds(condition.started_at)
    return Batch(
        number=condition.batch,
        surge=condition.batch_size,
        canary=condition.canary,
        phase=condition.phase,
        failed_replicas=condition.failed_replicas,
        reason=condition.reason,
        message=condition.message,
        started_at=started,
        surged_at=started if finished else now,
        unready_since=now if condition.phase == BatchPhase.BAKING and not finished else 0,
        pulled_in_at=to_milliseconds(condition.pulled_in_at),
        finished_at=(to_milliseconds(condition.finished_at) or started or 1) if finished else 0,
    )


def to_milliseconds(time: datetime | None) -> int:
    return int(time.timestamp() * 1000) if time else 0
