"""Deletes the finished releases of this replica's instances beyond their history limit (`rules.history_limit`).

One whose finalizer is still there waits: whoever requested it gets its final reply first.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from prometheus_client import Counter

from services.planner.rules.history_limit import find_surplus
from services.planner.runtime.flow_cache import DeployFlow, FlowCache, resource
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS, ApiError, Client

CHECK_SECONDS: Final = 3.0
MOST_DELETIONS: Final = 100
"""Of one check: a history that has grown for long takes no requests from the releases that run."""
_pruned = Counter("triton_deployflows_pruned_total", "Finished DeployFlows deleted beyond the history limit")
_log = logging.getLogger(__name__)


class HistoryPruner:
    """Checks all instances of this replica's partitions. `limit`: that of instances that set none."""

    def __init__(self, client: Client, flows: FlowCache, limit: int) -> None:
        self._client = client
        self._flows = flows
        self._limit = limit

    async def check_forever(self) -> None:
        while True:
            await self.check()
            await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        for flow in self._surplus()[:MOST_DELETIONS]:
            try:
                await self._delete(flow)
            except (ApiError, Unavailable) as error:
                name = flow.metadata.name
                _log.warning("could not prune %s: %s", name, error, extra={"triton.deployflow": name})

    def _surplus(self) -> list[DeployFlow]:
        found: list[DeployFlow] = []
        for releases in self._flows.owned_histories():
            by_uid = {flow.metadata.uid: flow for flow in releases}
            surplus = find_surplus([resource(flow) for flow in releases], self._limit)
            found += [by_uid[flow["metadata"]["uid"]] for flow in surplus]
        return [flow for flow in found if not flow.held and flow.metadata.deletion_timestamp is None]

    async def _delete(self, flow: DeployFlow) -> None:
        """Delete it as it is known: where somebody has changed or deleted it, the next check decides again."""
        meta = flow.metadata
        body = {"preconditions": {"uid": meta.uid, "resourceVersion": meta.resource_version}}
        try:
            await self._client.delete(DEPLOYFLOWS, meta.namespace, meta.name, body)
        except ApiError as error:
            if error.code not in {404, 409}:
                raise
            return
        _pruned.inc()
        _log.info("pruned %s", meta.name, extra={"triton.deployflow": meta.name, "triton.key": str(flow.key)})
