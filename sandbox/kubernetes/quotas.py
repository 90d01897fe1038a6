"""ResourceQuotas: how many objects of a kind a namespace may have, in the words of the real server.

Only objects are counted; a quota of CPU, memory or storage is refused, since nothing runs here.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from shared.domain.json_types import Json

from .builtins import PODS, QUOTAS
from .causes import Cause
from .errors import forbidden
from .objects import name_of, namespace_of, parsed_time
from .resources import Registry, Resource
from .store import Event, Record, Store
from .strategies import Strategy

GATHER_SECONDS = 0.02
"""From the change of an object to the status of its quota."""

_BY_NAME = ("configmaps", "persistentvolumeclaims", "pods", "resourcequotas", "secrets", "services")
"""What may be counted without `count/` before it."""


def check_quota(store: Store, resource: Resource, new: Json) -> None:
    """Raise the refusal of a new object of which a quota of its namespace allows no more."""
    for quota in store.collection(QUOTAS.key).ordered(namespace_of(new)):
        hard = quota.obj["spec"].get("hard") or {}
        counted = [name for name in _names(resource) if name in hard and _counts(name, new)]
        used = {name: _used(store, resource, name, namespace_of(new)) for name in counted}
        over = sorted(name for name in counted if used[name] + 1 > int(hard[name]))
        if over:
            parts = (
                ("requested", dict.fromkeys(over, 1)),
                ("used", used),
                ("limited", hard),
            )
            words = ", ".join(
                f"{word}: {','.join(f'{name}={values[name]}' for name in over)}" for word, values in parts
            )
            raise forbidden(resource, name_of(new), f"exceeded quota: {name_of(quota.obj)}, {words}")


def _names(resource: Resource) -> list[str]:
    """Return the names by which a quota counts a resource."""
    return [f"count/{resource.key}", *([resource.key] if resource.key in _BY_NAME else [])]


def _counts(name: str, obj: Json) -> bool:
    """Return whether an object counts: for `pods`, unlike `count/pods`, only one that has not ended."""
    if name != PODS.key:
        return True
    if (obj.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return False
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp"):
        return True
    grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    return datetime.now(UTC) <= parsed_time(metadata["deletionTimestamp"]) + grace


def _used(store: Store, resource: Resource, name: str, namespace: str) -> int:
    return sum(_counts(name, record.obj) for record in store.collection(resource.key).records(namespace))


class QuotaStrategy(Strategy):
    def prepare(self, new: Json, old: Json | None) -> Json:
        spec = new.get("spec") or {}
        hard = {name: str(value) for name, value in (spec.get("hard") or {}).items()}
        return {**new, "spec": {**spec, "hard": hard}, "status": (old or {}).get("status") or {}}

    def check(self, new: Json, old: Json | None) -> list[Cause]:  # noqa: ARG002
        causes: list[Cause] = []
        for name, value in new["spec"]["hard"].items():
            if name not in _BY_NAME and not name.startswith("count/"):
                text = "Forbidden: the sandbox's quotas count objects only: pods, count/pods, count/<resource>.<group>"
                causes.append(Cause(f"spec.hard[{name}]", "FieldValueForbidden", text))
            elif not value.isdecimal():
                text = f'Invalid value: "{value}": must be greater than or equal to 0'
                causes.append(Cause(f"spec.hard[{name}]", "FieldValueInvalid", text))
        for field in ("scopes", "scopeSelector"):
            if new["spec"].get(field):
                text = "Forbidden: the sandbox's quotas have no scopes"
                causes.append(Cause(f"spec.{field}", "FieldValueForbidden", text))
        return causes


class QuotaController:
    """Keeps the status of all quotas."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._timer: asyncio.TimerHandle | None = None
        self._listening: set[str] = set()
        store.listen(QUOTAS.key, self._quota_changed)

    def _quota_changed(self, event: Event) -> None:
        for name in event.record.obj["spec"].get("hard") or {}:
            key = name.removeprefix("count/")
            if key not in self._listening:
                self._listening.add(key)
                self._store.listen(key, self._changed)
        self._changed(event)

    def _changed(self, _event: Event) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._work)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _work(self) -> None:
        self._timer = None
        for record in self._store.collection(QUOTAS.key).ordered():
            status = self._status(record)
            if status != record.obj.get("status"):
                self._store.put(QUOTAS.key, {**record.obj, "status": status})

    def _status(self, record: Record) -> Json:
        hard: Json = record.obj["spec"]["hard"]
        used: Json = {}
        for name in hard:
            resource = self._registry.of_key(name.removeprefix("count/"))
            number = _used(self._store, resource, name, namespace_of(record.obj)) if resource else 0
            used[name] = str(number)
        return {"hard": hard, "used": used}
