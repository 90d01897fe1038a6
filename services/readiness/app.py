"""Wires readiness: the only watcher of pods, and the only writer of their gate and their drain condition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY

from services.readiness.drain_poller import DrainPoller
from services.readiness.fact_publisher import FactPublisher, in_halves
from services.readiness.gate_keeper import GateKeeper
from services.readiness.pending_gates import PendingGates
from services.readiness.release_lookup import ReleaseLookup, restore_releases
from services.readiness.trouble_details import TroubleDetails
from shared.domain import topics
from shared.domain.topics import Key
from shared.kube.client import PODS, Client
from shared.kube.cluster_events import FOR_THE_LOG, ClusterEvents, Involved, Subject
from shared.kube.pods import Pod
from shared.kube.reflector import Reflector
from shared.messaging.background_publisher import BackgroundPublisher
from shared.service.process import Context, run


class Readiness:
    """The parts of the service. One watch of pods feeds them all, and a rebalance makes each check all its pods."""

    def __init__(self, context: Context, client: Client) -> None:
        settings, kafka = context.settings, context.kafka
        self._client, self._namespaces = client, settings.namespaces
        self.outgoing = BackgroundPublisher(kafka, instead=in_halves)
        self.for_the_log = BackgroundPublisher(kafka, FOR_THE_LOG)
        self.pods = Reflector(
            client,
            PODS,
            Pod,
            self._pod_changed,
            namespaces=settings.namespaces,
            labels="managed-by=triton-io",
            silence_seconds=settings.watch_silence_seconds,
        )
        self.releases = ReleaseLookup(lambda uid: uid in self.pods.items)
        self.details = TroubleDetails(
            client,
            self.pods.items.get,
            self._owns,
            lambda pod: self.facts.pod_changed(pod, pod),
            self.for_the_log.put,
            self.releases.find,
        )
        self.facts = FactPublisher(
            self.outgoing,
            self._owns,
            coalesce_ms=settings.phase_coalesce_ms,
            detail=self.details.find,
            release=self.releases.find,
        )
        self.keeper = GateKeeper(client, self.pods, self._owns, self.releases.on_command)
        self.drains = DrainPoller(client, self.pods, self._owns)
        self.cluster_events = ClusterEvents(
            client,
            "Pod",
            self._subject,
            self._owns,
            self.for_the_log,
            namespaces=settings.namespaces,
            silence_seconds=settings.watch_silence_seconds,
        )
        self.commands = kafka.consume_by_key(
            [topics.BATCH_COMMANDS], group="readiness", handle=self.keeper.handle
        )
        self.commands.on_assigned = self._assigned

    def _owns(self, key: Key) -> bool:
        return self.commands.owns(str(key))

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        # the fact is published with its details, and with its release, which is forgotten only afterwards
        self.details.changed(old, new)
        self.facts.pod_changed(old, new)
        if old is not None and (new is None or new.key != old.key):
            self.releases.forget_pod(old)
        self.keeper.changed(old, new)
        self.drains.changed(old, new)

    async def _assigned(self, owned: frozenset[int]) -> None:  # noqa: ARG002 - the consumer knows it
        instances = await restore_releases(self.releases, self._client, self._namespaces, self._owns)
        for pod in self.pods.items.values():
            self.details.changed(None, pod)
        self.facts.publish_all(self.pods.items.values(), instances)
        self.keeper.check_all()
        self.drains.check_all()
        self.cluster_events.assigned()

    def _subject(self, involved: Involved) -> Subject | None:
        """Return the instance and the release that a Kubernetes Event about a pod belongs to."""
        pod = self.pods.items.get(involved.uid)
        return Subject(pod.key, self.releases.find(pod), pod.app) if pod is not None else None


@asynccontextmanager
async def readiness(context: Context) -> AsyncIterator[None]:
    context.trace()
    parts = Readiness(context, await context.kubernetes())
    gates = PendingGates(parts.keeper.pending)
    REGISTRY.register(gates)
    context.stack.callback(REGISTRY.unregister, gates)
    await context.follow("the list of pods", parts.pods)
    context.spawn(parts.outgoing.run(), "phase events", publishes=True)
    context.spawn(parts.for_the_log.run(), "publisher of the cluster's Events about pods", publishes=True)
    context.spawn(parts.cluster_events.run(), "watch of the cluster's Events about pods")
    context.spawn(parts.keeper.check_forever(), "unclaimed pods")
    context.spawn(parts.drains.poll_forever(), "connections of pods pulled out")
    yield


def main() -> None:
    run("readiness", readiness)
