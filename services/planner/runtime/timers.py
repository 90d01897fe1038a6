"""Deadlines and consistency checks: they advance a release when no message arrives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from prometheus_client import Histogram

from services.planner.runtime.flow_cache import FlowCache
from services.planner.runtime.instance_processor import InstanceProcessor
from shared.clock import now_milliseconds
from shared.domain.messages import Due
from shared.errors import Unavailable, Unpublishable
from shared.messaging.kafka import Kafka
from shared.service.health import Health
from shared.status_store import StatusStore

TICK_SECONDS: Final = 0.08
"""Deadlines are to fire within 100 ms."""
CHECK_SECONDS: Final = 3.0
"""How often the states in Redis are compared with the DeployFlows."""
_DEADLINES: Final = "deadlines"

_late = Histogram(
    "triton_deadline_lateness_seconds",
    "From a deadline to the message that it has passed",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
_log = logging.getLogger(__name__)


async def fire_forever(
    store: StatusStore, kafka: Kafka, health: Health, manages: Callable[[str], bool]
) -> None:
    """Publish `Due` for every instance whose deadline has passed; any replica does it.

    `manages`: whether this Triton acts in a namespace. Redis may have deadlines of others, from another setting.

    This is the most frequent call of Redis: while Redis does not answer it, the planner is not ready.
    """
    while True:
        try:
            passed = await store.fire(now_milliseconds())
            due = {key: deadline for key, deadline in passed.items() if manages(key.namespace)}
            if due:
                await kafka.publish([Due(namespace=key.namespace, instance=key.instance) for key in due])
                published = now_milliseconds()
                for deadline in due.values():
                    _late.observe(max(published - deadline, 0) / 1000)
            health.there(_DEADLINES)
        except Unpublishable as error:
            _log.error("deadlines: %s", error)
        except Unavailable as error:
            health.missing(_DEADLINES, str(error))
            _log.warning("deadlines: %s", error)
            await asyncio.sleep(1)
        await asyncio.sleep(TICK_SECONDS)


async def check_forever(store: StatusStore, instances: InstanceProcessor, flows: FlowCache) -> None:
    """Process the instances of this replica again whose state Redis has lost, or whose messages were not published."""
    while True:
        try:
            await instances.note_published()
            held = instances.versions()
            begun = {flow.key: max(flow.version, held.get(flow.key, 0)) for flow in flows.unfinished()}
            versions = await store.versions(list(begun))
            behind = [key for key, version in zip(begun, versions, strict=True) if version < begun[key]]
            pending = [key for key in await store.unpublished() if key not in held and flows.owns(key)]
            instances.doubt(behind)
            for key in {*behind, *pending}:
                _log.warning("processing again", extra={"triton.key": str(key)})
                flows.recheck(key)
        except Unavailable as error:
            _log.warning("consistency check: %s", error)
        await asyncio.sleep(CHECK_SECONDS)
