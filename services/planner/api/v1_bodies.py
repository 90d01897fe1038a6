"""Reads the bodies of the first version as the original's structures did. Pure.

A Go program that wrote them sends each field of its own, set or not, and the original dropped what is not set: null,
zero, the empty string or list, and keys that it does not know; the case of a key did not matter. What it held by a
pointer is set also where it is zero: `replicas` and `paused`. `batchSize` is one, too, and zero there is all pods.
Fields that the original has not are kept, with their zeros.
"""

from __future__ import annotations

from typing import Any, Final

from shared.domain import deployflow as df
from shared.domain.json_types import Json

_POINTERS: Final = frozenset({"replicas", "paused"})
_OF_THE_ORIGINAL: Final = frozenset(
    {
        *("appID", "groupID", "appName", "instanceName", "applicationType", "volumeClaimTemplates"),
        *("applicationLabel", "canceled", "batchIntervalSeconds", "mode", "batches"),
        *("noPullIn", "canary", "stage", "podsToDelete"),
    }
)


def read_application(body: Json) -> Json:
    """Return the fields of an application that are set; the template is as it was sent, the selector is ignored."""
    application = _set_fields(body, df.Application)
    application.pop("selector", None)
    return application


def read_strategy(body: Json | None, kind: type[df.Strategy]) -> Json:
    """Return the fields of a strategy that are set, those that `kind` has. `batchSize` None: all pods."""
    strategy = _set_fields(body or {}, kind)
    if strategy.get("batchSize") in (0, ""):
        strategy["batchSize"] = None
    return strategy


def with_known_keys(body: Json, keys: frozenset[str]) -> Json:
    """Return the values that are not null under the names of `keys`; others are dropped."""
    names = {key.lower(): key for key in keys}
    found = ((names.get(key.lower()), value) for key, value in body.items())
    return {name: value for name, value in found if name is not None and value is not None}


def _set_fields(body: Json, model: type[df.Wire]) -> Json:
    names = frozenset(str(info.alias) for info in model.model_fields.values())
    return {name: value for name, value in with_known_keys(body, names).items() if _is_set(name, value)}


def _is_set(name: str, value: Any) -> bool:
    if name in _POINTERS or name == "batchSize":
        return True
    return bool(value) if name in _OF_THE_ORIGINAL else value != ""
