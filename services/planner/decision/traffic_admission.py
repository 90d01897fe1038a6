"""Let pods into traffic beyond a batch's own pull-in: when a pull_in is done, and which pods no batch owns. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.model.state import Flow, Instance, Step


def acknowledge_pull_in(instance: Instance) -> Instance:
    """Mark the pending pull_in as carried out once none of the requested gates is closed."""
    if instance.pending is None or instance.pending.kind != "pull_in" or instance.pending.seen:
        return instance
    ending = instance.active is not None and instance.active.step == Step.CANCEL
    requested = [pod for pod in instance.pods.values() if pod.pull_in_sequence and not pod.deleting]
    # a batch's pod waits for its containers; a pod that a cancel lets back into traffic had them ready before
    if any(pod.gate == "closed" and (ending or pod.containers_ready) for pod in requested):
        return instance
    return replace(instance, pending=replace(instance.pending, answered=True, seen=True))


def find_strays(instance: Instance, flow: Flow) -> tuple[str, ...]:
    """Return the pods that replace pods of a finished batch: the hold keeps them closed and no batch owns them."""
    idle = instance.pending is None or instance.pending.carried_out
    if flow.step not in {Step.SURGE, Step.SMOKED, Step.PULL_IN, Step.PULL_OUT} or not idle:
        return ()
    batch = flow.open_batch
    if (
        flow.paused
        or flow.strategy.no_pull_in
        or batch is None
        or (flow.step == Step.SURGE and not batch.surge_acknowledged)
    ):
        return ()
    return tuple(
        uid
        for uid, pod in instance.pods.items()
        if pod.batch != batch.number
        and pod.revision == flow.target_revision
        and pod.containers_ready
        and pod.gate == "closed"
        and not (pod.pull_in_sequence or pod.deleting or uid in (*flow.victims, *flow.leaving, *flow.dropped))
    )
