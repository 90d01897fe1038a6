"""Who requested something: the name, how the request came, and whether anybody checked the name."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

KUBECTL_NAME: Final = "kubectl"
"""The name on record for a write to the API server that names no requester."""
CLI_AGENT: Final = "triton-cli/"
"""The beginning of the `User-Agent` by which the command line is known where it sends its requests to a server."""


class Via(StrEnum):
    """How a request came. `KUBECTL`: any write to the API server that is not one of Triton's own programs'."""

    KUBECTL = "kubectl"
    CLI = "cli"
    REST = "rest"
    GRPC = "grpc"
    KAFKA = "kafka"


class Origin(NamedTuple):
    """How a request came (empty: not known), and whether its sender alone says who it is from."""

    via: str = ""
    claimed: bool = False


def via_of(name: str, via: str) -> str:
    """Return how a request came; of a write that names no requester the name on record says it."""
    return via or (Via.KUBECTL if name == KUBECTL_NAME else "")


def show_requester(name: str, *, claimed: bool, via: str = "") -> str:
    """Return `oncall via cli`, `paas (claimed) via kafka`; empty where nothing is known.

    A name is marked where whoever sent the request wrote it and nobody checked it: it is not to be read as a fact.
    """
    shown = f"{name} (claimed)" if name and claimed else name
    if not via or via == name:
        return shown
    return f"{shown or 'somebody'} via {via}"
