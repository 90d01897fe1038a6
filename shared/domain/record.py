"""A message as it came from Kafka."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """A message as it came from Kafka. `topic` is without the prefix.

    `unread`: why it was not read, if it holds the place of `size` bytes that are beyond the bounds of a consumer.
    """

    topic: str
    key: str
    value: bytes
    headers: dict[str, str]
    partition: int
    offset: int
    timestamp_ms: int
    unread: str = ""
    size: int = 0
