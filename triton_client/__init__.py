"""Triton's REST API for Python programs: `Triton` and, for asyncio, `AsyncTriton`, with the same methods."""

from triton_client.answers import (
    DeployFlow,
    Event,
    Instance,
    OneOfMany,
    Page,
    Plan,
    Pod,
    ProblemDetails,
    TritonError,
)
from triton_client.clients import AsyncTriton, Triton

__all__ = [
    "AsyncTriton",
    "DeployFlow",
    "Event",
    "Instance",
    "OneOfMany",
    "Page",
    "Plan",
    "Pod",
    "ProblemDetails",
    "Triton",
    "TritonError",
]
