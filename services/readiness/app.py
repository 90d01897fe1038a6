"""Wires readiness: the only watcher of pods and the only writer of their gate and of what it says of their draining."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY

from services.readiness.details import Details
from services.readiness.drains import Drains
from services.readiness.keeper import GateKeeper
from services.readiness.releases import Releases, remember
from services.readiness.telling import Telling
from services.readiness.waiting import WaitingGates
from shared.domain import topics
from shared.domain.topics import Key
from shared.kube.client import PODS
from shared.kube.cluster_events import FOR_THE_LOG, ClusterEvents, Involved, Subject
from shared.kube.pods import Pod
from shared.kube.reflector import Reflector
from shared.messaging.background_publisher import BackgroundPublisher
from shared.service.process import Context, run


@asynccontextmanager
async def readiness(context: Context) -> AsyncIterator[None]:
    settings, kafka = context.settings, context.kafka
    context.trace()
    client = await context.kubernetes()
    outgoing, for_the_log = BackgroundPublisher(kafka), BackgroundPublisher(kafka, FOR_THE_LOG)

    def owns(key: Key) -> bool:
        return commands.owns(str(key))

    def changed(old: Pod | None, new: Pod | None) -> None:
        details.changed(old, new)
        telling.tell(old, new)
        if old is not None and new is None:
            releases.gone(old)
        keeper.changed(old, new)
        drains.changed(old, new)

    async def assigned(owned: frozenset[int]) -> None:  # noqa: ARG001 - the consumer knows it
        await remember(releases, client, settings.namespaces, owns)
        for pod in pods.items.values():
            details.changed(None, pod)
        telling.tell_all(pods.items.values())
        keeper.look_at_all()
        drains.look_at_all()
        said.assigned()

    def subject(about: Involved) -> Subject | None:
        pod = pods.items.get(about.uid)
        return Subject(pod.key, releases.of(pod), pod.app) if pod is not None else None

    pods = Reflector(
        client,
        PODS,
        Pod,
        changed,
        namespaces=settings.namespaces,
        labels="managed-by=triton-io",
        silence_seconds=settings.watch_silence_seconds,
    )
    releases = Releases(lambda uid: uid in pods.items)
    details = Details(
        client, pods.items.get, owns, lambda pod: telling.tell(pod, pod), for_the_log.put, releases.of
    )
    telling = Telling(
        outgoing, owns, coalesce_ms=settings.phase_coalesce_ms, detail=details.of, release=releases.of
    )
    keeper = GateKeeper(client, pods, owns, releases.heard)
    said = ClusterEvents(
        client,
        "Pod",
        subject,
        owns,
        for_the_log,
        namespaces=settings.namespaces,
        silence_seconds=settings.watch_silence_seconds,
    )
    drains = Drains(client, pods, owns)
    gates = WaitingGates(keeper.pending)
    REGISTRY.register(gates)
    context.stack.callback(REGISTRY.unregister, gates)
    commands = kafka.consume_by_key([topics.BATCH_COMMANDS], group="readiness", handle=keeper.handle)
    commands.on_assigned = assigned
    await context.follow("the list of pods", pods)
    context.spawn(outgoing.run(), "phase events", publishes=True)
    context.spawn(for_the_log.run(), "what the cluster says of pods", publishes=True)
    context.spawn(said.run(), "the cluster's Events about pods")
    context.spawn(keeper.look_forever(), "unclaimed pods")
    context.spawn(drains.ask_forever(), "connections of pods pulled out")
    yield


def main() -> None:
    run("readiness", readiness)
