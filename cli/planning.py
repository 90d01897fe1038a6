"""`triton plan`: the whole batch plan of a release before anything is started."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from cli.output import table
from services.planner.plan import Current, Plan, PlannedBatch, plan
from shared.deployflow import FREEZE_OVERRIDE, DeployFlowSpec
from shared.freeze import HELD_BACK, in_force, read

Json = dict[str, Any]

_GATES = {
    "Start": "next starts it",
    "Smoked": "next pulls it in",
    "Baking": "next counts it as baked",
}


class Assumption(NamedTuple):
    """What the plan starts from, and how that is known."""

    current: Current
    source: str


def assume(spec: DeployFlowSpec, cloneset: Json | None) -> Assumption:
    """From the live CloneSet; without one the instance does not exist yet."""
    if cloneset is None:
        return Assumption(Current(exists=False, replicas=0, updated=0), "no CloneSet yet")
    status = cloneset.get("status") or {}
    replicas = int(cloneset["spec"].get("replicas", 1))
    updated = 0
    if not spec.updating or has(cloneset["spec"].get("template"), spec.application.template):
        updated = replicas if not spec.updating else int(status.get("updatedReplicas", 0))
    return Assumption(
        Current(exists=True, replicas=replicas, updated=min(updated, replicas)),
        f"CloneSet {spec.application.instance_name}: {replicas} replicas, {updated} already on the target",
    )


def has(live: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; what the server or Triton added beside it does not count."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            has(live.get(key), value) for key, value in wanted.items() if value
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(has(a, b) for a, b in zip(live, wanted, strict=True))
        )
    return bool(live == wanted)


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


def make(spec: DeployFlowSpec, assumption: Assumption) -> Plan:
    return plan(spec, assumption.current)


def plan_lines(spec: DeployFlowSpec, assumption: Assumption, made: Plan) -> list[str]:
    application = spec.application
    pods = _count(made.to_process, "pod", "pods")
    batches = _count(len(made.batches), "batch", "batches")
    what = f"{spec.action} of {application.instance_name} to {application.replicas} replicas"
    lines = [
        f"{what}: {pods} in {batches}, mode {spec.strategy.mode}",
        f"starts from: {assumption.source}",
    ]
    if made.batches:
        rows = [_row(batch, spec) for batch in made.batches]
        lines += ["", *table(("BATCH", "NEW PODS", "OLD PODS THAT GO", "WAITS FOR"), rows)]
    else:
        lines.append("nothing to do")
    return lines + [f"warning: {warning}" for warning in made.warnings]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _row(batch: PlannedBatch, spec: DeployFlowSpec) -> tuple[str, str, str, str]:
    number = f"{batch.number} (canary)" if batch.canary else str(batch.number)
    waits = ", ".join(_GATES.get(gate, gate) for gate in batch.gates)
    interval = spec.strategy.batch_interval_seconds
    if not waits and interval and batch.number > 1:
        waits = f"{interval} s"
    return number, str(batch.surge), str(batch.retire), waits or "-"


def plan_object(spec: DeployFlowSpec, assumption: Assumption, made: Plan) -> Json:
    """The plan for programs."""
    return {
        "instance": spec.application.instance_name,
        "action": str(spec.action),
        "replicas": spec.application.replicas,
        "current": assumption.current._asdict(),
        "startsFrom": assumption.source,
        "toProcess": made.to_process,
        "batches": [{**batch._asdict(), "gates": list(batch.gates)} for batch in made.batches],
        "warnings": list(made.warnings),
    }
