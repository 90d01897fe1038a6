"""The order of deletion of pods: the one in which Kubernetes' controllers, and Kruise after them, pick pods to
delete.
"""

from __future__ import annotations

from collections import Counter

from shared.domain.json_types import Json

from .cloneset_arithmetic import PodView
from .objects import annotations_of, condition_of, is_true

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}

Ranked = tuple[Json, PodView]


def deletion_order(pods: list[Ranked]) -> list[Ranked]:
    """Sort pods, first to delete first: unscheduled, pending, unready; low cost, crowded nodes, shortest
    Ready, most restarts, newest.
    """
    crowd: Counter[str] = Counter()
    ranks: dict[str, int] = {}
    for pod, view in pods:
        node = pod["spec"].get("nodeName") or ""
        if view.available:
            crowd[node] += 1
            ranks[view.name] = crowd[node]
    keyed = sorted(
        ((_key(pod, ranks.get(view.name, 0)), n) for n, (pod, view) in enumerate(pods)),
        key=lambda pair: pair[0],
    )
    by_newest = sorted(
        keyed, key=lambda pair: str(pods[pair[1]][0]["metadata"]["creationTimestamp"]), reverse=True
    )
    longest_last = sorted(by_newest, key=lambda pair: _ready_since(pods[pair[1]][0]), reverse=True)
    return [pods[n] for _, n in sorted(longest_last, key=lambda pair: pair[0])]


def _key(pod: Json, rank: int) -> tuple[int, int, int, int, int]:
    status = pod.get("status") or {}
    cost = annotations_of(pod).get(DELETION_COST, "0")
    return (
        int(bool(pod["spec"].get("nodeName"))),
        _PHASES.get(status.get("phase", ""), 1),
        int(is_true(pod, "Ready")),
        int(cost) if cost.lstrip("-").isdigit() else 0,
        -rank,
    )


def _ready_since(pod: Json) -> tuple[str, int]:
    """Return since when a pod is Ready ("~" if it is not) and how often it restarted."""
    condition = condition_of(pod, "Ready") or {}
    restarts = max(
        (entry.get("restartCount", 0) for entry in (pod.get("status") or {}).get("containerStatuses") or ()),
        default=0,
    )
    since = str(condition.get("lastTransitionTime", "")) if condition.get("status") == "True" else "~"
    return since, restarts
