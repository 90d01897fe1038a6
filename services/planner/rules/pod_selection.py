"""Select the pods that a batch replaces."""

from __future__ import annotations

from services.planner.model.batch_plan import Counts, count_retired
from services.planner.model.state import PRE_EXISTING, Batch, Flow, Instance, Step


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
    removing = {uid for earlier in flow.unfinished_before for uid in earlier.removing}
    if flow.step == Step.SURGE:
        # the write that removes them is made again
        removing = set()
    leaving = {*flow.dropped, *removing}
    live = [(uid, pod) for uid, pod in instance.pods.items() if not pod.deleting and uid not in leaving]
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


def choose_surplus(instance: Instance, flow: Flow, batch: Batch) -> tuple[str, ...]:
    """Return the pods beyond the counts of a batch that was surged: others, updated ones, and those of the batch.

    Of each, pods that are not Ready go first; of the others then the oldest, as in a retire, else the youngest.
    """
    live = [(uid, pod) for uid, pod in instance.pods.items() if not pod.deleting and uid not in flow.dropped]
    own = [item for item in live if item[1].batch == batch.number]
    rest = [item for item in live if item[1].batch != batch.number]
    updated = [item for item in rest if flow.keeps_pod(item[0], item[1].revision)]
    others = [item for item in rest if not flow.keeps_pod(item[0], item[1].revision)]
    others.sort(key=lambda item: (item[1].ready, item[1].created_at, item[1].name))
    for fresh in (updated, own):
        fresh.sort(
            key=lambda item: (item[1].ready, item[1].containers_ready, -item[1].created_at, item[1].name)
        )
    surplus = (
        others[: max(len(others) - flow.others, 0)],
        updated[: max(len(updated) - flow.updated, 0)],
        own[: max(len(own) - batch.surge, 0)],
    )
    return tuple(uid for pods in surplus for uid, _ in pods)
