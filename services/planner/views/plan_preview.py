"""The plan of a release before it starts, from the current state of its instance. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from services.planner.model.batch_plan import Current, Plan, plan_release
from shared.domain.deployflow import Action, DeployFlowSpec, NonUpdateStrategy
from shared.domain.json_types import Json
from shared.releases.history import count_without_batch, refuse_foreign, stopped_from


class Assumption(NamedTuple):
    """The state that a plan starts from, its source, and the live pods. `observed`: it was read from the cluster.

    `refusal`: why the release would not change the CloneSet, which Triton did not make; empty for one of its own.
    """

    current: Current
    source: str
    pods: Sequence[Json] = ()
    observed: bool = True
    refusal: str = ""


def assume(spec: DeployFlowSpec, cloneset: Json | None, pods: Sequence[Json] = ()) -> Assumption:
    """Return the starting state by the live CloneSet; without one the instance does not exist yet."""
    if cloneset is None:
        return Assumption(Current(exists=False, replicas=0, updated=0), "no CloneSet yet")
    assumption = _assume_of(spec, cloneset, pods)
    return assumption._replace(refusal=refuse_foreign(cloneset))


def _assume_of(spec: DeployFlowSpec, cloneset: Json, pods: Sequence[Json]) -> Assumption:
    status = cloneset.get("status") or {}
    replicas = count_without_batch(cloneset)
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
    """Assume a starting state without a cluster: none for a create or update, else the one that the spec implies."""
    if spec.updating or spec.action == Action.SCALE_OUT:
        return assume(spec, None)._replace(observed=False)
    replicas = spec.application.replicas
    if spec.action == Action.START:
        current = Current(exists=True, replicas=0, updated=0, stopped=replicas)
    else:
        now = replicas + len(named(spec)) if spec.action == Action.SCALE_IN else replicas
        current = Current(exists=True, replicas=now, updated=now)
    return Assumption(
        current, f"{count_of(current.replicas, 'replica')}, assumed without a cluster", observed=False
    )


def has(live: Any, wanted: Any) -> bool:
    """Decide whether `live` contains all of `wanted`; what the server or Triton added to it does not matter."""
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


def make(spec: DeployFlowSpec, assumption: Assumption) -> Plan:
    """Return the plan. Raises `ValueError` where the release is impossible."""
    instance = spec.application.instance_name
    if assumption.observed and spec.action != Action.CREATE and not assumption.current.exists:
        msg = f"CloneSet {instance} does not exist: create the instance first (action create)"
        raise ValueError(msg)
    if assumption.refusal:
        raise ValueError(assumption.refusal)
    if not assumption.observed and spec.action == Action.SCALE_IN and not named(spec):
        msg = "the number of pods to delete is not known without the cluster"
        raise ValueError(msg)
    made = plan_release(spec, assumption.current)
    if spec.action == Action.CREATE and assumption.current.exists and made.batches:
        text = (
            f"{instance} exists already, with another template or count: the create fails with AlreadyExists, unless no "
            "release of it was ever successful, or none is known any more"
        )
        made = made._replace(warnings=(*made.warnings, text))
    existing = {pod["metadata"]["name"] for pod in assumption.pods}
    missing = [name for name in named(spec) if name not in existing]
    if assumption.observed and missing:
        text = f"podsToDelete: {instance} has no pod {', '.join(missing)}: the release would fail and change nothing"
        made = made._replace(warnings=(*made.warnings, text))
    return made


def named(spec: DeployFlowSpec) -> list[str]:
    """Return the pods that the spec names."""
    strategy = spec.strategy
    return list(strategy.pods_to_delete or []) if isinstance(strategy, NonUpdateStrategy) else []


def pods_to_delete(spec: DeployFlowSpec, assumption: Assumption, made: Plan) -> list[list[str]]:
    """Return the named pods that each batch deletes, in the planner's order: first those not Ready, then by age."""
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


def plan_object(spec: DeployFlowSpec, assumption: Assumption, made: Plan) -> Json:
    """Return the plan as JSON."""
    shown = pods_to_delete(spec, assumption, made)
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
    """Return, in place of a plan, why there is none, as JSON."""
    return {**_head(spec), "refused": why}


def _head(spec: DeployFlowSpec) -> Json:
    return {"instance": spec.application.instance_name, "action": str(spec.action)}


def count_of(number: int, one: str, many: str = "") -> str:
    """Return the number with its noun: `1 batch`, `2 batches`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
