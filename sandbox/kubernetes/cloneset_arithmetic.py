"""The numbers of pods that a CloneSet makes, deletes and updates: OpenKruise 1.8's arithmetic, over plain numbers.

Releases depend on its exact shape (what `partition` counts, when a deletion of Ready pods is held back), so
the terms are Kruise's: everything that is not the update revision is old, and pods named for deletion count
until they are gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

IntOrPercent = int | str

DEFAULT_MAX_UNAVAILABLE = "20%"


class PodView(NamedTuple):
    """The facts about a pod that the arithmetic needs."""

    name: str
    updated: bool
    ready: bool
    available: bool
    named: bool
    preparing: bool = False
    """A preDelete hook holds its deletion."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A CloneSet's spec as far as numbers go."""

    replicas: int
    partition: IntOrPercent = 0
    max_unavailable: IntOrPercent = DEFAULT_MAX_UNAVAILABLE
    max_surge: IntOrPercent = 0
    scale_max_unavailable: IntOrPercent | None = None
    paused: bool = False


@dataclass
class Steps:
    """The numbers of pods to make, delete and update next."""

    create: int = 0
    create_old: int = 0
    delete: int = 0
    delete_old: int = 0
    delete_ready_limit: int = 0
    update: int = 0
    update_max_unavailable: int = 0


def scaled(value: IntOrPercent, total: int, round_up: bool = True) -> int:
    """Return `3` or `"20%"` of a total as a number; raise ValueError for other text."""
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError(
            f"invalid value for IntOrString: invalid type: string is not a percentage: {value!r}"
        )
    percent = int(value[:-1])
    return -(-percent * total // 100) if round_up else percent * total // 100


def partition_of(partition: IntOrPercent, replicas: int) -> int:
    """Return how many pods stay old. A percentage below 100% always lets at least one pod be new."""
    number = scaled(partition, replicas)
    if isinstance(partition, str) and partition != "100%" and replicas > 0:
        number = min(number, replicas - 1)
    return max(0, min(number, replicas))


def steps(wanted: Wanted, pods: Iterable[PodView]) -> Steps:
    pods = list(pods)
    partition = partition_of(wanted.partition, wanted.replicas)
    surge = 0 if wanted.paused else scaled(wanted.max_surge, wanted.replicas)
    max_unavailable = scaled(wanted.max_unavailable, wanted.replicas, surge == 0)
    old = [pod for pod in pods if not pod.updated]
    preparing_old = sum(pod.preparing for pod in old)
    preparing_new = sum(pod.preparing for pod in pods) - preparing_old
    named = sum(pod.named and not pod.preparing for pod in pods)
    named_old = sum(pod.named and not pod.preparing for pod in old)
    unavailable = sum(pod.preparing or (not pod.named and not pod.available) for pod in pods)
    old_diff = len(old) - preparing_old - partition
    new_diff = len(pods) - len(old) - preparing_new - (wanted.replicas - partition)
    old_diff, new_diff = max(old_diff, 0), min(new_diff, 0)
    use_surge, use_surge_old = _surge(
        surge, old_diff, new_diff, named, named - named_old, unavailable, max_unavailable
    )

    result = Steps()
    expected, expected_old = wanted.replicas + use_surge, partition + use_surge_old
    if (missing := expected - len(pods)) > 0:
        result.create = missing
        if wanted.scale_max_unavailable is not None:
            limit = scaled(wanted.scale_max_unavailable, wanted.replicas)
            result.create = min(missing, max(limit - unavailable, 0))
        result.create_old = max(expected_old - len(old), 0)
    if (surplus := len(pods) - named - expected) > 0:
        result.delete = surplus
        result.delete_old = max(len(old) - named_old - expected_old, 0)
    if named or result.delete:
        result.delete_ready_limit = max(max_unavailable + len(pods) - wanted.replicas - unavailable, 0)
    result.update = min(old_diff, -new_diff)
    if result.update:
        result.update_max_unavailable = max_unavailable + len(pods) - wanted.replicas
    return result


def _surge(
    limit: int,
    old_diff: int,
    new_diff: int,
    named: int,
    named_new: int,
    unavailable: int,
    max_unavailable: int,
) -> tuple[int, int]:
    """Return how many pods to have above the wanted number for a while, and how many of them old."""
    if limit <= 0:
        return 0, 0
    for_named = for_named_old = 0
    if named:
        for_named = min(max(unavailable + named - max_unavailable, 0), named)
        for_named_old = max(for_named - named_new, 0)
    for_update = min(old_diff, -new_diff) if old_diff > 0 > new_diff else 0
    if for_named >= for_update:
        use = min(limit, for_named)
        return use, min(use, for_named_old)
    return min(limit, for_update), 0
