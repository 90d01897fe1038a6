"""The trace of a whole release: four services as processes of their own send it to a collector in the test's memory.

The collector is simulated, what it is sent is not: OTLP over HTTP by OpenTelemetry's own exporter, decoded by its own
message types. Kafka, Redis and Kubernetes are the sandbox's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest
import pytest_asyncio
from aiohttp import web
from aiokafka import AIOKafkaConsumer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from sandbox.environment import Sandbox
from tests.system.other_system import OtherSystem
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

SENDER_TRACE = "0af7651916cd43dd8448eb211c80319c"
SENDER_SPAN = "b7ad6b7169203331"
STOP_SECONDS = 15
WHOLE = {
    "update_release": 1,
    "deploy_command": 1,
    "request_deploy": 1,
    "observe": 1,
    "batch": 2,
    "surge": 2,
    "pull_in": 2,
    "gate_open": 2,
    "retire": 1,
    "finish": 1,
}
"""Of two pods in two batches. The old pod of the first goes by the write that makes the second's."""


class Span(NamedTuple):
    """As the collector was sent it."""

    name: str
    service: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    failed: bool


class Collector:
    """Takes spans, or is out of order."""

    def __init__(self) -> None:
        self.spans: dict[tuple[str, str], Span] = {}
        self.away = False
        self.refused = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        if self.away:
            self.refused += 1
            return web.Response(status=503)
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            service = _plain(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans[span.trace_id.hex(), span.span_id.hex()] = _span(service, span)
        return web.Response()

    def trace(self, trace: str) -> list[Span]:
        return sorted((s for s in self.spans.values() if s.trace == trace), key=lambda s: (s.start, -s.end))

    async def whole(self, uid: str, **names: int) -> list[Span]:
        """The spans of a release once there are so many of each name: each service sends its own when it likes."""
        trace = uid.replace("-", "")

        def missing() -> Counter[str]:
            return Counter(names) - Counter(span.name.replace(" ", "_") for span in self.trace(trace))

        try:
            await until(f"the whole trace {trace}", lambda: not missing(), 20)
        except AssertionError as error:
            raise AssertionError(f"{error}: {missing()} missing, there is {self.trace(trace)}") from None
        return self.trace(trace)


def _span(service: str, span: Sent) -> Span:
    return Span(
        span.name,
        service,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _plain(span.attributes),
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        span.status.code == Status.STATUS_CODE_ERROR,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(collector: Collector) -> AsyncIterator[Sandbox]:
    async with Sandbox(settings={"TRITON_TRACES": f"http://127.0.0.1:{collector.port}"}) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox) as client:
        yield client


def tree(spans: list[Span], parent: Span) -> list[tuple[str, str]]:
    """Names and services of what stands right below, in order of their begin."""
    return [(span.name, span.service.removeprefix("triton-")) for span in spans if span.parent == parent.id]


async def test_one_trace_from_the_command_to_the_gate(
    sandbox: Sandbox, releases: Releases, collector: Collector
) -> None:
    await releases.create("web", 2)
    async with OtherSystem(sandbox.kafka_bootstrap) as paas:
        header = {"traceparent": f"00-{SENDER_TRACE}-{SENDER_SPAN}-01".encode()}
        spec = deployflow("", "web", image="nginx:2", replicas=2, batchSize=1)["spec"]
        named = {"deployFlow": "web-traced", "requestedBy": "paas"}
        await paas.ask("web", {"id": "traced", "type": "deploy", "spec": spec, **named}, headers=header)
        await until("it is there", lambda: _is_there(releases, "web-traced"))
    await releases.finished("web-traced", "Success")
    uid = (await releases.flow("web-traced"))["metadata"]["uid"]
    trace = uid.replace("-", "")
    spans = await collector.whole(uid, **WHOLE)

    (root,) = (span for span in spans if not span.parent)
    assert (root.name, root.service, root.failed) == ("update release", "triton-planner", False)
    assert root.attributes["triton.phase"] == "Success"
    assert root.attributes["user.name"] == "paas"
    below = tree(spans, root)
    assert below.count(("batch", "planner")) == 2
    assert ("deploy command", "planner") in below
    assert ("request deploy", "planner") in below
    assert ("observe", "executor") in below

    first, second = (span for span in spans if span.name == "batch")
    assert [span.attributes["triton.batch"] for span in (first, second)] == [1, 2]
    # the old pods of the first go by the write that makes the second's
    assert root.start <= first.start < second.start < second.end <= root.end
    assert first.start < first.end <= second.end
    for number, batch in enumerate((first, second), 1):
        below = tree(spans, batch)
        assert below[:2] == [("surge", "executor"), ("pull_in", "readiness")], below
        assert ("retire", "executor") in below or number == 1, below
        (opened,) = (span for span in spans if span.name == "pull_in" and span.parent == batch.id)
        assert opened.attributes["triton.pods"] == 1
        (gate,) = (span for span in spans if span.parent == opened.id)
        assert (gate.name, gate.attributes["triton.batch"]) == ("gate open", number)
        assert batch.start <= opened.start <= gate.start <= gate.end <= opened.end <= batch.end
    assert not any(span.failed for span in spans)

    # the sender's own trace knows of it, and each of the two leads to the other
    (command_span,) = collector.trace(SENDER_TRACE)
    assert (command_span.name, command_span.parent, command_span.links) == (
        "deploy command",
        SENDER_SPAN,
        [(trace, root.id)],
    )
    assert command_span.attributes["messaging.destination.name"] == "triton.deploy-commands"
    (ours,) = (span for span in spans if span.name == "deploy command")
    assert ours.links == [(SENDER_TRACE, SENDER_SPAN)]

    # the names of the pods are those of the cluster, and the log has the same trace
    gates = {span.attributes["k8s.pod.name"] for span in spans if span.name == "gate open"}
    assert gates == {pod["metadata"]["name"] for pod in await releases.pods("web")}
    assert {event["trace"]["id"] for event in await releases.events("web-traced")} == {trace}

    ids = {span.id for span in spans}
    for topic in ("batch-commands", "batch-results", "deployflow-events", "phase-events"):
        traced = await _traceparents(sandbox, f"triton.{topic}", trace)
        assert traced, topic
        assert traced <= ids, topic


async def test_a_release_needs_no_collector(
    sandbox: Sandbox, releases: Releases, collector: Collector
) -> None:
    collector.away = True
    try:
        await releases.apply(deployflow("alone-1", "alone", action="create", replicas=2, batchSize=1))
        await releases.finished("alone-1", "Success")
        await until("it refused a request", lambda: collector.refused)
        async with asyncio.timeout(STOP_SECONDS):
            await sandbox.stop("readiness")
        said = [line for line in sandbox.log("readiness").read_text().splitlines() if "traces to" in line]
        assert len(said) == 1, said
    finally:
        collector.away = False
        await sandbox.start("readiness")


async def _is_there(releases: Releases, name: str) -> bool:
    return name in await releases.names()


async def _traceparents(sandbox: Sandbox, topic: str, trace: str) -> set[str]:
    """The spans that the messages of a topic name of a trace."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=sandbox.kafka_bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        found: set[str] = set()
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    _, traced, span, _ = dict(record.headers).get("traceparent", b"---").decode().split("-")
                    found |= {span} if traced == trace else set()
        return found
    finally:
        await consumer.stop()
