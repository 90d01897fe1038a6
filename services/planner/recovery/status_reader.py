"""Read a `.status` back into the planner's own values. Pure."""

from __future__ import annotations

from datetime import datetime

from services.planner.model.state import Batch
from services.planner.rules.clocks import restart_on_rebuild
from shared.domain.deployflow import BatchPhase, Condition, DeployFlowStatus


def read_batches(status: DeployFlowStatus, now: int) -> tuple[Batch, ...]:
    """Return the batches as `.status` has them; those that it leaves out for want of room are finished ones."""
    batches: list[Batch] = []
    for condition in status.conditions:
        batch = read_batch(condition, status.finished_batches, now)
        if unlisted := batch.number - len(batches) - 1:
            listed = sum(c.batch_size for c in status.conditions if c.batch <= status.finished_batches)
            size, larger = divmod(max(status.finished_replicas - listed, 0), unlisted)
            batches += [
                Batch(
                    number=len(batches) + at,
                    surge=size + (at <= larger),
                    phase=BatchPhase.BAKED,
                    finished_at=batch.started_at or 1,
                )
                for at in range(1, unlisted + 1)
            ]
        batches.append(batch)
    return tuple(batches)


def read_batch(condition: Condition, finished_batches: int, now: int) -> Batch:
    """Return a batch as `.status` has it; of an open one the clocks start again."""
    finished = condition.batch <= finished_batches or condition.finished_at is not None
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
