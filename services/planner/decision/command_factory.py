"""Make the commands of a release from its state; their targets are absolute."""

from __future__ import annotations

from typing import Any

from services.planner.model.release_requester import release_requester
from services.planner.model.state import Flow, Instance, Resync, Step
from services.planner.rules.pod_selection import count_to_retire
from shared.domain import messages as m
from shared.domain.topics import BATCH_COMMANDS

FILLED_IN: dict[str, Any] = {}
"""Stands for the application of the DeployFlow, which is read and filled in when the command is published."""


def _head(instance: Instance, sequence: int) -> dict[str, Any]:
    flow = _active_flow(instance)
    batch = flow.batch.number if flow.batch else 0
    last = flow.last_requester
    return {
        "namespace": instance.namespace,
        "instance": instance.name,
        "sequence": sequence,
        "flow": m.FlowRef(
            name=flow.name,
            uid=flow.uid,
            batch=batch,
            requested_by=last.requested_by,
            requested_by_claimed=last.requested_by_claimed,
            requested_via=last.requested_via,
            release_requester=release_requester(flow),
        ),
    }


def _seen_count(instance: Instance) -> dict[str, Any]:
    return {
        "accept_replicas": instance.cloneset.replicas,
        "accept_sequence": instance.cloneset.sequence,
    }


def _active_flow(instance: Instance) -> Flow:
    assert instance.active is not None
    return instance.active


def parse_command(body: str) -> m.Command:
    """Return a command that was issued before from its stored JSON."""
    command: m.Command = m.ADAPTERS[BATCH_COMMANDS].validate_json(body)
    return command


def observe(instance: Instance, sequence: int) -> m.Command:
    flow = _active_flow(instance)
    return m.Observe(**_head(instance, sequence), application=FILLED_IN if _tries_template(flow) else None)


def _tries_template(flow: Flow) -> bool:
    """Return whether an observation needs a dry run of the template, which the API server may refuse.

    Later ones only have to see what exists. What Triton 0.1.x has begun has its template in the CloneSet.
    """
    if not flow.updating or flow.step in {Step.TAKE_OVER, Step.CANCEL}:
        return False
    first = flow.step == Step.OBSERVE and not flow.batches
    return first or (flow.resync == Resync.REBUILD and not flow.rejections)


def claim(instance: Instance, sequence: int) -> m.Command:
    """Make a CloneSet ours in which Triton 0.1.x had begun: with our strategy and hold, no pod made or deleted."""
    flow = _active_flow(instance)
    batch = flow.open_batch
    replicas = instance.cloneset.replicas
    counts: dict[str, Any] = {
        "replicas": replicas,
        "partition": min(flow.others, replicas),
        **_seen_count(instance),
    }
    if batch is None:
        return m.Retire(**_head(instance, sequence), **counts)
    hold = m.Hold(
        flow=flow.uid, batch=batch.number, surge=batch.surge, updated=flow.updated, others=flow.others
    )
    return m.Surge(**_head(instance, sequence), **counts, hold=hold, no_pull_in=flow.strategy.no_pull_in)


def prepare(instance: Instance, sequence: int) -> m.Command:
    """Write the template and nothing else, to learn the name of its revision."""
    replicas = instance.cloneset.replicas
    hold = m.Hold(flow=_active_flow(instance).uid, batch=0, surge=0, updated=0, others=replicas)
    return m.Surge(
        **_head(instance, sequence),
        replicas=replicas,
        partition=replicas,
        hold=hold,
        application=FILLED_IN,
        create=not instance.cloneset.exists,
        **_seen_count(instance),
    )


def surge(instance: Instance, sequence: int, *, count: int | None = None, guard: bool = False) -> m.Command:
    """Make the pods of the open batch, or `count` of them. A batch that was halted or has failed keeps those it has."""
    flow = _active_flow(instance)
    batch = flow.open_batch
    assert batch is not None
    if count is None:
        stands = flow.failed or (flow.paused and flow.step == Step.SURGE)
        count = min(len(instance.live_pods_of(batch)), batch.surge) if stands else batch.surge
    return m.Surge(
        **_head(instance, sequence),
        replicas=flow.updated + flow.others + count,
        partition=_partition(flow, flow.others),
        retire=[uid for uid in (*flow.victims, *flow.dropped) if _is_there(instance, uid)],
        hold=m.Hold(
            flow=flow.uid, batch=batch.number, surge=batch.surge, updated=flow.updated, others=flow.others
        ),
        application=FILLED_IN if flow.updating and not flow.keeps_template else None,
        create=flow.action == "create" and batch.number == 1,
        no_pull_in=flow.strategy.no_pull_in,
        **_seen_count(instance),
        scaled_to=flow.scaled_to,
        guard=guard,
    )


def retire(instance: Instance, sequence: int) -> m.Command:
    flow = _active_flow(instance)
    batch = flow.open_batch
    assert batch is not None
    count = count_to_retire(flow, batch)
    return m.Retire(
        **_head(instance, sequence),
        replicas=flow.updated + flow.others + batch.surge - count,
        partition=_partition(flow, flow.others - count),
        retire=[uid for uid in (*flow.victims, *flow.dropped) if _is_there(instance, uid)],
        **_seen_count(instance),
        scaled_to=flow.scaled_to,
    )


def _is_there(instance: Instance, uid: str) -> bool:
    pod = instance.pods.get(uid)
    return pod is not None and not pod.deleting


def _partition(flow: Flow, others: int) -> int:
    """Return the partition: how many pods OpenKruise makes from the old template where one has to be replaced."""
    return max(others, 0) if flow.updating else 0


def halt(instance: Instance, sequence: int) -> m.Command:
    return m.Halt(**_head(instance, sequence), **_seen_count(instance))


def cancel(
    instance: Instance, sequence: int, *, keep: int, baked: int, drop: tuple[str, ...], restore_template: bool
) -> m.Command:
    return m.Cancel(
        **_head(instance, sequence),
        **_seen_count(instance),
        keep=keep,
        baked=baked,
        drop=list(drop),
        restore_template=restore_template,
        revision=_active_flow(instance).target_revision if restore_template else "",
        scaled_to=0 if _active_flow(instance).standing_by else None,
    )


def finish(instance: Instance, sequence: int) -> m.Command:
    flow = _active_flow(instance)
    # another release leaves what an ended update left: its own pods all have the CloneSet's template
    mixed = not flow.updating and instance.mixed
    successful = flow.outcome is None
    return m.Finish(
        **_head(instance, sequence),
        mixed=mixed,
        stopped=flow.stopped if successful else 0,
        good_template=successful and flow.updating and instance.cloneset.no_good_template,
    )


def remove(instance: Instance, sequence: int) -> m.Command:
    return m.Remove(**_head(instance, sequence))


def pull_in(instance: Instance, sequence: int, *, uids: tuple[str, ...]) -> m.Command:
    return m.PullIn(**_head(instance, sequence), uids=list(uids))


def pull_out(instance: Instance, sequence: int, *, uids: tuple[str, ...]) -> m.Command:
    return m.PullOut(
        **_head(instance, sequence), uids=list(uids), drain_after=_active_flow(instance).strategy.pull_out
    )
