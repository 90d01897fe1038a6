"""Triton's REST API for Python programs: `Triton` and, for asyncio, `AsyncTriton`, with the same methods."""

from triton_client.clients import AsyncTriton, Triton
from triton_client.errors import ConfigError, TritonError
from triton_client.models import Event, Instance, OneOfMany, Page, Plan, Pod, ProblemDetails
from triton_client.resources import DeployFlow, DeployFlowSpec, DeployFlowStatus

__all__ = [
    "AsyncTriton",
    "ConfigError",
    "DeployFlow",
    "DeployFlowSpec",
    "DeployFlowStatus",
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
