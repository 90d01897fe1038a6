"""Writes `.status` from the planner's state: at each change of phase, else once a second.

Guarded by version: the write carries the resourceVersion of the object whose older version was read, so a
replica that has lost the instance never writes over a newer status. The finalizer, which keeps an unfinished
DeployFlow from vanishing, comes with the first status and goes with the last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from services.planner.flows import DeployFlow, FlowCache
from services.planner.state import Flow, Instance
from services.planner.status import status_of
from shared import deployflow as df
from shared.errors import Unavailable
from shared.kubernetes import DEPLOYFLOWS, ApiError, Client
from shared.marks import Marks
from shared.topics import Key

GAP_SECONDS: Final = 0.1
"""Between two writes of one flow: phases that follow each other at once become one write."""
QUIET_SECONDS: Final = 1.0
"""Counts alone are written so often."""

_log = logging.getLogger(__name__)
Json = dict[str, Any]


class StatusWriter:
    """`mark` what changed; the latest of each instance is written."""

    def __init__(self, client: Client, flows: FlowCache) -> None:
        self._client = client
        self._flows = flows
        self._latest: dict[Key, Instance] = {}
        self._marks = Marks(self._work)
        self._written: dict[str, tuple[object, float]] = {}

    def mark(self, instance: Instance) -> None:
        self._latest[instance.key] = instance
        self._marks.mark(instance.key)

    async def stop(self) -> None:
        """Write what is still to be written."""
        await self._marks.drain(3)

    async def _work(self, key: Key) -> None:
        instance = self._latest.pop(key, None)
        if instance is None:
            return
        for flow in instance.flows:
            try:
                await self._flow(instance, flow)
            except Unavailable as error:
                _log.warning("status of %s: %s", flow.name, error, extra={"triton.deployflow": flow.name})
                self._latest.setdefault(key, instance)
                self._marks.mark(key)
                await asyncio.sleep(1)
            except ApiError as error:
                _log.error(
                    "status of %s refused: %s", flow.name, error, extra={"triton.deployflow": flow.name}
                )
        if (next_one := self._latest.get(key)) is not None:
            await asyncio.sleep(self._wait(next_one))

    def _wait(self, instance: Instance) -> float:
        """How long the changes of an instance may wait for others to come."""
        for flow in instance.flows:
            gist, at = self._written.get(flow.uid, (None, 0.0))
            if gist != _gist(instance, flow):
                return GAP_SECONDS
            if time.monotonic() - at >= QUIET_SECONDS:
                return 0.0
        return QUIET_SECONDS

    async def _flow(self, instance: Instance, flow: Flow) -> None:
        item = self._flows.get(instance.namespace, flow.name)
        if item is None or item.metadata.uid != flow.uid:
            return
        gist = _gist(instance, flow)
        if self._written.get(flow.uid, (None, 0.0))[0] == gist and flow.phase.finished:
            return
        item = await self._keep(item, flow)
        if item is not None and await self._status(item, instance, flow):
            self._written[flow.uid] = (gist, time.monotonic())
            if flow.phase.finished:
                await self._release(instance.namespace, flow)
                self._written.pop(flow.uid, None)

    async def _keep(self, item: DeployFlow, flow: Flow) -> DeployFlow | None:
        """The finalizer and the labels, where they are missing."""
        meta = item.metadata
        wanted = {
            "app": str(flow.app_id),
            "group": str(flow.group_id),
            "app.kubernetes.io/name": flow.app_name,
            df.INSTANCE_LABEL: item.key.instance,
            **df.MANAGED_BY,
        }
        labels = {name: value for name, value in wanted.items() if meta.labels.get(name) != value}
        if flow.reason == "InvalidSpec":
            labels = {}
        adopt = (
            df.FINALIZER not in meta.finalizers and not flow.phase.finished and not meta.deletion_timestamp
        )
        if not adopt and (not labels or flow.phase.finished):
            return item
        finalizers = [*meta.finalizers, df.FINALIZER] if adopt else meta.finalizers
        return await self._metadata(item, {"labels": labels, "finalizers": finalizers})

    async def _release(self, namespace: str, flow: Flow) -> None:
        item = self._flows.get(namespace, flow.name)
        if item is not None and df.FINALIZER in item.metadata.finalizers:
            finalizers = [name for name in item.metadata.finalizers if name != df.FINALIZER]
            await self._metadata(item, {"finalizers": finalizers})

    async def _metadata(self, item: DeployFlow, metadata: Json) -> DeployFlow | None:
        body = {"metadata": {**metadata, "resourceVersion": item.metadata.resource_version}}
        return await self._patch(item, body, None)

    async def _status(self, item: DeployFlow, instance: Instance, flow: Flow) -> bool:
        for _ in range(5):
            if item.version >= instance.version:
                return True
            status = status_of(instance, flow)
            body = {"metadata": {"resourceVersion": item.metadata.resource_version}, "status": status}
            written = await self._patch(item, body, "status")
            if written is not None:
                return True
            again = await self._fresh(item)
            if again is None:
                return False
            item = again
        msg = "its DeployFlow keeps changing"
        raise Unavailable(msg)

    async def _fresh(self, item: DeployFlow) -> DeployFlow | None:
        """The object as it is now; None when it is gone."""
        meta = item.metadata
        try:
            self._flows.reflector.put(await self._client.get(DEPLOYFLOWS, meta.namespace, meta.name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        now = self._flows.get(meta.namespace, meta.name)
        return now if now is not None and now.metadata.uid == meta.uid else None

    async def _patch(self, item: DeployFlow, body: Json, subresource: str | None) -> DeployFlow | None:
        """None: somebody changed or removed the object meanwhile."""
        meta = item.metadata
        try:
            answer = await self._client.patch(
                DEPLOYFLOWS, meta.namespace, meta.name, body, subresource=subresource
            )
        except ApiError as error:
            if error.code in {404, 409}:
                return await self._fresh(item) if error.code == 409 and subresource is None else None
            raise
        self._flows.reflector.put(answer)
        return self._flows.get(meta.namespace, meta.name)


def _gist(instance: Instance, flow: Flow) -> object:
    """What makes a status worth writing at once: everything but counts, pods and times."""
    status = status_of(instance, flow)
    phases = tuple(
        (c["batch"], c["batchSize"], c["phase"], c["finishedAt"] is None) for c in status["conditions"]
    )
    return (status["phase"], status["paused"], status["reason"], status["observedGeneration"], phases)
