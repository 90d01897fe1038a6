"""What the APIs show: DeployFlows with the status that Redis has now, which is ahead of the resource's own.

Every replica reads the same. While Redis is away the resource's `.status` is shown, which is a moment behind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from services.planner.api.problem import Kind, Problem
from services.planner.model.state import load
from services.planner.runtime.flow_cache import DeployFlow, FlowCache, resource
from services.planner.views.status import status_of
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS, ApiError, Client
from shared.kube.reflector import milliseconds
from shared.releases.history import age
from shared.status_store import StatusStore

AT_ONCE = 200
"""States that are asked of Redis in one go."""

AWAY_SECONDS = 1.0
"""So long Redis is not asked again once it was away."""
_log = logging.getLogger(__name__)
Json = dict[str, Any]


class FlowFilter(NamedTuple):
    """Which DeployFlows; what is left empty does not restrict. `after`: last changed (else made) then or later."""

    namespace: str = ""
    instance: str = ""
    action: str = ""
    phase: str = ""
    after: datetime | None = None

    def has(self, flow: Json) -> bool:
        """Whether it is one of them."""
        spec, status = flow["spec"], flow["status"]
        changed = milliseconds(status.get("updatedAt") or flow["metadata"]["creationTimestamp"])
        return (
            self.namespace in {"", flow["metadata"]["namespace"]}
            and self.instance in {"", spec["application"]["instanceName"]}
            and self.action in {"", spec["action"]}
            and self.phase in {"", status.get("phase")}
            and (self.after is None or changed >= self.after.timestamp() * 1000)
        )


class FlowQueries:
    """DeployFlows as they are. A resource has `apiVersion`, `kind`, `metadata`, `spec` and `status`, as in the cluster."""

    def __init__(self, store: StatusStore, flows: FlowCache, client: Client) -> None:
        self._store = store
        self._flows = flows
        self._client = client
        self._ask_at = 0.0
        """When Redis is asked again (monotonic seconds), having been away."""

    async def flow(self, namespace: str, name: str) -> Json:
        """Raises `Problem` where there is none."""
        found = self._flows.get(namespace, name)
        if found is None:
            # another replica may have made it a moment ago
            try:
                found = msgspec.convert(await self._client.get(DEPLOYFLOWS, namespace, name), DeployFlow)
            except ApiError as error:
                if error.code != 404:
                    raise
                text = f"there is no DeployFlow {name} in namespace {namespace}"
                raise Problem(Kind.NOT_FOUND, "NotFound", text) from error
        (shown,) = await self._with_status([found])
        return shown

    async def of(self, made: Json) -> Json:
        """One that the API server has just told of."""
        (shown,) = await self._with_status([msgspec.convert(made, DeployFlow)])
        return shown

    async def flows(self, wanted: FlowFilter) -> list[Json]:
        """Newest first."""
        if wanted.namespace and wanted.instance:
            found: Iterable[DeployFlow] = self._flows.releases(Key(wanted.namespace, wanted.instance))
        else:
            found = self._flows.reflector.items.values()
        fitting = [flow for flow in found if flow.key.instance and _may_be(wanted, flow)]
        shown = [flow for flow in await self._with_status(fitting) if wanted.has(flow)]
        shown.sort(key=age, reverse=True)
        return shown

    async def of_instance(self, key: Key, wanted: Callable[[DeployFlow], bool]) -> list[Json]:
        """Those of an instance that are wanted, in no order."""
        return await self._with_status([flow for flow in self._flows.releases(key) if wanted(flow)])

    async def status(self, live: Json) -> Json:
        """The status as it is now of a DeployFlow that was just read."""
        status: Json = (await self.of(live))["status"]
        return status

    async def _with_status(self, flows: list[DeployFlow]) -> list[Json]:
        keys = list({flow.key for flow in flows if not flow.finished})
        told: dict[str, Json] = {}
        for start in range(0, len(keys), AT_ONCE):
            told |= await self._told(keys[start : start + AT_ONCE])
        return [_resource(flow, told.get(flow.metadata.uid)) for flow in flows]

    async def _told(self, keys: list[Key]) -> dict[str, Json]:
        """By the flow's uid."""
        if time.monotonic() < self._ask_at:
            return {}
        try:
            states = await self._store.states(keys)
        except Unavailable as error:
            if not self._ask_at:
                _log.warning("showing .status, which may be a moment behind: %s", error)
            self._ask_at = time.monotonic() + AWAY_SECONDS
            return {}
        self._ask_at = 0.0
        instances = [load(state) for state in states if state is not None]
        return {flow.uid: status_of(instance, flow) for instance in instances for flow in instance.flows}


def _may_be(wanted: FlowFilter, flow: DeployFlow) -> bool:
    return (
        wanted.namespace in {"", flow.metadata.namespace}
        and wanted.instance in {"", flow.key.instance}
        and wanted.action in {"", flow.spec.get("action")}
    )


def _resource(flow: DeployFlow, told: Json | None) -> Json:
    return resource(flow, told if told is not None and told["version"] >= flow.version else None)
