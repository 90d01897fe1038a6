"""`triton plan`: the whole batch plan of a release before anything is started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cli.output import table
from services.planner.plan import Current, Plan, PlannedBatch, plan
from shared.deployflow import FREEZE_OVERRIDE, SHRINKING, Action, DeployFlowSpec, NonUpdateStrategy
from shared.freeze import HELD_BACK, in_force, read
from shared.history import stopped_from

Json = dict[str, Any]

_GATES = {
    "Start": "next starts it",
    "Smoked": "next pulls it in",
    "Baking": "next counts it as baked",
}


class Assumption(NamedTuple):
    """What the plan starts from, how that is known, and the live pods. `asked`: the cluster has told it."""

    current: Current
    source: str
    pods: Sequence[Json] = ()
    asked: bool = True


def assume(spec: DeployFlowSpec, cloneset: Json | None, pods: Sequence[Json] = ()) -> Assumption:
    """From the live CloneSet; without one the instance does not exist yet."""
    if cloneset is None:
        return Assumption(Current(exists=False, replicas=0, updated=0), "no CloneSet yet")
    status = cloneset.get("status") or {}
    replicas = int(cloneset["spec"].get("replicas", 1))
    instance, stopped = spec.application.instance_name, stopped_from(cloneset)
    if not spec.updating:
        current = Current(exists=True, replicas=replicas, updated=replicas, stopped=stopped)
        before = f", {stopped} before it was stopped" if stopped else ""
        return Assumption(current, f"CloneSet {instance}: {replicas} replicas{before}", pods)
    updated = 0
    if has(cloneset["spec"].get("template"), spec.application.template):
        updated = min(int(status.get("updatedReplicas", 0)), replicas)
    return Assumption(
        Current(exists=True, replicas=replicas, updated=updated, stopped=stopped),
        f"CloneSet {instance}: {replicas} replicas, {updated} already on the target",
    )


def suppose(spec: DeployFlowSpec) -> Assumption:
    """Without a cluster: a create or update starts from nothing, another action from what its own spec tells."""
    if spec.updating or spec.action == Action.SCALE_OUT:
        return assume(spec, None)._replace(asked=False)
    replicas = spec.application.replicas
    if spec.action == Action.START:
        current = Current(exists=True, replicas=0, updated=0, stopped=replicas)
    else:
        now = replicas + len(named(spec)) if spec.action == Action.SCALE_IN else replicas
        current = Current(exists=True, replicas=now, updated=now)
    return Assumption(
        current, f"{_count(current.replicas, 'replica', 'replicas')}, as nobody could be asked", asked=False
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
    """Raises `ValueError` where it can't be done."""
    instance = spec.application.instance_name
    if assumption.asked and spec.action != Action.CREATE and not assumption.current.exists:
        msg = f"CloneSet {instance} does not exist: create the instance first (action create)"
        raise ValueError(msg)
    if not assumption.asked and spec.action == Action.SCALE_IN and not named(spec):
        msg = "how many pods go can't be told without the cluster"
        raise ValueError(msg)
    made = plan(spec, assumption.current)
    there = {pod["metadata"]["name"] for pod in assumption.pods}
    missing = [name for name in named(spec) if name not in there]
    if assumption.asked and missing:
        text = f"podsToDelete: {instance} has no pod {', '.join(missing)}: the release would fail and move nothing"
        made = made._replace(warnings=(*made.warnings, text))
    return made


def named(spec: DeployFlowSpec) -> list[str]:
    """The pods that the spec names."""
    strategy = spec.strategy
    return list(strategy.pods_to_delete or []) if isinstance(strategy, NonUpdateStrategy) else []


def going(spec: DeployFlowSpec, assumption: Assumption, made: Plan) -> list[list[str]]:
    """Of each batch the named pods that go with it, in the planner's order: first what does not serve, then by age."""
    names = named(spec)
    order = {
        pod["metadata"]["name"]: (_serves(pod), pod["metadata"].get("creationTimestamp", ""))
        for pod in assumption.pods
    }
    if all(name in order for name in names):
        names.sort(key=lambda name: (*order[name], name))
    left: Iterator[str] = iter(names)
    return [[name for _, name in zip(range(batch.retire), left, strict=False)] for batch in made.batches]


def _serves(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def plan_lines(spec: DeployFlowSpec, assumption: Assumption, made: Plan) -> list[str]:
    instance = spec.application.instance_name
    pods = _count(made.to_process, "pod", "pods")
    batches = _count(len(made.batches), "batch", "batches")
    to = "," if spec.action == Action.RESTART else " to"
    what = f"{spec.action} of {instance}{to} {_count(made.wanted, 'replica', 'replicas')}"
    lines = [
        f"{what}: {pods} in {batches}, mode {spec.strategy.mode}",
        f"starts from: {assumption.source}",
    ]
    if made.batches:
        shown = going(spec, assumption, made)
        rows = [_row(batch, spec, names) for batch, names in zip(made.batches, shown, strict=True)]
        columns = _columns(spec, named=any(shown))
        lines += ["", *table(columns, [[row[column] for column in columns] for row in rows])]
    elif spec.action != Action.DELETE:
        lines.append("nothing to do")
    lines += [f"warning: {warning}" for warning in made.warnings]
    return [*lines, *_afterwards(spec, assumption)]


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


def _afterwards(spec: DeployFlowSpec, assumption: Assumption) -> list[str]:
    if spec.action == Action.DELETE:
        return [f"then the CloneSet {spec.application.instance_name} is removed"]
    if spec.action == Action.STOP and assumption.current.replicas:
        return [f"a start brings {assumption.current.replicas} back"]
    return []


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _row(batch: PlannedBatch, spec: DeployFlowSpec, names: list[str]) -> dict[str, str]:
    """By column."""
    waits = ", ".join(_GATES.get(gate, gate) for gate in batch.gates)
    interval = spec.strategy.batch_interval_seconds
    if not waits and interval and batch.number > 1:
        waits = f"{interval} s"
    return {
        "BATCH": f"{batch.number} (canary)" if batch.canary else str(batch.number),
        _COMES: str(batch.surge),
        _GOES: str(batch.retire),
        f"OLD {_GOES}": str(batch.retire),
        "WAITS FOR": waits or "-",
        _NAMES: ", ".join(names) or "-",
    }


def plan_object(spec: DeployFlowSpec, assumption: Assumption, made: Plan) -> Json:
    """The plan for programs."""
    shown = going(spec, assumption, made)
    return {
        **_head(spec),
        "replicas": made.wanted,
        "current": assumption.current._asdict(),
        "startsFrom": assumption.source,
        "toProcess": made.to_process,
        "batches": [
            {**batch._asdict(), "gates": list(batch.gates), "pods": names}
            for batch, names in zip(made.batches, shown, strict=True)
        ],
        "warnings": list(made.warnings),
    }


def refusal_object(spec: DeployFlowSpec, why: str) -> Json:
    """For programs, in the place of a plan: why there is none."""
    return {**_head(spec), "refused": why}


def _head(spec: DeployFlowSpec) -> Json:
    return {"instance": spec.application.instance_name, "action": str(spec.action)}
