"""Wires the planner: it decides on every release, and is the only writer of its status."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY

from services.planner.api.api_servers import serve_apis
from services.planner.api.flow_queries import FlowQueries
from services.planner.intake.command_consumer import CommandConsumer
from services.planner.intake.flow_mutations import FlowMutations
from services.planner.model.state import Instance
from services.planner.runtime.event_recorder import EventRecorder
from services.planner.runtime.finalizer import Finalizer
from services.planner.runtime.flow_cache import FlowCache
from services.planner.runtime.history_pruner import HistoryPruner
from services.planner.runtime.inheritance import Inheritance
from services.planner.runtime.instance_processor import InstanceProcessor
from services.planner.runtime.namespace_watch import NamespaceWatch
from services.planner.runtime.release_gauges import ReleaseGauges
from services.planner.runtime.status_writer import StatusWriter
from services.planner.runtime.timers import check_forever, fire_forever
from shared.domain import topics
from shared.service.process import Context, run
from shared.status_store import StatusStore


@asynccontextmanager
async def planner(context: Context) -> AsyncIterator[None]:
    context.trace()
    settings, kafka = context.settings, context.kafka
    store = StatusStore(settings.redis_url, settings.prefix)
    context.stack.push_async_callback(store.close)
    await context.wait_for("Redis", store.ping)
    client = await context.kubernetes()
    flows = FlowCache(client, kafka, settings)
    namespaces = NamespaceWatch(client, flows, settings)

    recorder = EventRecorder(client)
    finalizer = Finalizer(client, kafka, flows)
    writer = StatusWriter(client, flows, finalizer.begin, rate=settings.status_writes_per_second)
    gauges = ReleaseGauges(flows)

    def changed(instance: Instance) -> None:
        writer.mark(instance)
        gauges.changed(instance)

    async def assigned(owned: frozenset[int]) -> None:
        # another replica may have continued any of them
        instances.forget()
        gauges.forget()
        await flows.assigned(owned)

    instances = InstanceProcessor(
        store,
        kafka,
        flows,
        changed,
        namespaces.of,
        namespaces.is_terminating,
        Inheritance(client, flows).fill_in,
        recorder.note,
        resend_seconds=settings.resend_seconds,
        finished_ttl_seconds=settings.redis_finished_ttl_seconds,
    )
    facts = kafka.consume_by_key(
        [topics.PLANNER_FACTS, topics.BATCH_RESULTS, topics.PHASE_EVENTS],
        group="planner",
        handle=instances.handle,
    )
    # a client of their own: commands take no connection from the releases' requests
    commands_client = await context.kubernetes()
    flow_queries = FlowQueries(store, flows, commands_client)
    intake = CommandConsumer(FlowMutations(commands_client, flows, flow_queries.with_statuses), kafka)
    kafka.consume_by_key([topics.DEPLOY_COMMANDS], group="planner-intake", handle=intake.handle)
    flows.attach(facts)
    facts.on_assigned = assigned
    REGISTRY.register(gauges)
    context.stack.callback(REGISTRY.unregister, gauges)
    await context.follow("the list of DeployFlows", flows.reflector)
    await namespaces.follow(context)
    context.spawn(flows.outgoing.run(), "planner facts", publishes=True)
    context.spawn(fire_forever(store, kafka, context.health, flows.manages), "deadlines", publishes=True)
    context.spawn(check_forever(store, instances, flows), "consistency check", publishes=True)
    context.spawn(finalizer.check_forever(), "finalizer", publishes=True)
    context.spawn(recorder.run(), "Events about DeployFlows")
    pruner = HistoryPruner(client, flows, settings.revision_history_limit)
    context.spawn(pruner.check_forever(), "history limit")
    async with serve_apis(context, store, flows):
        yield
    finalizer.kafka_stopped()
    await writer.stop()
    await finalizer.stop()
    await recorder.stop()


def main() -> None:
    run("planner", planner)
