"""`triton plan`: the whole batch plan of a release before anything is started."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cli.output import table
from services.planner.views.plan_preview import Assumption, count_of, make, plan_object, refusal_object
from shared.domain.deployflow import FREEZE_OVERRIDE, SHRINKING, Action, DeployFlowSpec
from shared.domain.freeze_windows import HELD_BACK, in_force, read

Json = dict[str, Any]

_GATES = {
    "Start": "next starts it",
    "Smoked": "next pulls it in",
    "Baking": "next counts it as baked",
}


def held_back(metadata: Json, spec: DeployFlowSpec, namespace: str, windows: str, at: datetime) -> str:
    """Which freeze window of the namespace's annotation would hold the release back now, in a sentence."""
    application = spec.application
    names = (application.instance_name, application.app_name)
    frozen = in_force(read(windows, of_namespace=True).windows, namespace, names, int(at.timestamp() * 1000))
    if frozen is None or spec.action not in HELD_BACK:
        return ""
    if (metadata.get("annotations") or {}).get(FREEZE_OVERRIDE, "").strip():
        return f"begins in {frozen}, which it overrides"
    return f"would be held back now by {frozen}"


def planned(spec: DeployFlowSpec, assumption: Assumption) -> Json:
    """The plan for programs, or why there is none."""
    try:
        return plan_object(spec, assumption, make(spec, assumption))
    except ValueError as error:
        return refusal_object(spec, str(error))


def plan_lines(spec: DeployFlowSpec, made: Json) -> list[str]:
    """The plan for people."""
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


_COMES, _GOES, _NAMES = "NEW PODS", "PODS THAT GO", "NAMED"


def _columns(spec: DeployFlowSpec, *, named: bool) -> list[str]:
    columns = ["BATCH"]
    if spec.action not in SHRINKING:
        columns.append(_COMES)
    if spec.updating:
        columns.append(f"OLD {_GOES}")
    elif spec.action not in {Action.SCALE_OUT, Action.START}:
        columns.append(_GOES)
    return [*columns, "WAITS FOR", *([_NAMES] if named else [])]


def _afterwards(spec: DeployFlowSpec, replicas: int) -> list[str]:
    if spec.action == Action.DELETE:
        return [f"then the CloneSet {spec.application.instance_name} is removed"]
    if spec.action == Action.STOP and replicas:
        return [f"a start brings {replicas} back"]
    return []


def _row(batch: Json, spec: DeployFlowSpec) -> dict[str, str]:
    """By column."""
    waits = ", ".join(_GATES.get(gate, gate) for gate in batch["gates"])
    interval = spec.strategy.batch_interval_seconds
    if not waits and interval and batch["number"] > 1:
        waits = f"{interval} s"
    return {
        "BATCH": f"{batch['number']} (canary)" if batch["canary"] else str(batch["number"]),
        _COMES: str(batch["surge"]),
        _GOES: str(batch["retire"]),
        f"OLD {_GOES}": str(batch["retire"]),
        "WAITS FOR": waits or "-",
        _NAMES: ", ".join(batch["pods"]) or "-",
    }
