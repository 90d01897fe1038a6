"""Writes Events of Kubernetes about DeployFlows, in the background: no release waits for one, or fails without it.

An event that is published again, as by a replica that takes over, has the same name, and the API server answers that it
exists. Events that wait are lost with the process: the release log, not they, is the record of a release.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter as Tally
from collections import deque
from typing import Final, NamedTuple

from prometheus_client import Counter

from services.planner.runtime.write_backoff import wait_after
from services.planner.views.kubernetes_events import SHOWN, Shown, Weight, event_of
from shared.domain.messages import FlowEvent
from shared.errors import Unavailable
from shared.kube.client import EVENTS, ApiError, Client, RateLimit

STEP_SECONDS: Final = 10.0
"""How long a step waits for the next event of its release, which makes it needless."""
MOST_WAITING: Final = 1_000
PER_SECOND: Final = 20
"""Events of all releases together; the rest waits."""
ATTEMPTS: Final = 6
"""With waits of half a minute between them, in all."""
SUSPENDED_SECONDS: Final = 60.0
"""How long nothing is written after the API server has said that the account may not."""
STOP_SECONDS: Final = 2.0
_written = Counter(
    "triton_kubernetes_events_total", "Events of Kubernetes about DeployFlows, by their result", ["result"]
)
for _result in ("written", "dropped"):
    _written.labels(_result)
_log = logging.getLogger(__name__)


class _Step(NamedTuple):
    """A step that is not written yet, and when it is (monotonic seconds)."""

    due: float
    event: FlowEvent


class EventRecorder:
    """Takes what is published about releases (`note`), and writes it one by one (`run`)."""

    def __init__(self, client: Client, *, step_seconds: float = STEP_SECONDS) -> None:
        self._client = client
        self._step_seconds = step_seconds
        self._limit = RateLimit(PER_SECOND)
        self._queue: deque[tuple[FlowEvent, Shown]] = deque()
        self._steps: dict[str, _Step] = {}
        """The newest step of each release, by the uid of its DeployFlow."""
        self._wake = asyncio.Event()
        self._suspended_until = 0.0

    def note(self, event: FlowEvent) -> None:
        shown = SHOWN.get(event.reason)
        if shown is None:
            return
        step = self._steps.pop(event.flow.uid, None)
        match shown.weight:
            case Weight.STEP:
                due = step.due if step else time.monotonic() + self._step_seconds
                self._steps[event.flow.uid] = _Step(due, event)
            case Weight.NOW:
                if step:
                    self._put(step.event)
                self._put(event)
            case Weight.END:
                self._put(event)
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wait()
            await self._write_all()

    async def stop(self) -> None:
        """Write what waits, for a moment; the last steps of releases too."""
        for uid in list(self._steps):
            self._put(self._steps.pop(uid).event)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._write_all()
        except TimeoutError:
            _written.labels("dropped").inc(len(self._queue))

    def _put(self, event: FlowEvent) -> None:
        if len(self._queue) >= MOST_WAITING:
            self._drop_one()
        self._queue.append((event, SHOWN[event.reason]))

    def _drop_one(self) -> None:
        """Drop the oldest of the release that has most waiting: one that changes all the time takes none from others."""
        waiting = [event.flow.uid for event, _ in self._queue]
        ((uid, _),) = Tally(waiting).most_common(1)
        del self._queue[waiting.index(uid)]
        _written.labels("dropped").inc()

    async def _wait(self) -> None:
        """Wait until there is something to write."""
        while not self._queue:
            now = time.monotonic()
            for uid in [uid for uid, step in self._steps.items() if step.due <= now]:
                self._put(self._steps.pop(uid).event)
            if self._queue:
                return
            first = min((step.due for step in self._steps.values()), default=None)
            self._wake.clear()
            try:
                async with asyncio.timeout(None if first is None else first - now):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _write_all(self) -> None:
        while self._queue:
            event, shown = self._queue.popleft()
            written = time.monotonic() >= self._suspended_until and await self._write(event, shown)
            _written.labels("written" if written else "dropped").inc()

    async def _write(self, event: FlowEvent, shown: Shown) -> bool:
        """Return whether the Event exists."""
        about = {"triton.deployflow": event.flow.name}
        for attempt in range(1, ATTEMPTS + 1):
            await self._limit.wait()
            try:
                await self._client.create(EVENTS, event.namespace, event_of(event, shown))
            except Unavailable as error:
                if attempt == ATTEMPTS:
                    _log.warning("Event about %s: %s", event.flow.name, error, extra=about)
                    return False
                await asyncio.sleep(wait_after(attempt))
            except ApiError as error:
                if error.code == 409:
                    return True
                if error.rights_missing:
                    self._suspended_until = time.monotonic() + SUSPENDED_SECONDS
                    _log.warning("no Events about DeployFlows: %s", error.waited_for("planner"))
                elif error.code not in {403, 404}:
                    _log.warning("Event about %s refused: %s", event.flow.name, error, extra=about)
                # a namespace that is being deleted takes none
                return False
            else:
                return True
        return False
