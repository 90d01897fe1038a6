"""Which pods a batch replaces."""

from __future__ import annotations

from services.planner.plan import Counts, retire_after
from services.planner.state import Batch, Flow, Instance


def retires(f: Flow, batch: Batch) -> int:
    """How many pods the batch replaces, or just removes."""
    return retire_after(f.wanted, Counts(f.updated, f.others), batch.surge) if batch.surge else batch.retire


def choose_victims(i: Instance, f: Flow, count: int) -> tuple[str, ...]:
    """Whom the batch replaces: pods that are not Ready, then the oldest; target revision last."""
    batch = f.open_batch
    candidates = [
        (uid, pod)
        for uid, pod in i.pods.items()
        if not pod.deleting and (batch is None or pod.batch != batch.number)
    ]
    candidates.sort(
        key=lambda item: (
            item[1].revision == f.target_revision,
            item[1].ready,
            item[1].created_at,
            item[1].name,
        )
    )
    if batch is not None and batch.surge:
        candidates = [item for item in candidates if item[1].revision != f.target_revision]
    return tuple(uid for uid, _ in candidates[:count])
