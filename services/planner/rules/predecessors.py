"""Decide from the earlier releases of an instance what a create does where its CloneSet exists already. Pure.

A create that is applied again would put back what was updated since. It may change an existing instance only where
no release can say what belongs there: none was ever good, or all were deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from services.planner.model.state import Flow, Instance, Step
from shared.domain.deployflow import Action, FlowPhase


class Predecessor(NamedTuple):
    """A release that has begun, as the cluster has it."""

    uid: str
    action: str
    phase: str


def needs_predecessors(instance: Instance) -> bool:
    """Return whether what the release does next depends on the releases before it."""
    flow = instance.active
    return (
        flow is not None and flow.action == Action.CREATE and flow.step == Step.OBSERVE and not flow.batches
    )


def apply_predecessors(instance: Instance, known: Sequence[Predecessor]) -> Instance:
    """Return the instance with what they say about the create that begins. `known`: itself may be among them."""
    flow = instance.active
    if flow is None or not instance.cloneset.exists or not needs_predecessors(instance):
        return instance
    earlier = [release for release in known if release.uid != flow.uid]
    # the end of the release before it may not have reached the watch
    phases = {release.phase for release in earlier} | {release.phase for release in instance.finished}
    # where the first release is known, none was deleted
    complete = not earlier or any(release.action == Action.CREATE for release in earlier)
    may_change = complete and FlowPhase.SUCCESS not in phases
    if flow.may_change_existing == may_change:
        return instance
    return replace(instance, active=replace(flow, may_change_existing=may_change))


def explain_existing(instance: Instance, flow: Flow) -> str:
    """Return why a create may not go on where its instance exists; empty where it may."""
    there = instance.cloneset
    is_same = bool(flow.target_revision) and not flow.others and flow.updated == flow.wanted
    if not there.exists or is_same or there.no_good_template or flow.may_change_existing:
        return ""
    pods = f"{there.replicas} pod{'' if there.replicas == 1 else 's'}"
    return (
        f"{instance.name} exists already with {pods}, and this create has another template or count: make an update, "
        "or delete the instance first"
    )
