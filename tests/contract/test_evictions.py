"""Evictions and PodDisruptionBudgets: what `kubectl drain` meets."""

from __future__ import annotations

from typing import Any

from shared.domain.json_types import Json

from .kube import CLONESETS, GATE, PODS, Answer, Kube, a_cloneset, a_pod, condition, name

BUDGETS = "/apis/policy/v1/namespaces/{}/poddisruptionbudgets"
LABELS = {"app": "web"}


async def _running(kube: Kube, replicas: int = 3) -> list[str]:
    """Return the names of the pods of a CloneSet, all Ready."""
    await kube.made(kube.path(CLONESETS), a_cloneset("web", replicas))
    pods = await kube.pods_until(
        lambda pods: sum(condition(pod, "Ready") == "True" for pod in pods) == replicas, "app=web"
    )
    return [name(pod) for pod in pods]


async def _budget(kube: Kube, called: str = "web", **spec: Any) -> str:
    """Make a budget that is in force; return its path."""
    body = {"metadata": {"name": called}, "spec": {"selector": {"matchLabels": LABELS}, **spec}}
    await kube.made(kube.path(BUDGETS), body)
    path = kube.path(BUDGETS, called)
    await kube.until(path, lambda found: found["status"]["observedGeneration"] == 1)
    return path


async def _evict(kube: Kube, pod: str) -> Answer:
    body: Json = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    return await kube.post(kube.path(PODS, pod, "eviction"), body)


async def test_an_eviction_is_a_deletion_where_no_budget_is(kube: Kube) -> None:
    first, *_ = await _running(kube, 1)
    answer = await _evict(kube, first)
    assert (answer.code, answer.body["status"]) == (201, "Success")
    await kube.gone(kube.path(PODS, first))


async def test_a_budget_refuses_with_429_and_says_which_one_and_why(kube: Kube) -> None:
    first, *_ = await _running(kube)
    await _budget(kube, minAvailable=3)
    answer = await _evict(kube, first)
    assert (answer.code, answer.reason) == (429, "TooManyRequests")
    assert answer.message == "Cannot evict pod as it would violate the pod's disruption budget."
    [cause] = answer.body["details"]["causes"]
    assert cause == {
        "reason": "DisruptionBudget",
        "message": "The disruption budget web needs 3 healthy pods and has 3 currently",
    }
    assert "deletionTimestamp" not in (await kube.get(kube.path(PODS, first))).body["metadata"]
    # a deletion is no eviction
    assert (await kube.delete(kube.path(PODS, first))).code == 200


async def test_its_status_follows_the_pods_and_the_count_of_their_cloneset(kube: Kube) -> None:
    await _running(kube)
    path = await _budget(kube, maxUnavailable=1)
    numbers = {"expectedPods": 3, "currentHealthy": 3, "desiredHealthy": 2, "disruptionsAllowed": 1}
    budget = await kube.until(path, lambda found: numbers.items() <= found["status"].items())
    [allowed] = budget["status"]["conditions"]
    assert (allowed["type"], allowed["status"], allowed["reason"]) == (
        "DisruptionAllowed",
        "True",
        "SufficientPods",
    )
    half = await _budget(kube, "half", minAvailable="50%")
    numbers = {"expectedPods": 3, "currentHealthy": 3, "desiredHealthy": 2, "disruptionsAllowed": 1}
    await kube.until(half, lambda found: numbers.items() <= found["status"].items())


async def test_a_budget_lets_through_as_many_as_may_be_unavailable(kube: Kube) -> None:
    for called in ("one", "two"):
        await kube.made(kube.path(PODS), a_pod(called, labels=LABELS, finalizers=["triton.io/hold"]))
    await kube.pods_until(lambda pods: all(condition(pod, "Ready") == "True" for pod in pods))
    path = await _budget(kube, minAvailable=1)
    await kube.until(path, lambda found: found["status"]["disruptionsAllowed"] == 1)
    assert (await _evict(kube, "one")).code == 201
    answer = await _evict(kube, "two")
    assert (answer.code, answer.reason) == (429, "TooManyRequests")
    # what goes already may be evicted again
    assert (await _evict(kube, "one")).code == 201
    for called in ("one", "two"):
        await kube.patch(kube.path(PODS, called), {"metadata": {"finalizers": None}})


async def test_an_unready_pod_goes_while_enough_others_are_healthy(kube: Kube) -> None:
    gates = [{"conditionType": GATE}]
    await kube.made(kube.path(PODS), a_pod("healthy", labels=LABELS))
    await kube.made(kube.path(PODS), a_pod("waits", labels=LABELS, readinessGates=gates))
    await kube.until(kube.path(PODS, "healthy"), lambda found: condition(found, "Ready") == "True")
    await kube.until(kube.path(PODS, "waits"), lambda found: condition(found, "ContainersReady") == "True")
    path = await _budget(kube, minAvailable=1)
    await kube.until(path, lambda found: found["status"]["currentHealthy"] == 1)
    assert (await _evict(kube, "healthy")).code == 429
    assert (await _evict(kube, "waits")).code == 201


async def test_two_budgets_of_one_pod_are_an_error(kube: Kube) -> None:
    first, *_ = await _running(kube, 1)
    await _budget(kube, "one", minAvailable=0)
    await _budget(kube, "two", minAvailable=0)
    answer = await _evict(kube, first)
    assert answer.code == 500
    assert "more than one PodDisruptionBudget" in answer.message
