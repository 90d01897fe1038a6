"""Select the pods that a batch replaces."""

from __future__ import annotations

from services.planner.model.batch_plan import Counts, count_retired
from services.planner.model.state import PRE_EXISTING, Batch, Flow, Instance


def count_to_retire(flow: Flow, batch: Batch) -> int:
    """Return how many pods the batch replaces, or just removes."""
    return (
        count_retired(flow.wanted, Counts(flow.updated, flow.others), batch.surge)
        if batch.surge
        else batch.retire
    )


def choose_victims(instance: Instance, flow: Flow, count: int) -> tuple[str, ...]:
    """Return the pods that the batch replaces: those to be removed first, then pods that are not Ready, then the oldest.

    A batch of an update takes no pod of the target revision. A batch of another action does where some of the pods to
    be removed went by themselves and others took their place: then pods that the release made, none from before it.
    """
    batch = flow.open_batch
    live = [(uid, pod) for uid, pod in instance.pods.items() if not pod.deleting and uid not in flow.dropped]
    if flow.updating:
        live = [item for item in live if batch is None or item[1].batch != batch.number]
        if batch is not None and batch.surge:
            live = [item for item in live if not flow.keeps_pod(item[0], item[1].revision)]
    live.sort(
        key=lambda item: (
            flow.keeps_pod(item[0], item[1].revision),
            item[1].ready,
            item[1].batch <= PRE_EXISTING and not flow.updating,
            item[1].created_at,
            item[1].name,
        )
    )
    return tuple(uid for uid, _ in live[:count])
