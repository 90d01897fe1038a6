"""DeployFlows for the APIs, with the status that Redis has now, which is ahead of the resource's own.

Every replica reads the same. While Redis does not answer, the resource's `.status` is shown, a moment behind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from services.planner.api.problem import Kind, Problem
from services.planner.model.stored_state import load
from services.planner.runtime.flow_cache import DeployFlow, FlowCache, resource
from services.planner.views.status import status_of
from shared.domain.json_types import Json
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS, ApiError, Client
from shared.kube.reflector import milliseconds
from shared.releases.history import age
from shared.status_store import StatusStore

STATES_PER_READ = 200
"""States that are read from Redis in one request."""

REDIS_RETRY_SECONDS = 1.0
"""How long no request goes to Redis once it did not answer."""
_log = logging.getLogger(__name__)


class FlowFilter(NamedTuple):
    """Selects DeployFlows; an empty field does not restrict. `after`: last changed (else made) then or later."""

    namespace: str = ""
    instance: str = ""
    action: str = ""
    phase: str = ""
    after: datetime | None = None

    def matches(self, flow: Json) -> bool:
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
    """DeployFlows as they are now. Each has `apiVersion`, `kind`, `metadata`, `spec` and `status`, as in the cluster."""

    def __init__(self, store: StatusStore, flows: FlowCache, client: Client) -> None:
        self._store = store
        self._flows = flows
        self._client = client
        self._redis_retry_at = 0.0
        """The time of the next request to Redis (monotonic seconds); 0 while it answers."""

    async def flow(self, namespace: str, name: str) -> Json:
        """Return one by its name; raise `Problem` where there is none."""
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
        (shown,) = await self._all_with_status([found])
        return shown

    async def with_status(self, live: Json) -> Json:
        """Return a DeployFlow that was just read from the API server, with its status as it is now."""
        (shown,) = await self.with_statuses([live])
        return shown

    async def with_statuses(self, live: Sequence[Json]) -> list[Json]:
        """Return DeployFlows that were just read from the API server, with their statuses as they are now."""
        return await self._all_with_status([msgspec.convert(flow, DeployFlow) for flow in live])

    async def flows(self, wanted: FlowFilter) -> list[Json]:
        """Return those that match, newest first."""
        if wanted.namespace and wanted.instance:
            found: Iterable[DeployFlow] = self._flows.releases(Key(wanted.namespace, wanted.instance))
        else:
            found = self._flows.reflector.items.values()
        fitting = [flow for flow in found if flow.key.instance and _may_match(wanted, flow)]
        shown = [flow for flow in await self._all_with_status(fitting) if wanted.matches(flow)]
        shown.sort(key=age, reverse=True)
        return shown

    async def of_instance(self, key: Key, wanted: Callable[[DeployFlow], bool]) -> list[Json]:
        """Return those of an instance that `wanted` selects, in no order."""
        return await self._all_with_status([flow for flow in self._flows.releases(key) if wanted(flow)])

    async def _all_with_status(self, flows: Sequence[DeployFlow]) -> list[Json]:
        keys = list({flow.key for flow in flows if not flow.finished})
        statuses: dict[str, Json] = {}
        for start in range(0, len(keys), STATES_PER_READ):
            statuses |= await self._statuses(keys[start : start + STATES_PER_READ])
        return [_resource(flow, statuses.get(flow.metadata.uid)) for flow in flows]

    async def _statuses(self, keys: list[Key]) -> dict[str, Json]:
        """Return the statuses by the uid of their flow; none while Redis does not answer."""
        if time.monotonic() < self._redis_retry_at:
            return {}
        try:
            states = await self._store.states(keys)
        except Unavailable as error:
            if not self._redis_retry_at:
                _log.warning("showing .status, which may be a moment behind: %s", error)
            self._redis_retry_at = time.monotonic() + REDIS_RETRY_SECONDS
            return {}
        self._redis_retry_at = 0.0
        instances = [load(state) for state in states if state is not None]
        return {flow.uid: status_of(instance, flow) for instance in instances for flow in instance.flows}


def _may_match(wanted: FlowFilter, flow: DeployFlow) -> bool:
    return (
        wanted.namespace in {"", flow.metadata.namespace}
        and wanted.instance in {"", flow.key.instance}
        and wanted.action in {"", flow.spec.get("action")}
    )


def _resource(flow: DeployFlow, status: Json | None) -> Json:
    newer = status is not None and status["version"] >= flow.version
    return resource(flow, status if newer else None)
