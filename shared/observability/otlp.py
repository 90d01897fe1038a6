"""Sends spans to a collector, with OpenTelemetry's SDK and its exporter for OTLP over HTTP.

Loaded only when traces are on. The SDK buffers spans and sends them from a thread of its own; while the collector is
away it retries, then drops them. Login and certificates are settings of OpenTelemetry's own (OTEL_EXPORTER_OTLP_…).
"""

from __future__ import annotations

import logging
import time
from importlib.metadata import version
from threading import Thread
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from shared.domain.safe_text import without_login
from shared.observability.tracing import Place, Span
from shared.settings import Settings

SEND_SECONDS: Final = 1.0
"""How often spans are sent: a process that is killed loses at most so many seconds of them."""
STOP_SECONDS: Final = 2.0
QUIET_SECONDS: Final = 300.0
"""Between two log messages about a collector that accepts nothing."""
_log = logging.getLogger(__name__)
_sdk_log = logging.getLogger("opentelemetry")


class Collector:
    """Exports spans to the collector of the settings, or with another `exporter`."""

    def __init__(self, settings: Settings, service: str, exporter: SpanExporter | None = None) -> None:
        self._settings = settings
        where = endpoint(settings.traces)
        _sdk_log.propagate = False
        self._sdk_warnings = _RateLimitedLog(where)
        _sdk_log.addHandler(self._sdk_warnings)
        self._ids = _PlaceIds()
        self._provider = TracerProvider(
            DEFAULT_ON,
            Resource.create(
                {
                    "service.name": f"triton-{service}",
                    "service.namespace": settings.prefix,
                    "service.version": version("triton-release"),
                    **({"k8s.cluster.name": settings.cluster_name} if settings.cluster_name else {}),
                }
            ),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter or OTLPSpanExporter(where), schedule_delay_millis=SEND_SECONDS * 1000)
        )
        self._tracer = self._provider.get_tracer("triton")

    def export(self, span: Span) -> None:
        self._ids.next = span.at
        known = {name: value for name, value in span.attributes.items() if value not in {None, ""}}
        started = self._tracer.start_span(
            span.name,
            set_span_in_context(NonRecordingSpan(_context(span.parent))) if span.parent else _NO_PARENT,
            SpanKind.CONSUMER if span.record else SpanKind.INTERNAL,
            known | self._messaging(span),
            [Link(_context(span.link))] if span.link else (),
            _ns(span.start),
        )
        for name, at in span.events:
            started.add_event(name, timestamp=_ns(at))
        if span.error:
            started.set_status(Status(StatusCode.ERROR, span.error))
        started.end(_ns(max(span.end, span.start)))

    def stop(self) -> None:
        # shutdown waits half a minute for a collector that is away; a daemon thread ends with the process
        ending = Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(STOP_SECONDS)
        _sdk_log.removeHandler(self._sdk_warnings)
        _sdk_log.propagate = True

    def _messaging(self, span: Span) -> dict[str, str | int]:
        if span.record is None:
            return {}
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": self._settings.topic(span.record.topic),
            "messaging.destination.partition.id": str(span.record.partition),
            "messaging.kafka.message.key": span.record.key,
            "messaging.kafka.offset": span.record.offset,
        }


def endpoint(url: str) -> str:
    """Return the address that spans are sent to: `/v1/traces` where `url` has no path."""
    return url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1/traces"


class _PlaceIds(IdGenerator):
    """Generates the ids of the `next` span."""

    next = Place(1, 1)

    def generate_span_id(self) -> int:
        return self.next.span

    def generate_trace_id(self) -> int:
        return self.next.trace


class _RateLimitedLog(logging.Handler):
    """Logs the SDK's warnings rarely: while a collector is away it repeats them all the time."""

    def __init__(self, where: str) -> None:
        super().__init__(logging.WARNING)
        self._where = where
        self._quiet_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            shown = without_login(self._where)
            why = record.getMessage().replace(self._where, shown)
            _log.warning("traces to %s are lost, releases continue: %s", shown, why)


def _context(place: Place) -> SpanContext:
    return SpanContext(place.trace, place.span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


_NO_PARENT: Final = set_span_in_context(NonRecordingSpan(SpanContext(0, 0, is_remote=False)))


def _ns(ms: int) -> int:
    return ms * 1_000_000
