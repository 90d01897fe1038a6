"""`triton plan`: the batch plan of a release before anything is started."""

from __future__ import annotations

from datetime import datetime

from cli.output import table
from services.planner.views.plan_preview import Assumption, count_of, make, plan_object, refusal_object
from shared.domain.deployflow import FREEZE_OVERRIDE, SHRINKING, Action, DeployFlowSpec
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
