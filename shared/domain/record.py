"""A message as it came from Kafka."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """A message as it came from Kafka. `topic` is without the prefix."""

    topic: str
    key: str
    value: bytes
    headers: dict[str, str]
    partition: int
    offset: int
    timestamp_ms: int
