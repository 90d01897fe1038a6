"""What the log must have of an instance: everything that was published, and all that happened to its pods, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sandbox.environment import Sandbox
from services.events.app import TOPICS
from services.events.documents import documents
from shared.domain.json_types import Json
from shared.domain.messages import ADAPTERS
from shared.errors import Unavailable
from shared.event_store import Query, open_store
from shared.settings import Settings
from tests.system.history import History
from tests.system.records import read
from tests.system.releases import NAMESPACE, until


async def each_event_once(sandbox: Sandbox, history: History, *, all_pods: bool = True) -> None:
    """Wait for the log to be complete; fail naming what it lacks, doubles, or has that nobody published.

    Not `all_pods`: those that went while no readiness service ran were seen by nobody.
    """
    await all_published_once(
        sandbox, history.instance, lambda hits: _missing(history, hits) if all_pods else []
    )


async def all_published_once(
    sandbox: Sandbox, instance: str, further: Callable[[list[Json]], list[str]] = lambda _: []
) -> None:
    """Wait until the log has what the topics hold of an instance, each event once; `further` returns what else it lacks."""
    differences: list[str] = []

    async def complete() -> bool:
        published = await _published(sandbox, instance)
        try:
            hits = await _stored(sandbox, instance)
        except Unavailable as error:
            # a moment after its first event an index has no shard
            differences[:] = [str(error)]
            return False
        stored = Counter(hit["event"]["id"] for hit in hits)
        lacking = [f"lacks {name}" for name in sorted(published - set(stored))]
        surplus = [f"nobody published {name}" for name in sorted(set(stored) - published)]
        doubled = [f"has {count} times {name}" for name, count in stored.items() if count > 1]
        differences[:] = lacking + surplus + doubled + further(hits)
        return not differences

    try:
        await until(f"the log of {instance} is complete", complete)
    except AssertionError as error:
        raise AssertionError(f"{error}: {differences}") from None


async def _published(sandbox: Sandbox, instance: str) -> set[str]:
    """Return the ids of the documents made of all that the services published about an instance."""
    found = await read(sandbox.kafka_bootstrap, f"{NAMESPACE}/{instance}", TOPICS)
    settings = Settings()
    topics = {settings.topic(name): name for name in TOPICS}
    messages = [
        (ADAPTERS[topics[record.topic]].validate_json(record.value), record.offset) for record in found
    ]
    return {document.id for message, offset in messages for document in documents(message, offset)}


async def _stored(sandbox: Sandbox, instance: str) -> list[Json]:
    store = open_store(Settings(event_store=sandbox.event_store))
    try:
        return await store.search(Query(namespace=NAMESPACE, instance=instance))
    finally:
        await store.close()


def _missing(history: History, hits: list[Json]) -> list[str]:
    """Return the pods that took traffic, or went, without an event in the log."""
    logged = {(hit["orchestrator"]["resource"]["id"], hit["event"]["action"]) for hit in hits}
    happened = {(uid, "pod-ready") for uid in history.pods_ready()} | {
        (uid, "pod-gone") for uid in history.pods_gone()
    }
    return [f"lacks {action} of {uid}" for uid, action in sorted(happened - logged)]
