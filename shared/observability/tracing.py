"""One trace a release, for OpenTelemetry; off unless TRITON_TRACES names a collector.

Ids are made from what they stand for: the trace is the DeployFlow's uid (`trace.id` of the release log), a span is a
hash of what it tells of. So nothing has to be remembered or carried: every service finds the same trace, also after a
restart, and a message that comes again tells the same span again. A span is told when it is over, as a value; while
traces are off that is all there is to it, and nothing of OpenTelemetry's SDK is loaded.
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
    """Where a span is: its trace, and its own id in it."""

    trace: int
    span: int

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace:032x}-{self.span:016x}-01"


class Span(NamedTuple):
    """Something that is over. Times in ms since 1970; attributes that are None or empty are not known.

    `record`: the Kafka message that it worked on. `events`: what happened on the way, and when. `error`: why it went
    wrong, empty where it did not. `link`: another span that it has to do with.
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


_tellers: Final[list[Callable[[Span], None]]] = []
_stops: Final[list[Callable[[], None]]] = []
_within: Final[ContextVar[Place | None]] = ContextVar("within", default=None)


# --- where spans are --------------------------------------------------------------------------------------


def release(uid: str) -> Place:
    """The root: the release as a whole."""
    return inside(uid)


def batch(uid: str, number: int) -> Place:
    """A batch; the release itself before the first."""
    return inside(uid, "batch", number) if number else release(uid)


def inside(uid: str, *what: object) -> Place:
    """Anything else of a release, told apart by `what`."""
    digits = uid.replace("-", "")
    return Place(int(digits, 16) if _UID.fullmatch(digits) else hashed(16, uid), hashed(8, uid, *what))


def hashed(size: int, *what: object) -> int:
    return int.from_bytes(blake2b(":".join(map(str, what)).encode(), digest_size=size).digest()) or 1


def read(traceparent: str) -> Place | None:
    """Where the sender of a message is; None without a (well-formed) header, or where it traces nothing."""
    if not (found := _W3C.fullmatch(traceparent)):
        return None
    trace, span, flags = (int(part, 16) for part in found.groups())
    return Place(trace, span) if trace and span and flags & 1 else None


# --- telling ----------------------------------------------------------------------------------------------


def start(tell: Callable[[Span], None], stop: Callable[[], None]) -> None:
    """From now on each span is given to `tell`; `stop` hands over what is left."""
    _tellers.append(tell)
    _stops.append(stop)


def stop() -> None:
    """Hand over what is left, within two seconds."""
    _tellers.clear()
    while _stops:
        _stops.pop()()


def tell(*spans: Span) -> None:
    """Never waits, never fails for want of a collector."""
    for span in spans:
        for teller in _tellers:
            teller(span)


def about(namespace: str, instance: str, deployflow: str, uid: str) -> dict[str, Any]:
    """The attributes that every span of a release has."""
    return {
        "k8s.namespace.name": namespace,
        "triton.instance": instance,
        "triton.deployflow": deployflow,
        "triton.uid": uid,
    }


def carried_out(
    command: Command, kind: str, record: Record, service: str, *, error: str = "", **more: Any
) -> Span:
    """A batch command, from its time on Kafka to now, when it has been carried out."""
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
    """What a service does for a command."""
    return inside(command.flow.uid, service, command.sequence)


# --- headers ----------------------------------------------------------------------------------------------


@contextmanager
def within(place: Place) -> Iterator[None]:
    """What is published here belongs to that span."""
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
    """Those that say which span a message of ours belongs to: where it is sent from, else the batch that it is about."""
    if not _tellers:
        return {}
    place = _within.get() or _place_of(value)
    return {TRACEPARENT: place.traceparent} if place else {}


def _place_of(value: bytes) -> Place | None:
    try:
        told = _about.decode(value)
    except msgspec.MsgspecError:
        return None
    flow = told.flow or next((pod.flow for pod in told.pods if pod.flow), None)
    return batch(flow.uid, flow.batch or told.batch) if flow else None
