"""Name what is being deleted and not gone yet: the CloneSet, or the pods that a batch replaced. Pure."""

from __future__ import annotations

from typing import Final

from services.planner.model.state import Flow, Instance, Step
from services.planner.rules.cloneset_warnings import describe_warning

CLONESET_TERMINATING: Final = "CloneSetTerminating"


def describe_deletion(instance: Instance) -> str:
    """Return that the CloneSet is being deleted, and what holds it."""
    held_by = ", ".join(instance.cloneset.finalizers)
    return f"CloneSet {instance.key} is being deleted" + (f" (held by {held_by})" if held_by else "")


OLD_PODS_HELD: Final = "OldPodsHeld"
_REFUSED: Final = "FailedDelete"
"""OpenKruise's Event about a deletion that the API server refuses: a budget, a policy, a webhook."""
_NAMED: Final = 5
"""How many pods a message names."""


def find_remaining(instance: Instance, uids: tuple[str, ...]) -> tuple[str, ...]:
    """Return the pods that are not removed: no pod within its termination grace period, but one that is held."""
    pods = instance.pods
    return tuple(uid for uid in uids if uid in pods and (pods[uid].held or not pods[uid].deleting))


def explain_held_pods(instance: Instance, flow: Flow) -> tuple[str, str] | None:
    """Return the reason and message for old pods that may not be deleted; None where none is known to be held."""
    if instance.pending is not None and not instance.pending.carried_out:
        return None
    batch = flow.open_batch
    waits = {earlier.number: earlier.removing for earlier in flow.unfinished_before}
    if batch is None and flow.batch is not None and not flow.batch.finished_at:
        waits[flow.batch.number] = flow.batch.removing
    if flow.step == Step.RETIRE and batch is not None:
        waits[batch.number] = (*flow.victims, *flow.dropped)
    if flow.step not in {Step.SURGE, Step.RETIRE, Step.BETWEEN}:
        return None
    for number, uids in waits.items():
        if words := describe_held(instance, flow, uids):
            return OLD_PODS_HELD, f"batch {number} waits until the pods that it replaced are gone: {words}"
    return None


def describe_held(instance: Instance, flow: Flow, uids: tuple[str, ...]) -> str:
    """Return `web-1 (held by finalizer x), web-2 (…)`, and OpenKruise's words where its deletion is refused.

    Empty where none of these pods is known to be held.
    """
    remaining = find_remaining(instance, uids)
    refused = describe_warning(instance, flow) if instance.cloneset.warning.startswith(_REFUSED) else ""
    if not remaining or not (refused or any(instance.pods[uid].held for uid in remaining)):
        return ""
    pods = sorted((instance.pods[uid] for uid in remaining), key=lambda pod: pod.name)
    named = [f"{pod.name} (held by {pod.held})" if pod.held else pod.name for pod in pods[:_NAMED]]
    more = f" and {len(pods) - _NAMED} more" if len(pods) > _NAMED else ""
    return ", ".join(named) + more + refused
