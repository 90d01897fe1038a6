"""Wires the executor: the only writer of CloneSets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.executor.adoption import Adoption
from services.executor.cloneset_watch import CloneSetWatch
from services.executor.command_handler import CommandHandler
from services.executor.legacy_owners import LegacyOwners
from shared.domain import topics
from shared.kube.cluster_events import FOR_THE_LOG, ClusterEvents
from shared.messaging.background_publisher import BackgroundPublisher
from shared.service.process import Context, run


@asynccontextmanager
async def executor(context: Context) -> AsyncIterator[None]:
    context.trace()
    client = await context.kubernetes()

    def owns(key: object) -> bool:
        return commands.owns(str(key))

    async def on_assigned(owned: frozenset[int]) -> None:  # noqa: ARG001 - the consumer knows it
        watch.publish_all()
        cluster_events.assigned()

    watch = CloneSetWatch(client, context.kafka, context.settings, owns)
    adoption = Adoption(client, watch.reflector)
    watch.on_change = adoption.cloneset_changed
    handler = CommandHandler(client, context.kafka, context.settings, watch.reflector, adoption)
    for_the_log = BackgroundPublisher(context.kafka, FOR_THE_LOG)
    cluster_events = ClusterEvents(
        client,
        "CloneSet",
        watch.subject,
        owns,
        for_the_log,
        namespaces=context.settings.namespaces,
        silence_seconds=context.settings.watch_silence_seconds,
        noticed=watch.note_event,
    )
    commands = context.kafka.consume_by_key([topics.BATCH_COMMANDS], group="executor", handle=handler.handle)
    commands.on_assigned = on_assigned
    await context.follow("the list of CloneSets", watch.reflector)
    context.spawn(watch.outgoing.run(), "CloneSet facts", publishes=True)
    context.spawn(for_the_log.run(), "publisher of the cluster's Events about CloneSets", publishes=True)
    context.spawn(cluster_events.run(), "watch of the cluster's Events about CloneSets")
    context.spawn(LegacyOwners(client, watch.reflector, owns).check_forever(), "claims of Triton 0.1.x")
    yield


def main() -> None:
    run("executor", executor)
