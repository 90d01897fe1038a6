"""The behaviour of a pod in the sandbox, chosen by the tag of its image or by annotations.

Init containers run for a moment and end well, unless their own tag says `crash`, `hang` or `imagepull`. There are no containers here. A test or a demonstration says what should go wrong: `image: demo:crash`, or
`sandbox.triton.io/behaviour: crash-after-ready` with `sandbox.triton.io/fail-after-seconds: "3"`. A real HTTP server
can stand for what runs in the pods: `sandbox.triton.io/pod-ip: 127.0.0.1` gives them its address.
"""

from __future__ import annotations

import ipaddress
import random
import re
from typing import NamedTuple

from shared.domain.json_types import Json

from .objects import annotations_of

BEHAVIOUR = "sandbox.triton.io/behaviour"
START_SECONDS = "sandbox.triton.io/start-seconds"
STOP_SECONDS = "sandbox.triton.io/stop-seconds"
FAIL_AFTER_SECONDS = "sandbox.triton.io/fail-after-seconds"
POD_IP = "sandbox.triton.io/pod-ip"

KINDS = frozenset(
    {
        "crash",
        "hang",
        "never-ready",
        "imagepull",
        "crash-after-ready",
        "unready-after-ready",
        "unready-in-traffic",
        "unschedulable",
    }
)
INIT_KINDS = frozenset({"crash", "hang", "imagepull"})
"""What an init container may do instead of ending well."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_IMAGE = re.compile(
    rf"(?:{_HOST}(?:\.{_HOST})*(?::\d+)?/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)
"""A reference to an image, as a kubelet accepts it. The same expression is in `sandbox/real/stages.yaml`."""

DEFAULT_FAIL_AFTER = 2.0


class Span(NamedTuple):
    """A time drawn evenly between two bounds, in seconds."""

    least: float
    most: float

    def draw(self) -> float:
        return random.uniform(self.least, self.most)


def parse_span(text: str) -> Span:
    """Parse `0.2-1.2` or `3` (seconds); raise ValueError for anything else."""
    least, _, most = text.partition("-")
    span = Span(float(least), float(most or least))
    if not 0 <= span.least <= span.most:
        raise ValueError(f"not a span of seconds: {text!r}")
    return span


class Behaviour(NamedTuple):
    """The behaviour of one pod; times in seconds. `address`: of a real server that answers for it, else empty."""

    kind: str
    start: Span
    stop: Span
    fail_after: float
    address: str


def behaviour_of(pod: Json, start: Span, stop: Span) -> Behaviour:
    """Return the behaviour that the pod's annotations request, with the cluster's defaults for the rest."""
    notes = annotations_of(pod)
    kind = notes.get(BEHAVIOUR) or _by_image(pod)
    return Behaviour(
        kind if kind in KINDS else "",
        _span(notes.get(START_SECONDS), start),
        _span(notes.get(STOP_SECONDS), stop),
        _span(notes.get(FAIL_AFTER_SECONDS), Span(DEFAULT_FAIL_AFTER, DEFAULT_FAIL_AFTER)).draw(),
        _address(notes.get(POD_IP, "")),
    )


def _span(text: str | None, default: Span) -> Span:
    try:
        return parse_span(text) if text else default
    except ValueError:
        return default


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def is_image(name: str) -> bool:
    """Return whether a kubelet can read the name of an image."""
    return _IMAGE.fullmatch(name) is not None


def init_kind(container: Json) -> str:
    """Return what an init container does by its tag; empty where it ends well."""
    tag = _tag(container)
    return tag if tag in INIT_KINDS else ""


def _by_image(pod: Json) -> str:
    return next((tag for c in pod["spec"].get("containers") or () if (tag := _tag(c)) in KINDS), "")


def _tag(container: Json) -> str:
    return str(container.get("image", "")).rpartition("/")[2].partition(":")[2]
