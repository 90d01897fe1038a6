"""One trace for each release, for OpenTelemetry; off unless TRITON_TRACES names a collector.

Ids are derived: the trace id is the DeployFlow's uid (`trace.id` of the release log), a span id is a hash of what the
span describes. So no id has to be stored or passed on: every service computes the same trace, also after a restart,
and a message that is delivered again exports the same span again. A span is a value that is exported when its work
has finished. While traces are off, nothing of OpenTelemetry's SDK is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from shared.clock import now_milliseconds
from shared.domain.messages import Command
from shared.domain.record import Record

TRACEPARENT: Final = "traceparent"
"""The header of W3C Trace Context."""
_W3C: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_UID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")


class Place(NamedTuple):
    """The ids of a span: its trace's and its own."""

    trace: int
    span: int

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace:032x}-{self.span:016x}-01"


class Span(NamedTuple):
    """Finished work. Times in ms since 1970; attributes that are None or empty are left out.

    `record`: the Kafka message that was processed. `events`: name and time of what happened meanwhile. `error`: why
    it failed, empty if it did not. `link`: a related span.
    """

    name: str
    at: Place
    parent: Place | None
    start: int
    end: int
    attributes: Mapping[str, Any]
    record: Record | None = None
    events: Sequence[tuple[str, int]] = ()
    error: str = ""
    link: Place | None = None


_exporters: Final[list[Callable[[Span], None]]] = []
_stops: Final[list[Callable[[], None]]] = []
_within: Final[ContextVar[Place | None]] = ContextVar("within", default=None)


# --- ids of spans -----------------------------------------------------------------------------------------


def release(uid: str) -> Place:
    """Return the root span, the release as a whole."""
    return inside(uid)


def batch(uid: str, number: int) -> Place:
    """Return the span of a batch; for number 0, before the first batch, the release's."""
    return inside(uid, "batch", number) if number else release(uid)


def inside(uid: str, *what: object) -> Place:
    """Return a span within a release, identified by `what`."""
    digits = uid.replace("-", "")
    return Place(int(digits, 16) if _UID.fullmatch(digits) else hashed(16, uid), hashed(8, uid, *what))


def hashed(size: int, *what: object) -> int:
    return int.from_bytes(blake2b(":".join(map(str, what)).encode(), digest_size=size).digest()) or 1


def read(traceparent: str) -> Place | None:
    """Return the span of a message's sender; None for a malformed header or a sender that records no trace."""
    if not (found := _W3C.fullmatch(traceparent)):
        return None
    trace, span, flags = (int(part, 16) for part in found.groups())
    return Place(trace, span) if trace and span and flags & 1 else None


# --- export -----------------------------------------------------------------------------------------------


def start(export: Callable[[Span], None], stop: Callable[[], None]) -> None:
    """Pass each span to `export` from now on; `stop` flushes what is left."""
    _exporters.append(export)
    _stops.append(stop)


def stop() -> None:
    """Flush what is left, within two seconds."""
    _exporters.clear()
    while _stops:
        _stops.pop()()


def export(*spans: Span) -> None:
    """Export spans without waiting, and without an error when the collector is away."""
    for span in spans:
        for exporter in _exporters:
            exporter(span)


def about(namespace: str, instance: str, deployflow: str, uid: str) -> dict[str, Any]:
    """Return the attributes that every span of a release has."""
    return {
        "k8s.namespace.name": namespace,
        "triton.instance": instance,
        "triton.deployflow": deployflow,
        "triton.uid": uid,
    }


def command_span(
    command: Command, kind: str, record: Record, service: str, *, error: str = "", **more: Any
) -> Span:
    """Return the span of a batch command, from its time on Kafka to now, its completion."""
    flow = command.flow
    attributes = about(command.namespace, command.instance, flow.name, flow.uid)
    attributes |= {"triton.batch": flow.batch, "triton.sequence": command.sequence}
    attributes |= {f"triton.{name}": value for name, value in more.items()}
    return Span(
        kind,
        work(command, service),
        batch(flow.uid, flow.batch),
        record.timestamp_ms,
        now_milliseconds(),
        attributes,
        record,
        error=error,
    )


def work(command: Command, service: str) -> Place:
    """Return the span of a service's work on a command."""
    return inside(command.flow.uid, service, command.sequence)


# --- headers ----------------------------------------------------------------------------------------------


@contextmanager
def within(place: Place) -> Iterator[None]:
    """Attribute the messages published in this context to that span."""
    token = _within.set(place)
    try:
        yield
    finally:
        _within.reset(token)


class _Flow(msgspec.Struct):
    uid: str = ""
    batch: int = 0


class _Part(msgspec.Struct):
    flow: _Flow | None = None


class _About(_Part):
    batch: int = 0
    pods: list[_Part] = []


_about = msgspec.json.Decoder(_About)


def headers(value: bytes) -> dict[str, str]:
    """Return the header with the span of a message: the one it is published `within`, otherwise that of its batch."""
    if not _exporters:
        return {}
    place = _within.get() or _place_of(value)
    return {TRACEPARENT: place.traceparent} if place else {}


def _place_of(value: bytes) -> Place | None:
    try:
        about = _about.decode(value)
    except msgspec.MsgspecError:
        return None
    flow = about.flow or next((pod.flow for pod in about.pods if pod.flow), None)
    return batch(flow.uid, flow.batch or about.batch) if flow else None
