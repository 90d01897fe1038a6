"""Traces of releases: what a collector gets, and what it costs where there is none."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import ValidationError

from services.events.documents import documents
from shared.domain import messages as m
from shared.domain.record import Record
from shared.observability import tracing
from shared.observability.otlp import Collector, endpoint
from shared.observability.tracing import Place, Span
from shared.settings import Settings
from tests.unit.events.samples import flow_event, pod

UID = "8d0f0f4e-5f3a-4c43-9f0e-0d5d3a9a6f10"
FLOW = m.FlowRef(name="web-1", uid=UID, batch=2)
COMMAND = m.Halt(namespace="shop", instance="web", sequence=7, flow=FLOW)
RECORD = Record("batch-commands", "shop/web", b"", {}, 3, 41, 1_763_720_000_000)
BATCH = tracing.batch(UID, 2)
SPAN = Span("batch", BATCH, tracing.release(UID), 1000, 2500, {})


def closed_port() -> int:
    with socket.socket() as attempt:
        attempt.bind(("127.0.0.1", 0))
        port: int = attempt.getsockname()[1]
        return port


@pytest.fixture
def switched_on() -> Iterator[None]:
    tracing._exporters.append(lambda _: None)
    yield
    tracing.stop()


def exported(*spans: Span) -> tuple[ReadableSpan, ...]:
    """What a collector is sent."""
    exporter = InMemorySpanExporter()
    collector = Collector(Settings(traces="http://nowhere"), "test", exporter)
    for span in spans:
        collector.export(span)
    collector.stop()
    return exporter.get_finished_spans()


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def test_nothing_is_loaded_recorded_or_sent_by_default() -> None:
    assert Settings().traces == ""
    tracing.export(SPAN)
    assert tracing.headers(COMMAND.model_dump_json().encode()) == {}
    services = ", ".join(f"services.{name}.app" for name in ("planner", "executor", "readiness", "events"))
    code = (
        f"import sys, {services}; print([m for m in sys.modules if m.startswith('opentelemetry.sdk.trace')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


@pytest.mark.parametrize("url", ["collector:4318", "grpc://collector:4317", "https://"])
def test_an_address_that_is_none_stops_the_start(url: str) -> None:
    with pytest.raises(ValidationError):
        Settings(traces=url)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp/traces", "https://c/otlp/traces"),
    ],
)
def test_an_address_without_a_path_gets_the_usual_one(url: str, where: str) -> None:
    assert endpoint(url) == where


def test_the_trace_of_a_release_is_that_of_the_release_log() -> None:
    (document,) = documents(flow_event(flow=FLOW), 0)
    assert f"{tracing.release(UID).trace:032x}" == document.source["trace"]["id"]


@pytest.mark.parametrize("uid", ["flow-1", "0" * 32, ""])
def test_an_uid_that_is_no_trace_id_becomes_one_all_the_same(uid: str) -> None:
    place = tracing.release(uid)
    assert 0 < place.trace < 1 << 128
    assert place == tracing.release(uid) != tracing.release(f"{uid}-")


def test_what_is_recorded_twice_is_the_same_span_and_all_others_are_others() -> None:
    first, again, *others = exported(
        tracing.command_span(COMMAND, "halt", RECORD, "executor"),
        tracing.command_span(COMMAND, "halt", RECORD, "executor"),
        tracing.command_span(COMMAND, "halt", RECORD, "readiness"),
        tracing.command_span(COMMAND.model_copy(update={"sequence": 8}), "halt", RECORD, "executor"),
        SPAN,
        SPAN._replace(at=tracing.release(UID), parent=None),
    )
    assert first.context == again.context
    ids = [span.context.span_id for span in (first, *others)]
    assert len(set(ids)) == 5
    assert {span.context.trace_id for span in (first, *others)} == {BATCH.trace}


def test_a_command_stands_below_its_batch_with_where_it_was_on_kafka() -> None:
    (span,) = exported(
        tracing.command_span(
            COMMAND, "halt", RECORD, "executor", error="Refused: no", result="Refused", none=""
        )
    )
    assert (span.name, span.kind, parent_of(span)) == ("halt", SpanKind.CONSUMER, BATCH.span)
    assert span.start_time == RECORD.timestamp_ms * 1_000_000
    assert span.end_time is not None
    assert span.end_time > span.start_time
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "Refused: no")
    assert dict(span.attributes or {}) == {
        "k8s.namespace.name": "shop",
        "triton.instance": "web",
        "triton.deployflow": "web-1",
        "triton.uid": UID,
        "triton.batch": 2,
        "triton.sequence": 7,
        "triton.result": "Refused",
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "triton.batch-commands",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.message.key": "shop/web",
        "messaging.kafka.offset": 41,
    }
    assert span.resource.attributes["service.name"] == "triton-test"


def test_a_root_its_times_its_moments_and_its_link() -> None:
    other = Place(77, 78)
    (span,) = exported(
        SPAN._replace(at=tracing.release(UID), parent=None, events=[("started", 1500)], link=other)
    )
    assert span.parent is None
    assert span.context.span_id == tracing.release(UID).span
    assert (span.start_time, span.end_time) == (1_000_000_000, 2_500_000_000)
    assert [(event.name, event.timestamp) for event in span.events] == [("started", 1_500_000_000)]
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [other]
    assert span.status.status_code == StatusCode.UNSET


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("header", "read"),
    [
        (TRACEPARENT, True),
        ("cc" + TRACEPARENT[2:] + "-what-comes-later", True),
        (TRACEPARENT[:-1] + "0", False),
        ("ff" + TRACEPARENT[2:], False),
        (TRACEPARENT[:3] + "0" * 32 + TRACEPARENT[35:], False),
        (TRACEPARENT[:36] + "0" * 16 + TRACEPARENT[52:], False),
        (TRACEPARENT.upper(), False),
        ("", False),
    ],
    ids=[
        "sampled",
        "later version",
        "not sampled",
        "version ff",
        "no trace",
        "no span",
        "upper case",
        "none",
    ],
)
def test_the_sender_of_a_message_is_where_its_header_says(header: str, read: bool) -> None:
    place = tracing.read(header)
    assert (place is not None) == read
    if place is not None:
        assert place.traceparent == TRACEPARENT


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (COMMAND, BATCH),
        (flow_event(flow=m.FlowRef(name="web-1", uid=UID), batch=2), BATCH),
        (
            m.SpecGone(namespace="shop", instance="web", flow=m.FlowRef(name="w", uid=UID)),
            tracing.release(UID),
        ),
        (m.PodsSeen(namespace="shop", instance="web", pods=[pod(flow=None), pod(flow=FLOW)], at=1), BATCH),
        (m.Due(namespace="shop", instance="web"), None),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.usefixtures("switched_on")
def test_what_is_said_of_a_release_names_its_batch_in_a_header(
    message: m.Message, place: Place | None
) -> None:
    expected = {"traceparent": place.traceparent} if place else {}
    assert tracing.headers(message.model_dump_json().encode()) == expected


@pytest.mark.usefixtures("switched_on")
def test_an_answer_names_what_it_is_the_answer_of() -> None:
    result = m.Superseded(namespace="shop", instance="web", sequence=7, current=9).model_dump_json().encode()
    place = tracing.work(COMMAND, "executor")
    with tracing.within(place):
        assert tracing.headers(result) == {"traceparent": place.traceparent}
    assert tracing.headers(result) == {}
    assert tracing.headers(b"no JSON") == {}


async def test_a_collector_that_is_away_holds_up_nothing_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    where = f"http://127.0.0.1:{closed_port()}"
    collector = Collector(Settings(traces=where.replace("://", "://me:s3cret@")), "test")
    tracing.start(collector.export, collector.stop)
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(30):
            for number in range(5000):
                tracing.export(SPAN._replace(at=Place(BATCH.trace, number + 1)))
            while not caplog.records:
                await asyncio.sleep(0.01)
        tracing.stop()
    assert [record.name for record in caplog.records] == ["shared.observability.otlp"]
    assert "s3cret" not in caplog.messages[0]
    assert caplog.messages[0].startswith(f"traces to {where}/v1/traces are lost, releases continue: ")
