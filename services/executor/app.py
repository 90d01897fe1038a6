"""Wires the executor: the only writer of CloneSets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.executor.clonesets import CloneSets
from services.executor.owners import Owners
from shared.domain import topics
from shared.kube.cluster_events import FOR_THE_LOG, ClusterEvents
from shared.messaging.background_publisher import BackgroundPublisher
from shared.service.process import Context, run


@asynccontextmanager
async def executor(context: Context) -> AsyncIterator[None]:
    context.trace()
    client = await context.kubernetes()
    clonesets = CloneSets(client, context.kafka, context.settings)
    commands = context.kafka.consume_by_key(
        [topics.BATCH_COMMANDS], group="executor", handle=clonesets.handle
    )
    clonesets.attach(commands)
    for_the_log = BackgroundPublisher(context.kafka, FOR_THE_LOG)
    said = ClusterEvents(
        client,
        "CloneSet",
        clonesets.subject,
        lambda key: commands.owns(str(key)),
        for_the_log,
        namespaces=context.settings.namespaces,
        silence_seconds=context.settings.watch_silence_seconds,
    )

    async def assigned(owned: frozenset[int]) -> None:
        await clonesets.assigned(owned)
        said.assigned()

    commands.on_assigned = assigned
    await context.follow("the list of CloneSets", clonesets.reflector)
    context.spawn(clonesets.outgoing.run(), "CloneSet facts", publishes=True)
    context.spawn(for_the_log.run(), "what the cluster says of CloneSets", publishes=True)
    context.spawn(said.run(), "the cluster's Events about CloneSets")
    context.spawn(Owners(client, clonesets.reflector, commands.owns).look_forever(), "claims of Triton 0.1.x")
    yield


def main() -> None:
    run("executor", executor)
