"""Count pods that lost their traffic and still have connections: they are removed once they report none."""

from __future__ import annotations

from services.planner.model.state import Flow, Instance, Step


def count_undrained(instance: Instance, uids: tuple[str, ...]) -> int:
    """Return how many of these pods live and may have connections, by their own report."""
    pods = (instance.pods.get(uid) for uid in uids)
    return sum(1 for pod in pods if pod is not None and not (pod.deleting or pod.drained))


def explain_draining(instance: Instance, flow: Flow) -> tuple[str, str] | None:
    """Return the reason and message for a release that waits for connections to end; None where it does not."""
    batch = flow.open_batch
    if batch is None or flow.step != Step.PULL_OUT or not batch.pulled_out_at:
        return None
    left = count_undrained(instance, flow.victims)
    if not left:
        return None
    text = f"{left} of {len(flow.victims)} pods that batch {batch.number} replaces have connections left"
    return "Draining", f"{text}: each is deleted when it has none, or when its time limit has passed"
