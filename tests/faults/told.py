"""What the log must have of an instance: everything that was published, and all that happened to its pods, once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from elasticsearch import AsyncElasticsearch

from sandbox.environment import Sandbox
from services.events.app import TOPICS
from services.events.documents import documents
from shared.messages import ADAPTERS
from shared.settings import Settings
from tests.system.history import History
from tests.system.releases import until

Json = dict[str, Any]


async def each_event_once(sandbox: Sandbox, history: History) -> None:
    """Waits for the log to be complete; fails naming what it lacks, doubles, or has that nobody told."""
    differences: list[str] = []

    async def complete() -> bool:
        published = await _published(sandbox, history.instance)
        hits = await _stored(sandbox, history.instance)
        stored = Counter(hit["_id"] for hit in hits)
        lacking = [f"lacks {name}" for name in sorted(published - set(stored))]
        surplus = [f"nobody told {name}" for name in sorted(set(stored) - published)]
        doubled = [f"has {count} times {name}" for name, count in stored.items() if count > 1]
        differences[:] = lacking + surplus + doubled + _untold(history, hits)
        return not differences

    try:
        await until(f"the log of {history.instance} is complete", complete)
    except AssertionError as error:
        raise AssertionError(f"{error}: {differences}") from None


async def _published(sandbox: Sandbox, instance: str) -> set[str]:
    """The ids of all documents that what the services published about an instance comes to."""
    settings = Settings()
    topics = {settings.topic(name): name for name in TOPICS}
    ids: set[str] = set()
    consumer = AIOKafkaConsumer(bootstrap_servers=sandbox.kafka_bootstrap, auto_offset_reset="earliest")
    async with consumer:
        partitions = [
            TopicPartition(topic, number) for topic in topics for number in range(settings.kafka_partitions)
        ]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        left = {partition for partition, end in ends.items() if end}
        while left:
            for partition, records in (await consumer.getmany(timeout_ms=100)).items():
                for record in records:
                    message = ADAPTERS[topics[partition.topic]].validate_json(record.value)
                    if message.instance == instance:
                        ids |= {document.id for document in documents(message, record.offset)}
            left = {partition for partition in left if await consumer.position(partition) < ends[partition]}
    return ids


async def _stored(sandbox: Sandbox, instance: str) -> list[Json]:
    async with AsyncElasticsearch(sandbox.event_store) as store:
        index = "logs-triton.*"
        await store.indices.refresh(index=index)
        answer = await store.search(index=index, query={"term": {"triton.instance": instance}}, size=10_000)
    hits: list[Json] = answer["hits"]["hits"]
    return hits


def _untold(history: History, hits: list[Json]) -> list[str]:
    """The pods that took traffic, or went, without a word in the log."""
    told = {
        (hit["_source"]["orchestrator"]["resource"]["id"], hit["_source"]["event"]["action"]) for hit in hits
    }
    happened = {(uid, "pod-ready") for uid in history.pods_ready()} | {
        (uid, "pod-gone") for uid in history.pods_gone()
    }
    return [f"lacks {action} of {uid}" for uid, action in sorted(happened - told)]
