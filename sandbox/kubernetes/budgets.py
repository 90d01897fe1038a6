"""PodDisruptionBudgets: how many pods may be evicted at the moment, and the refusal of one eviction too many."""

from __future__ import annotations

import asyncio
from typing import Any

from shared.domain.json_types import Json

from .builtins import BUDGETS, PODS
from .causes import Cause
from .cloneset_arithmetic import scaled
from .errors import ApiError, too_disruptive
from .objects import controller_of, is_terminating, is_true, labels_of, name_of, namespace_of, with_condition
from .selectors import from_spec, matches
from .store import Event, Store
from .strategies import Strategy

GATHER_SECONDS = 0.02
"""From a pod's change to the status of its budget."""


def check_eviction(store: Store, pod: Json) -> None:
    """Raise the refusal where a budget does not allow that the pod is evicted now."""
    phase = (pod.get("status") or {}).get("phase")
    if is_terminating(pod) or phase in ("Succeeded", "Failed", "Pending"):
        return
    budgets = [
        record.obj
        for record in store.collection(BUDGETS.key).ordered(namespace_of(pod))
        if _covers(record.obj, pod)
    ]
    if len(budgets) > 1:
        text = (
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
        raise ApiError(500, "", text)
    for budget in budgets:
        status = budget_status(store, budget)
        healthy, desired = status["currentHealthy"], status["desiredHealthy"]
        always = budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
        if not is_true(pod, "Ready") and (always or healthy >= desired > 0):
            continue
        if not status["disruptionsAllowed"]:
            raise too_disruptive(name_of(budget), desired, healthy)


def _covers(budget: Json, pod: Json) -> bool:
    selector = budget["spec"].get("selector")
    return selector is not None and matches(from_spec(selector), labels_of(pod))


def budget_status(store: Store, budget: Json) -> Json:
    """Return the status of a budget by its pods of this moment."""
    pods = [
        record.obj
        for record in store.collection(PODS.key).records(namespace_of(budget))
        if _covers(budget, record.obj)
    ]
    healthy = sum(is_true(pod, "Ready") and not is_terminating(pod) for pod in pods)
    expected, desired = _expectation(store, budget["spec"], pods)
    allowed = max(healthy - desired, 0) if expected else 0
    before = (budget.get("status") or {}).get("conditions") or []
    generation = budget["metadata"]["generation"]
    reason = "SufficientPods" if allowed else "InsufficientPods"
    [condition] = with_condition(before, "DisruptionAllowed", allowed > 0, reason=reason, message="")
    condition.pop("lastProbeTime")
    return {
        "observedGeneration": generation,
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "conditions": [{**condition, "observedGeneration": generation}],
    }


def _expectation(store: Store, spec: Json, pods: list[Json]) -> tuple[int, int]:
    """Return how many pods there should be, and how many of them healthy."""
    least: Any = spec.get("minAvailable")
    if isinstance(least, int):
        return len(pods), least
    owners = {owner["uid"] for pod in pods for owner in [controller_of(pod)] if owner}
    expected = sum(_replicas(store, uid) for uid in owners)
    if least is not None:
        return expected, scaled(least, expected)
    return expected, max(expected - scaled(spec.get("maxUnavailable", 0), expected), 0)


def _replicas(store: Store, uid: str) -> int:
    place = store.places.get(uid)
    owner = store.at(place) if place else None
    return int(owner.obj["spec"].get("replicas", 0)) if owner else 0


class BudgetStrategy(Strategy):
    def prepare(self, new: Json, old: Json | None) -> Json:
        return {**new, "status": (old or {}).get("status") or {"disruptionsAllowed": 0}}

    def check(self, new: Json, old: Json | None) -> list[Cause]:  # noqa: ARG002
        spec = new.get("spec") or {}
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            text = 'Invalid value: "object": minAvailable and maxUnavailable cannot be both set'
            return [Cause("spec", "FieldValueInvalid", text)]
        return []


class BudgetController:
    """Keeps the status of all budgets."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._timer: asyncio.TimerHandle | None = None
        for resource in (BUDGETS, PODS):
            store.listen(resource.key, self._changed)

    def _changed(self, _event: Event) -> None:
        if self._timer is None and any(self._store.collection(BUDGETS.key).namespaces.values()):
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._work)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _work(self) -> None:
        self._timer = None
        for record in self._store.collection(BUDGETS.key).ordered():
            status = budget_status(self._store, record.obj)
            if status != record.obj.get("status"):
                self._store.put(BUDGETS.key, {**record.obj, "status": status})
