"""Measures a consumer group's lag: the records of the partitions owned here that are not done yet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from prometheus_client import Gauge

from shared.messaging.lanes import Offsets

_records = Gauge("triton_kafka_lag_records", "Messages that wait to be worked on", ["group", "topic"])
_seconds = Gauge("triton_kafka_lag_seconds", "Age of the oldest message under way", ["group", "topic"])
_partitions = Gauge("triton_kafka_partitions", "Partitions that this process has", ["group", "topic"])

Where = tuple[str, int]
"""Topic without the prefix, and partition."""


class Behind(NamedTuple):
    """`seconds`: the age of the oldest record that was taken and is not done."""

    records: int = 0
    seconds: float = 0.0


NOTHING: Final = Behind()


def behind(
    topics: Iterable[str], ends: Mapping[Where, tuple[int, int]], offsets: Offsets, now: float
) -> dict[str, Behind]:
    """Return the lag by topic, also of those of which this process has no partition.

    `ends`: where each partition ends, and the next offset that will be taken from it; `now`: seconds since 1970.
    """
    found = dict.fromkeys(topics, NOTHING)
    for (topic, partition), (end, position) in ends.items():
        taken, oldest = offsets.under_way((topic, partition))
        so_far = found[topic]
        found[topic] = Behind(
            so_far.records + max(end - position, 0) + taken,
            max(so_far.seconds, now - oldest / 1000) if taken else so_far.seconds,
        )
    return found


async def measure(consumer: AIOKafkaConsumer, group: str, names: Mapping[str, str], offsets: Offsets) -> None:
    """Set the gauges of a group. `names`: its topics without the prefix, by their names with it."""
    owned = Counter(names[tp.topic] for tp in consumer.assignment())
    try:
        # before the first fetch of a partition neither value is known
        known = [(tp, end) for tp in consumer.assignment() if (end := consumer.highwater(tp)) is not None]
        ends = {(names[tp.topic], tp.partition): (end, await consumer.position(tp)) for tp, end in known}
    except KafkaError:
        return  # a rebalance: the next measurement follows
    for topic, found in behind(names.values(), ends, offsets, time.time()).items():
        _records.labels(group, topic).set(found.records)
        _seconds.labels(group, topic).set(found.seconds)
        _partitions.labels(group, topic).set(owned[topic])
