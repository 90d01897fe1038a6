"""Values for the fields of a strategy: those that the property tests draw, and one other than the default of each."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, get_args

from pydantic.fields import FieldInfo

from shared.domain import deployflow as df
from shared.domain.json_types import Json

DRAWN: Final[dict[str, list[Any]]] = {
    "mode": ["auto", "auto", "manual"],
    "batchSize": [1, 2, 3, "50%", None],
    "canary": [0, 0, 1, 2],
    "bakeSeconds": [0, 0, 5],
    "pullOutSeconds": [0, 0, 5],
    "batchIntervalSeconds": [0, 0, 20],
    "startupTimeoutSeconds": [30, 600],
    "pullInTimeoutSeconds": [60, 60, 20],
    "onFailure": ["pause", "pause", "cancel", "rollback"],
    "failureThreshold": [0, 0, 0, 1, "50%"],
}
"""Where the values that follow from a field's type are not the interesting ones."""
NOT_DRAWN: Final = {
    "paused": "rules pause and resume",
    "canceled": "a rule cancels",
    "batches": "rules let it go on",
    "stage": "a rule lets it go on",
    "retries": "a rule retries",
    "podsToDelete": "names pods that live then",
    "noPullIn": "nobody else opens gates in the simulation",
}
"""Fields that a release does not begin with in a property test, each with the reason."""


def drawn_values() -> dict[str, list[Any]]:
    """Return the values that a property test draws from, by the field; the default of a field more often."""
    fields = {str(info.alias): info for info in df.STRATEGY_FIELDS.values()}
    return {
        alias: DRAWN.get(alias) or [info.default, info.default, *_others(info)]
        for alias, info in fields.items()
        if alias not in NOT_DRAWN
    }


_SAMPLES: Final[Json] = {
    "batchSize": "50%",
    "failureThreshold": "50%",
    "podsToDelete": ["web-a"],
    "stage": "Smoked",
}


def sample_of(info: FieldInfo) -> Any:
    """Return a value of the field that is not its default, as JSON has it."""
    alias = str(info.alias)
    return _SAMPLES[alias] if alias in _SAMPLES else _others(info)[-1]


def _others(info: FieldInfo) -> list[Any]:
    kind = next((member for member in get_args(info.annotation) if member is not type(None)), info.annotation)
    if hasattr(kind, "__metadata__"):
        kind = get_args(kind)[0]
    if kind is bool:
        return [not info.default]
    if kind is int:
        return [61 if info.default == 60 else 60]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return [str(value) for value in kind if value != info.default]
    msg = f"{info.alias} is a {kind}: give its values in DRAWN and _SAMPLES of tests/simulation/strategies.py"
    raise TypeError(msg)
