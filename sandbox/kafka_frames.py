"""The few Kafka requests that the sandbox's proxy must understand, read from their bytes.

Only the versions that aiokafka speaks are read; everything else is passed on unread. Offsets are from the
start of the frame without its length.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_PRODUCE: Final = 0
_FETCH: Final = 1
_SYNC_GROUP: Final = 14
_PRODUCE_VERSIONS: Final = range(3, 9)
_FETCH_VERSION: Final = 11
_SYNC_GROUP_VERSIONS: Final = range(4)
NEWEST: Final = {
    _PRODUCE: _PRODUCE_VERSIONS[-1],
    _FETCH: _FETCH_VERSION,
    _SYNC_GROUP: _SYNC_GROUP_VERSIONS[-1],
}
"""The newest version of each that is read."""
_STATIC_MEMBERS_SINCE: Final = 3
_FETCHED_PARTITION: Final = struct.Struct(">iiqqi")
"""In a request: partition, leader epoch, offset, log start, most bytes."""
_ANSWERED_PARTITION: Final = struct.Struct(">ihqqqi")
"""In an answer: partition, error, high watermark, last stable offset, log start, number of aborted ones."""
_ABORTED_BYTES: Final = 16


class Produce(NamedTuple):
    """A Produce: the topics that it writes to; with `acks` 0 there is no answer."""

    topics: frozenset[str]
    acks: int


class Fetch(NamedTuple):
    """A Fetch: the topics that it reads; `frame` requests an answer at once."""

    topics: frozenset[str]
    max_wait_ms: int
    frame: bytes


class Sync(NamedTuple):
    """A SyncGroup: of which generation, and how many assignments it carries (0: from a follower)."""

    group: str
    generation: int
    assignments: int


def read(frame: bytes) -> Produce | Fetch | Sync | None:
    """Return the request if the proxy must act on it, else None."""
    api, version = struct.unpack_from(">hh", frame)
    if api == _FETCH and version == _FETCH_VERSION:
        return _read_fetch(frame)
    if api == _PRODUCE and version in _PRODUCE_VERSIONS:
        return _read_produce(frame)
    if api == _SYNC_GROUP and version in _SYNC_GROUP_VERSIONS:
        return _read_sync(frame, version)
    return None


def _read_fetch(frame: bytes) -> Fetch | None:
    _, at = text(frame, 8)
    _, max_wait, _, _, _, session, _, count = struct.unpack_from(">iiiibiii", frame, at)
    if session or not count:
        return None
    rewritten = frame[: at + 4] + b"\0\0\0\0" + frame[at + 8 :]
    at += 29
    topics = set()
    for _ in range(count):
        topic, at = text(frame, at)
        partitions = number(frame, at)
        at += 4 + partitions * _FETCHED_PARTITION.size
        topics.add(topic)
    return Fetch(frozenset(topics), max_wait, rewritten)


def _read_produce(frame: bytes) -> Produce:
    _, at = text(frame, 8)
    _, at = text(frame, at)
    acks, _, count = struct.unpack_from(">hii", frame, at)
    at += 10
    topics = set()
    for _ in range(count):
        topic, at = text(frame, at)
        topics.add(topic)
        partitions = number(frame, at)
        at += 4
        for _ in range(partitions):
            at += 8 + max(number(frame, at + 4), 0)
    return Produce(frozenset(topics), acks)


def _read_sync(frame: bytes, version: int) -> Sync:
    _, at = text(frame, 8)
    group, at = text(frame, at)
    generation = number(frame, at)
    _, at = text(frame, at + 4)
    if version >= _STATIC_MEMBERS_SINCE:
        _, at = text(frame, at)
    return Sync(group, generation, number(frame, at))


def is_empty(answer: bytes) -> bool:
    """Return whether the answer to a `Fetch` has neither records nor errors."""
    error, count = struct.unpack_from(">h4xi", answer, 8)
    at = 18
    for _ in range(count):
        _, at = text(answer, at)
        partitions = number(answer, at)
        at += 4
        for _ in range(partitions):
            _, failed, _, _, _, aborted = _ANSWERED_PARTITION.unpack_from(answer, at)
            at += _ANSWERED_PARTITION.size + max(aborted, 0) * _ABORTED_BYTES + 4
            size = number(answer, at)
            at += 4 + max(size, 0)
            if failed or size > 0:
                return False
    return not error


def number(frame: bytes, at: int) -> int:
    return int.from_bytes(frame[at : at + 4], signed=True)


def text(frame: bytes, at: int) -> tuple[str, int]:
    length = int.from_bytes(frame[at : at + 2], signed=True)
    end = at + 2 + max(length, 0)
    return frame[at + 2 : end].decode(), end
