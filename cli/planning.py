"""`triton plan`: the batch plan of a release before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cli.output import table
from services.planner.model.batch_plan import Current, plan_release
from services.planner.views.plan_preview import Assumption, count_of, make, plan_object, refusal_object
from shared.domain.deployflow import (
    FREEZE_OVERRIDE,
    PASSING_ON,
    SHRINKING,
    UPDATING,
    Action,
    BatchPhase,
    DeployFlowSpec,
    FlowPhase,
    UpdateStrategy,
)
from shared.domain.freeze_windows import HELD_BACK, in_force, read
from shared.domain.json_types import Json

_GATES = {
    "Start": "next to start it",
    "Smoked": "next to send it traffic",
    "Baking": "next to accept it",
}


def held_back(metadata: Json, spec: DeployFlowSpec, namespace: str, windows: str, at: datetime) -> str:
    """Return a sentence about the freeze window that would hold the release back at this time; empty: none would."""
    application = spec.application
    names = (application.instance_name, application.app_name)
    frozen = in_force(read(windows, of_namespace=True).windows, namespace, names, int(at.timestamp() * 1000))
    if frozen is None or spec.action not in HELD_BACK:
        return ""
    if (metadata.get("annotations") or {}).get(FREEZE_OVERRIDE, "").strip():
        return f"would start in {frozen}, which it overrides"
    return f"would be held back now by {frozen}"


def planned(spec: DeployFlowSpec, assumption: Assumption) -> Json:
    """Return the plan as an object, or the reason why there is none."""
    try:
        return plan_object(spec, assumption, make(spec, assumption))
    except ValueError as error:
        return refusal_object(spec, str(error))


def plan_line(spec: DeployFlowSpec, made: Json) -> str:
    """Return the plan in one line: `plan: 8 pods in 4 batches, canary 1, manual`."""
    batches = made["batches"]
    if not batches:
        left = (
            "the CloneSet is removed"
            if spec.action == Action.DELETE
            else "no pod is replaced, made or deleted"
        )
        return f"plan: {left}"
    canary = next((batch["surge"] for batch in batches if batch["canary"]), 0)
    interval = spec.strategy.batch_interval_seconds
    parts = [
        f"{count_of(made['toProcess'], 'pod')} in {count_of(len(batches), 'batch', 'batches')}",
        *([f"canary {canary}"] if canary else []),
        str(spec.strategy.mode),
        *([f"{interval} s between batches"] if interval and len(batches) > 1 else []),
    ]
    return f"plan: {', '.join(parts)}"


def explain_lost_gates(spec: DeployFlowSpec, made: Json, requested: Json | None) -> list[str]:
    """Return what a person should know before the release starts; none where it is as careful as the last one.

    `requested`: the strategy that the last create or update requested.
    """
    current = Current(**made["current"])
    found: list[str] = []
    if spec.action in PASSING_ON and requested is not None:
        try:
            before = UpdateStrategy.model_validate(requested)
            earlier = plan_release(spec.model_copy(update={"update_strategy": before}), current).batches
        except ValueError:
            # one of an older version, or too long to be planned
            before, earlier = UpdateStrategy(), ()
        if sum(len(batch.gates) for batch in earlier) > sum(len(batch["gates"]) for batch in made["batches"]):
            changed = ", ".join(_changes(before, spec.update_strategy or UpdateStrategy()))
            found.append(f"fewer approvals than the last request: {changed}")
    if spec.action in _REPLACING and current.replicas > 1:
        largest = next((one for one in made["batches"] if one["retire"] >= current.replicas), None)
        if largest is not None and not largest["gates"]:
            found.append(
                f"all {current.replicas} serving pods are replaced in one batch, which nobody approves"
            )
    return found


_REPLACING = (*UPDATING, Action.RESTART)


def _changes(before: UpdateStrategy, now: UpdateStrategy) -> list[str]:
    """Return the fields that decide on gates and differ: `mode auto (was manual)`."""
    both = {
        "mode": (before.mode, now.mode),
        "canary": (before.canary or "none", now.canary or "none"),
        "batch size": (before.batch_size or "100%", now.batch_size or "100%"),
    }
    return [f"{name} {new} (was {old})" for name, (old, new) in both.items() if new != old]


def explain_turn(spec: DeployFlowSpec, releases: Sequence[Json]) -> list[str]:
    """Return which unfinished releases of its instance a new one ends, and behind which it waits, one a line."""
    lines: list[str] = []
    behind: Json | None = None
    for flow in releases:
        status = flow.get("status") or {}
        if status.get("finished"):
            continue
        name, updates = flow["metadata"]["name"], flow["spec"]["action"] in UPDATING
        if not status.get("startedAt"):
            if spec.updating and updates:
                lines.append(f"replaces {name}, which has not begun")
                continue
        elif (spec.updating and status.get("paused")) or (spec.action == Action.ROLLBACK and updates):
            lines.append(f"takes over {name} ({_state(status)})")
            continue
        behind = flow
    if behind is not None:
        lines.append(f"waits behind {behind['metadata']['name']} ({_state(behind.get('status') or {})})")
    return lines


def _state(status: Json) -> str:
    batch = (status.get("conditions") or [{}])[-1].get("phase")
    if batch in {BatchPhase.SMOKE_FAILED, BatchPhase.BAKE_FAILED}:
        return str(batch)
    return "paused" if status.get("paused") else str(status.get("phase") or FlowPhase.PENDING)


def plan_lines(spec: DeployFlowSpec, made: Json) -> list[str]:
    """Return the plan as lines of text."""
    instance = spec.application.instance_name
    pods = count_of(made["toProcess"], "pod")
    batches = count_of(len(made["batches"]), "batch", "batches")
    to = "," if spec.action == Action.RESTART else " to"
    what = f"{spec.action} of {instance}{to} {count_of(made['replicas'], 'replica')}"
    lines = [
        f"{what}: {pods} in {batches}, mode {spec.strategy.mode}",
        f"starts from: {made['startsFrom']}",
    ]
    if made["batches"]:
        rows = [_row(batch, spec) for batch in made["batches"]]
        columns = _columns(spec, named=any(batch["pods"] for batch in made["batches"]))
        lines += ["", *table(columns, [[row[column] for column in columns] for row in rows])]
    elif spec.action != Action.DELETE:
        lines.append("nothing to do")
    lines += [f"warning: {warning}" for warning in made["warnings"]]
    return [*lines, *_afterwards(spec, made["current"]["replicas"])]


_MADE, _DELETED, _OLD_DELETED, _NAMES = "NEW PODS", "DELETED PODS", "DELETED OLD PODS", "NAMED"


def _columns(spec: DeployFlowSpec, *, named: bool) -> list[str]:
    columns = ["BATCH"]
    if spec.action not in SHRINKING:
        columns.append(_MADE)
    if spec.updating:
        columns.append(_OLD_DELETED)
    elif spec.action not in {Action.SCALE_OUT, Action.START}:
        columns.append(_DELETED)
    return [*columns, "WAITS FOR", *([_NAMES] if named else [])]


def _afterwards(spec: DeployFlowSpec, replicas: int) -> list[str]:
    if spec.action == Action.DELETE:
        return [f"then the CloneSet {spec.application.instance_name} is removed"]
    if spec.action == Action.STOP and replicas:
        return [f"`triton start` brings {replicas} back"]
    return []


def _row(batch: Json, spec: DeployFlowSpec) -> dict[str, str]:
    """Return the cells of a batch by column."""
    waits = ", ".join(_GATES.get(gate, gate) for gate in batch["gates"])
    interval = spec.strategy.batch_interval_seconds
    if not waits and interval and batch["number"] > 1:
        waits = f"{interval} s"
    return {
        "BATCH": f"{batch['number']} (canary)" if batch["canary"] else str(batch["number"]),
        _MADE: str(batch["surge"]),
        _DELETED: str(batch["retire"]),
        _OLD_DELETED: str(batch["retire"]),
        "WAITS FOR": waits or "-",
        _NAMES: ", ".join(batch["pods"]) or "-",
    }
