"""The events service: reads what the others publish on Kafka, writes the release log. Wiring only."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.events.log_writer import LogWriter
from shared.domain.topics import CLONESET_EVENTS, CLUSTER_EVENTS, DEPLOYFLOW_EVENTS, PHASE_EVENTS
from shared.event_store import open_store
from shared.service.process import Context, run

NAME = "events"
TOPICS = (DEPLOYFLOW_EVENTS, PHASE_EVENTS, CLONESET_EVENTS, CLUSTER_EVENTS)
_STORE = "event store"


@asynccontextmanager
async def build(context: Context) -> AsyncIterator[None]:
    store = open_store(context.settings)

    def report(trouble: str) -> None:
        if trouble:
            context.health.missing(_STORE, trouble)
        else:
            context.health.there(_STORE)

    writer = LogWriter(store, context.kafka.dead_letter, report, cluster=context.settings.cluster_name)
    try:
        await context.wait_for(_STORE, store.prepare)
        context.kafka.consume_batches(TOPICS, group=NAME, write=writer.write)
        yield
    finally:
        await store.close()


def main() -> None:
    # documents are short-lived and have no reference cycles: searching for those would take a fifth of all the work
    gc.set_threshold(50_000, 20, 100)
    run(NAME, build)
