"""Take the pods that fail a bake out of traffic: those that failed it, and those that fail later. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.decision import command_factory
from services.planner.model.state import Instance
from services.planner.rules.failure_detection import Failure
from shared.domain.messages import PullOut


def find_still_serving(instance: Instance, found: Failure) -> tuple[str, ...]:
    """Return the pods to pull out now, with those of a pending pull_out; empty when no further pod has failed."""
    under_way = _pods_being_pulled_out(instance)
    more = tuple(uid for uid in found.pull_out if instance.pods[uid].gate == "open" and uid not in under_way)
    return (*under_way, *more) if more else ()


def acknowledge_pull_out(instance: Instance) -> Instance:
    """Mark the pending pull_out as carried out once none of its gates is open."""
    under_way = _pods_being_pulled_out(instance)
    live = (pod for uid in under_way if (pod := instance.pods.get(uid)) is not None and not pod.deleting)
    if instance.pending is None or not under_way or any(pod.gate == "open" for pod in live):
        return instance
    return replace(instance, pending=replace(instance.pending, answered=True, seen=True))


def _pods_being_pulled_out(instance: Instance) -> tuple[str, ...]:
    pending = instance.pending
    if pending is None or pending.kind != "pull_out" or pending.seen:
        return ()
    command = command_factory.parse_command(pending.body)
    return tuple(command.uids) if isinstance(command, PullOut) else ()
