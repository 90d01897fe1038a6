"""Conversion of a spec's strategy to the planner's own.

The planner keeps a strategy in Redis under shorter names than the resource has. They follow from the resource's by
one rule, so that a field of the model finds its place without a mapping of its own.
"""

from __future__ import annotations

from typing import Any, Final

from services.planner.model.state import Strategy
from shared.domain.deployflow import STRATEGY_FIELDS, DeployFlowSpec

_SHORTER: Final = {"batch_interval_seconds": "interval"}
NAMES: Final = {name: _SHORTER.get(name, name.removesuffix("_seconds")) for name in STRATEGY_FIELDS}
"""The attribute of the planner's `Strategy` for each field of the model."""


def strategy_of(spec: DeployFlowSpec) -> Strategy:
    """Return what the planner keeps of the strategy of `spec`; fields of the other kind have their defaults."""
    strategy = spec.strategy
    values = {NAMES[name]: getattr(strategy, name) for name in type(strategy).model_fields}
    return Strategy(**{name: _frozen(value) for name, value in values.items() if value is not None})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
