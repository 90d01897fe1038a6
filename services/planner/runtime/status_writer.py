"""Writes `.status` from the planner's state: at once where a person waits for it, else at a limited rate.

A release that begins, stops, waits for somebody or ends is written at once. The phases in between follow each other
within a second: of them the latest is written every half second, and of many releases at once so many a second that
their status costs less than their pods.

Guarded by version: the write carries the resourceVersion of the object whose older version was read, so a
replica that has lost the instance never writes over a newer status. The finalizer, which keeps an unfinished
DeployFlow from vanishing, comes with the first status and goes after the last (`services.planner.runtime.finalizer`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from services.planner.model.state import Flow, Instance
from services.planner.runtime.flow_cache import DeployFlow, FlowCache
from services.planner.runtime.write_backoff import wait_after
from services.planner.views.bounded_status import bound_status
from services.planner.views.status import explain, status_of
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS, ApiError, Client
from shared.messaging.coalescing_queue import CoalescingQueue

GAP_SECONDS: Final = 0.5
"""Between two writes of one instance that nobody waits for."""
QUIET_SECONDS: Final = 1.0
"""Counts alone are written so often."""
IN_PASSING: Final = frozenset({"", "Warning", "BatchInterval", "Draining", "PodsRemain"})
"""Reasons that no person has to act on."""
_log = logging.getLogger(__name__)


class Written(NamedTuple):
    """The last write of a flow: its content in short, and when (monotonic seconds)."""

    fingerprint: object
    awaited: object
    at: float


NEVER: Final = Written(None, None, 0.0)


class Retry(NamedTuple):
    """The next attempt of an instance whose status was refused so often in a row."""

    refusals: int
    timer: asyncio.TimerHandle


class StatusWriter:
    """Writes the latest state of each instance that is marked.

    `finished` is called with each flow whose last status is written. `rate`: the writes a second of all flows together
    that nobody waits for.
    """

    def __init__(
        self, client: Client, flows: FlowCache, finished: Callable[[DeployFlow], None], *, rate: float
    ) -> None:
        self._client = client
        self._flows = flows
        self._finished = finished
        self._gap = 1 / rate
        self._next_write_at = 0.0
        """The time from which the next write may be made (monotonic seconds)."""
        self._latest: dict[Key, Instance] = {}
        self._marks = CoalescingQueue(self._work)
        self._written: dict[Key, dict[str, Written]] = {}
        """Keyed by the flow's uid."""
        self._hurry: dict[Key, asyncio.Event] = {}
        """The instances whose change waits: set when one comes that must not wait."""
        self._retries: dict[Key, Retry] = {}
        self._stopping = False

    def mark(self, instance: Instance) -> None:
        self._latest[instance.key] = instance
        self._marks.mark(instance.key)
        if (waiting := self._hurry.get(instance.key)) is not None and self._urgent(instance):
            waiting.set()

    async def stop(self) -> None:
        """Write all that is still unwritten."""
        self._stopping = True
        for retry in self._retries.values():
            retry.timer.cancel()
        for waiting in self._hurry.values():
            waiting.set()
        await self._marks.drain(3)

    async def _work(self, key: Key) -> None:
        if key in self._latest:
            await self._wait(key)
        instance = self._latest.pop(key, None)
        if instance is None:
            return
        known = self._written.get(key, {})
        self._written[key] = {flow.uid: known[flow.uid] for flow in instance.flows if flow.uid in known}
        if not instance.flows:
            del self._written[key]
        refused = False
        for flow in instance.flows:
            try:
                await self._flow(instance, flow)
            except (ApiError, Unavailable) as error:
                about = {"triton.deployflow": flow.name}
                if isinstance(error, ApiError) and not error.rights_missing:
                    _log.error("status of %s refused: %s", flow.name, error, extra=about)
                    refused = True
                    continue
                _log.warning("status of %s: %s", flow.name, error, extra=about)
                self._latest.setdefault(key, instance)
                self._marks.mark(key)
                await asyncio.sleep(1)
                # in their order: the end of a release is seen before the beginning of the next one
                break
        self._plan_retry(instance, refused=refused)

    def _plan_retry(self, instance: Instance, *, refused: bool) -> None:
        """Write an instance again later whose status was refused: its end would never be known otherwise."""
        known = self._retries.pop(instance.key, None)
        if known is not None:
            known.timer.cancel()
        if not refused or self._stopping:
            return
        refusals = known.refusals + 1 if known else 1
        timer = asyncio.get_running_loop().call_later(wait_after(refusals), self._retry, instance)
        self._retries[instance.key] = Retry(refusals, timer)

    def _retry(self, instance: Instance) -> None:
        self._latest.setdefault(instance.key, instance)
        self._marks.mark(instance.key)

    async def _wait(self, key: Key) -> None:
        """Wait until the latest state of the instance may be written."""
        hurry = self._hurry[key] = asyncio.Event()
        try:
            instance = self._latest[key]
            if self._stopping or self._urgent(instance):
                return
            now = time.monotonic()
            self._next_write_at = max(self._next_write_at + self._gap, now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(self._next_write_at, self._due(instance)) - now):
                    await hurry.wait()
        finally:
            del self._hurry[key]

    def _urgent(self, instance: Instance) -> bool:
        """Decide whether it has something unwritten that somebody waits for."""
        known = self._written.get(instance.key, {})
        return any(known.get(flow.uid, NEVER).awaited != _awaited(instance, flow) for flow in instance.flows)

    def _due(self, instance: Instance) -> float:
        """Return when the instance may be written again (monotonic seconds)."""
        known = self._written.get(instance.key, {})
        last = {flow.uid: known.get(flow.uid, NEVER) for flow in instance.flows}
        changed = [
            last[flow.uid].at
            for flow in instance.flows
            if last[flow.uid].fingerprint != _fingerprint(instance, flow)
        ]
        if changed:
            return min(changed) + GAP_SECONDS
        return last[instance.active.uid].at + QUIET_SECONDS if instance.active else 0.0

    async def _flow(self, instance: Instance, flow: Flow) -> None:
        item = self._flows.get(instance.namespace, flow.name)
        if item is None or item.metadata.uid != flow.uid:
            return
        fingerprint = _fingerprint(instance, flow)
        written = self._written[instance.key]
        if flow.phase.finished and written.get(flow.uid, NEVER).fingerprint == fingerprint:
            return
        item = await self._keep(item, flow)
        if item is None:
            return
        status = bound_status(status_of(instance, flow), item.size_without_status)
        if await self._status(item, instance, status):
            if flow.phase.finished:
                self._release(instance.namespace, flow)
            written[flow.uid] = Written(fingerprint, _awaited(instance, flow), time.monotonic())

    async def _keep(self, item: DeployFlow, flow: Flow) -> DeployFlow | None:
        """Set the finalizer and the labels, where they are missing."""
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
        adopt = not flow.phase.finished and not item.held and not meta.deletion_timestamp
        if not adopt and (not labels or flow.phase.finished):
            return item
        finalizers = [*meta.finalizers, df.FINALIZER] if adopt else meta.finalizers
        return await self._metadata(item, {"labels": labels, "finalizers": finalizers})

    def _release(self, namespace: str, flow: Flow) -> None:
        item = self._flows.get(namespace, flow.name)
        if item is not None and item.held:
            self._finished(item)

    async def _metadata(self, item: DeployFlow, metadata: Json) -> DeployFlow | None:
        body = {"metadata": {**metadata, "resourceVersion": item.metadata.resource_version}}
        return await self._patch(item, body, None)

    async def _status(self, item: DeployFlow, instance: Instance, status: Json) -> bool:
        for _ in range(5):
            if item.version >= instance.version:
                return True
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
        """Return the object as it is now; None when it is deleted."""
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
        """Return the changed object; None where somebody changed or deleted it meanwhile."""
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


def _fingerprint(instance: Instance, flow: Flow) -> object:
    """Return the part of a status that is written soon: everything but counts, pods and times."""
    reason, _ = explain(instance, flow)
    batches = tuple((b.number, b.size, b.phase, bool(b.finished_at)) for b in flow.batches)
    return (flow.phase, flow.paused and not flow.phase.finished, reason, flow.generation, batches)


def _awaited(instance: Instance, flow: Flow) -> object:
    """Return the part that people and other systems wait for: the end, and a wait for their approval."""
    stands = explain(instance, flow)
    return (flow.phase.finished, flow.failed, flow.generation, stands[0] not in IN_PASSING and stands)
