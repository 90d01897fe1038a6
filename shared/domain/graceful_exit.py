"""The annotations of a pod template about the end of its pods, parsed in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

GRACEFUL_SHUTDOWN = "apps.triton.io/graceful-shutdown"
DRAIN_PATH = "apps.triton.io/drain-path"
DRAIN_PORT = "apps.triton.io/drain-port"
DRAIN_MAX_SECONDS = "apps.triton.io/drain-max-seconds"
DRAINED = "apps.triton.io/drained"
"""A condition of pods: False while one that lost its traffic may still have connections."""

DEFAULT_MAX_SECONDS: Final = 300
LONGEST_SECONDS: Final = 86_400
_PATH = re.compile(r"/[!-~]*")


class Drain(NamedTuple):
    """The path and port at which a pod reports its open connections, and how many seconds to wait for them at most."""

    path: str
    port: int
    max_seconds: int


def drain_of(annotations: Mapping[str, Any], ports: Sequence[int]) -> Drain | None:
    """Return how to drain a pod; None where no path is named. `ports`: those of the containers, in order.

    Raises `ValueError` that names the annotation.
    """
    path = annotations.get(DRAIN_PATH)
    if path is None:
        for name in (DRAIN_PORT, DRAIN_MAX_SECONDS):
            if name in annotations:
                raise ValueError(f"{name} needs {DRAIN_PATH}")
        return None
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise ValueError(f"{DRAIN_PATH} must be a path that begins with / and has no spaces, not {path!r}")
    if DRAIN_PORT in annotations:
        port = number(DRAIN_PORT, annotations[DRAIN_PORT], 65_535)
    elif ports:
        port = ports[0]
    else:
        raise ValueError(f"{DRAIN_PATH} needs {DRAIN_PORT}: no container has a port")
    seconds = annotations.get(DRAIN_MAX_SECONDS, str(DEFAULT_MAX_SECONDS))
    return Drain(path, port, number(DRAIN_MAX_SECONDS, seconds, LONGEST_SECONDS))


def number(name: str, text: Any, most: int) -> int:
    """Parse an annotation's whole number from 1 to `most`; raises `ValueError` that names the annotation."""
    if isinstance(text, str) and re.fullmatch("[0-9]{1,9}", text) and 1 <= int(text) <= most:
        return int(text)
    raise ValueError(f"{name} must be a whole number from 1 to {most}, in quotes, not {text!r}")
