"""Bounds `.status`, which etcd refuses where a release has too many pods or batches for one object.

The counts are always whole. Where the whole does not fit, the pods of the newest batch come first (of those the failed
ones), then the pods of the batches before it, then the names of all pods. Where not even the batches fit, the first one
and the newest ones stay. `recovery` reads the same: the CloneSet says what is missing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from shared.domain.deployflow import Condition, DeployFlowStatus, PodPhase, PodStatus, PullInStatus, keys_of
from shared.domain.json_types import Json

LARGEST_OBJECT: Final = 1_400_000
"""Bytes of a DeployFlow. etcd takes 1,572,864 for a request: the rest is for metadata, and for the characters that the
API server writes as six."""
LARGEST_STATUS: Final = 1_000_000
"""Bytes of a status, also beside a small spec: some 5,000 pods. Every watcher reads each of its writes."""
LONGEST_MESSAGE: Final = 10_000
"""Characters of a message: one that names thousands of pods is cut."""

T = TypeVar("T")
_STATUS: Final = keys_of(DeployFlowStatus)
_BATCH: Final = keys_of(Condition)
_POD: Final = keys_of(PodStatus)
_encode = msgspec.json.encode


def bound_status(status: Json, beside: int) -> Json:
    """Return the status, without what does not fit into the DeployFlow. `beside`: bytes of the rest of the object."""
    room = min(LARGEST_STATUS, LARGEST_OBJECT - beside)
    if _size(status) <= room:
        return status
    conditions: list[Json] = status[_STATUS.conditions]
    bare = {
        **status,
        _STATUS.message: _cut(status[_STATUS.message]),
        _STATUS.pods: [],
        _STATUS.conditions: [],
    }
    left = room - _size(bare)
    kept = _fitting_batches(conditions, left)
    left -= sum(_size(_bare(condition)) for condition in kept)
    shown: list[Json] = []
    for condition in reversed(kept):
        pods = list(_fitting(sorted(condition[_BATCH.pods], key=_comes_later), left))
        # a batch that is cut leaves no room for the ones before it, whose pods may be smaller
        left = left - sum(map(_size, pods)) if len(pods) == len(condition[_BATCH.pods]) else 0
        shown.append({**_bare(condition), _BATCH.pods: sorted(pods, key=lambda pod: str(pod[_POD.name]))})
    names = list(_fitting(status[_STATUS.pods], left))
    return {**bare, _STATUS.conditions: shown[::-1], _STATUS.pods: names}


def _fitting_batches(conditions: list[Json], room: int) -> list[Json]:
    """Return the batches that fit without their pods: the first, and at least one of the newest."""
    if not conditions:
        return []
    first, *later = conditions
    newest = list(_fitting(reversed(later), room - _size(_bare(first)), measured=_bare))
    return [first, *(newest or later[-1:])[::-1]]


def _fitting(
    items: Iterable[T], room: int, measured: Callable[[T], object] = lambda item: item
) -> Iterator[T]:
    """Yield the first items, as many as fit. `measured`: returns the part of an item that counts."""
    for item in items:
        room -= _size(measured(item))
        if room < 0:
            return
        yield item


def _bare(condition: Json) -> Json:
    return {**condition, _BATCH.message: _cut(condition[_BATCH.message]), _BATCH.pods: []}


def _comes_later(pod: Json) -> bool:
    return not (pod[_POD.phase] == PodPhase.FAILED or pod[_POD.pull_in_status] == PullInStatus.FAILED)


def _cut(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"


def _size(value: object) -> int:
    """Return the bytes of a value as JSON, with the comma after it."""
    return len(_encode(value)) + 1
