"""The commands a release gives, made from its state; targets are absolute."""

from __future__ import annotations

from typing import Any

from services.planner.model.state import Flow, Instance, Step
from services.planner.rules.pod_selection import retires
from shared.domain import messages as m
from shared.domain.topics import BATCH_COMMANDS

FILLED_IN: dict[str, Any] = {}
"""Stands for the application of the DeployFlow, which is read and filled in when the command is published."""


def _head(i: Instance, sequence: int) -> dict[str, Any]:
    f = _flow(i)
    batch = f.batch.number if f.batch else 0
    return {
        "namespace": i.namespace,
        "instance": i.name,
        "sequence": sequence,
        "flow": m.FlowRef(name=f.name, uid=f.uid, batch=batch, requested_by=f.requested_by),
    }


def _flow(i: Instance) -> Flow:
    assert i.active is not None
    return i.active


def read(body: str) -> m.Command:
    """A command as it was given before."""
    command: m.Command = m.ADAPTERS[BATCH_COMMANDS].validate_json(body)
    return command


def observe(i: Instance, sequence: int) -> m.Command:
    f = _flow(i)
    # what Triton 0.1.x has begun has its template in the CloneSet: there is none to try
    tried = f.updating and f.step not in {Step.TAKE_OVER, Step.CANCEL}
    return m.Observe(**_head(i, sequence), application=FILLED_IN if tried else None)


def claim(i: Instance, sequence: int) -> m.Command:
    """Make a CloneSet ours in which Triton 0.1.x had begun: with our strategy and hold, no pod made or deleted."""
    f = _flow(i)
    batch = f.open_batch
    replicas = i.cloneset.replicas
    counts: dict[str, Any] = {
        "replicas": replicas,
        "partition": min(f.others, replicas),
        "accept_replicas": replicas,
    }
    if batch is None:
        return m.Retire(**_head(i, sequence), **counts)
    hold = m.Hold(flow=f.uid, batch=batch.number, surge=batch.surge, updated=f.updated, others=f.others)
    return m.Surge(**_head(i, sequence), **counts, hold=hold, no_pull_in=f.strategy.no_pull_in)


def prepare(i: Instance, sequence: int) -> m.Command:
    """Write the template and nothing else, to learn the name of its revision."""
    replicas = i.cloneset.replicas
    hold = m.Hold(flow=_flow(i).uid, batch=0, surge=0, updated=0, others=replicas)
    return m.Surge(
        **_head(i, sequence),
        replicas=replicas,
        partition=replicas,
        hold=hold,
        application=FILLED_IN,
        create=not i.cloneset.exists,
        accept_replicas=replicas,
    )


def surge(i: Instance, sequence: int) -> m.Command:
    f = _flow(i)
    batch = f.open_batch
    assert batch is not None
    return m.Surge(
        **_head(i, sequence),
        replicas=f.updated + f.others + batch.surge,
        partition=_partition(f, f.others),
        retire=[uid for uid in (*f.victims, *f.dropped) if uid in i.pods],
        hold=m.Hold(flow=f.uid, batch=batch.number, surge=batch.surge, updated=f.updated, others=f.others),
        application=FILLED_IN if f.updating and not f.keeps_template else None,
        create=f.action == "create" and batch.number == 1,
        no_pull_in=f.strategy.no_pull_in,
        accept_replicas=i.cloneset.replicas,
    )


def retire(i: Instance, sequence: int) -> m.Command:
    f = _flow(i)
    batch = f.open_batch
    assert batch is not None
    count = retires(f, batch)
    return m.Retire(
        **_head(i, sequence),
        replicas=f.updated + f.others + batch.surge - count,
        partition=_partition(f, f.others - count),
        retire=[uid for uid in (*f.victims, *f.dropped) if uid in i.pods],
        accept_replicas=i.cloneset.replicas,
    )


def _partition(f: Flow, others: int) -> int:
    """The pods that a new one in their place shall be made of the old template for."""
    return max(others, 0) if f.updating else 0


def halt(i: Instance, sequence: int) -> m.Command:
    return m.Halt(**_head(i, sequence))


def cancel(
    i: Instance, sequence: int, *, keep: int, baked: int, drop: tuple[str, ...], restore_template: bool
) -> m.Command:
    return m.Cancel(
        **_head(i, sequence), keep=keep, baked=baked, drop=list(drop), restore_template=restore_template
    )


def finish(i: Instance, sequence: int) -> m.Command:
    f = _flow(i)
    # another release leaves what an ended update left: its own pods all have the CloneSet's template
    mixed = not f.updating and i.mixed
    return m.Finish(**_head(i, sequence), mixed=mixed, stopped=f.stopped if f.outcome is None else 0)


def remove(i: Instance, sequence: int) -> m.Command:
    return m.Remove(**_head(i, sequence))


def pull_in(i: Instance, sequence: int, *, uids: tuple[str, ...]) -> m.Command:
    return m.PullIn(**_head(i, sequence), uids=list(uids))


def pull_out(i: Instance, sequence: int, *, uids: tuple[str, ...]) -> m.Command:
    return m.PullOut(**_head(i, sequence), uids=list(uids), drain_after=_flow(i).strategy.pull_out)
