"""The records that the topics have about one instance, read as anybody could, and published again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from shared.domain import topics
from shared.messaging.connection import partition_of
from shared.settings import Settings

READERS: Final = {
    "planner": (topics.PLANNER_FACTS, topics.BATCH_RESULTS, topics.PHASE_EVENTS),
    "planner-intake": (topics.DEPLOY_COMMANDS,),
    "executor": (topics.BATCH_COMMANDS,),
    "readiness": (topics.BATCH_COMMANDS,),
    "events": (
        topics.DEPLOYFLOW_EVENTS,
        topics.PHASE_EVENTS,
        topics.CLONESET_EVENTS,
        topics.CLUSTER_EVENTS,
    ),
}
"""Who reads what, by consumer group."""
_settings = Settings()


async def read(bootstrap: str, key: str, names: Sequence[str]) -> list[Any]:
    """What these topics have with that key, in the order in which it was published."""
    number = partition_of(key, _settings.kafka_partitions)
    partitions = [TopicPartition(_settings.topic(name), number) for name in names]
    found: list[Any] = []
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        left = {partition for partition, end in ends.items() if end}
        while left:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += [record for record in records if record.key == key.encode()]
            left = {partition for partition in left if await consumer.position(partition) < ends[partition]}
    return sorted(found, key=lambda record: record.timestamp)


async def publish(bootstrap: str, records: Sequence[Any]) -> None:
    """The same once more: topic, key, value and headers."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        for record in records:
            headers = list(record.headers)
            await producer.send(record.topic, record.value, key=record.key, headers=headers)
        await producer.flush()


async def all_read(bootstrap: str, key: str) -> bool:
    """Every service has worked on all that there is with that key, and has said nothing more about it."""
    number = partition_of(key, _settings.kafka_partitions)
    read_by = {
        group: [TopicPartition(_settings.topic(name), number) for name in names]
        for group, names in READERS.items()
    }
    everywhere = {partition for partitions in read_by.values() for partition in partitions}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        await admin.start()
        try:
            ends = await consumer.end_offsets(everywhere)
            done = {
                group: await admin.list_consumer_group_offsets(_settings.group(group), partitions=partitions)
                for group, partitions in read_by.items()
            }
            still = ends == await consumer.end_offsets(everywhere)
        finally:
            await admin.close()
    behind = [
        (group, partition)
        for group, partitions in read_by.items()
        for partition in partitions
        if max(done[group][partition].offset, 0) < ends[partition]
    ]
    return still and not behind
