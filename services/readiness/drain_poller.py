"""Polls pods that were pulled out for their remaining connections, until there are none.

A pod reports them itself, at the HTTP path that an annotation of its template names. The result is a condition of the
pod: it survives this process, and whichever replica owns the instance next continues from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import aiohttp
from prometheus_client import Counter
from yarl import URL

from services.readiness.gate_decisions import CLOSED, condition_of, status_patch
from shared.domain.deployflow import READINESS_GATE
from shared.domain.graceful_exit import DRAINED, Drain, drain_of
from shared.domain.messages import Gate
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import PODS, STRATEGIC, ApiError, Client
from shared.kube.pods import Pod
from shared.kube.reflector import Reflector, milliseconds

POLL_SECONDS: Final = 1.0
CONCURRENT_REQUESTS: Final = 64
"""Pods polled at the same time; one that does not answer takes a place for `ANSWER_SECONDS`."""
ANSWER_SECONDS: Final = 1.0
LONGEST_ANSWER: Final = 64
"""Bytes: an answer is a number."""

_drained = Counter("triton_drained_pods_total", "Pods that were waited for until they may go", ["reason"])
_log = logging.getLogger(__name__)


class DrainStep(StrEnum):
    """The next step for a draining pod; the last two are also the reasons of its condition."""

    WAIT = "Wait"
    POLL = "Poll"
    NO_CONNECTIONS = "NoConnections"
    MAXIMUM_REACHED = "MaximumReached"


def is_draining(pod: Pod) -> bool:
    return pod.gate == Gate.CLOSED and not pod.drained and not pod.deleting


def drain_step(pod: Pod, drain: Drain, now: int) -> DrainStep:
    """Decide the next step; `now` in milliseconds since 1970.

    Polling begins after the pull-out wait. One second is added to it, because the gate's condition truncates its time
    to seconds.
    """
    gate = pod.condition(READINESS_GATE)
    closed = milliseconds(gate.last_transition_time) if gate is not None else now
    begins = closed + (pod.drain_after + 1) * 1000 if pod.drain_after else closed
    if now < begins:
        return DrainStep.WAIT
    if now >= begins + drain.max_seconds * 1000:
        return DrainStep.MAXIMUM_REACHED
    statuses = pod.status.container_statuses
    if not pod.status.pod_ip or all(c.state.waiting or c.state.terminated for c in statuses):
        # a pod that does not run has no connections: a crash loop must not delay the release
        return DrainStep.NO_CONNECTIONS
    return DrainStep.POLL


class DrainPoller:
    """Polls the pods of this replica's instances, beside all other work."""

    def __init__(self, client: Client, pods: Reflector[Pod], owns: Callable[[Key], bool]) -> None:
        self._client = client
        self._pods = pods
        self._owns = owns
        self._draining: set[str] = set()
        """Uids of the pods to poll."""
        self._has_draining = asyncio.Event()
        self._concurrency = asyncio.Semaphore(CONCURRENT_REQUESTS)
        self._warned: set[str] = set()
        """Uids of the pods with a logged warning that they give no usable answer."""

    def changed(self, old: Pod | None, new: Pod | None) -> None:
        """Note that a pod appeared (`old` is None), changed or was deleted, and poll it if it drains."""
        if new is None or not self._owns(new.key):
            return
        if is_draining(new):
            self._draining.add(new.metadata.uid)
            self._has_draining.set()
        elif old is not None and old.gate == Gate.OPEN and new.gate == Gate.CLOSED:
            _warn_of_unreadable(new)

    def check_all(self) -> None:
        """Check every pod, after a rebalance."""
        for pod in self._pods.items.values():
            self.changed(None, pod)

    async def poll_forever(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=True)
        ) as session:
            while True:
                await self._has_draining.wait()
                async with asyncio.TaskGroup() as group:
                    for uid in self._draining:
                        group.create_task(self._poll(session, uid))
                if not self._draining:
                    self._has_draining.clear()
                await asyncio.sleep(POLL_SECONDS)

    async def _poll(self, session: aiohttp.ClientSession, uid: str) -> None:
        pod = self._pods.items.get(uid)
        drain = pod.drain if pod is not None and is_draining(pod) and self._owns(pod.key) else None
        if pod is None or drain is None:
            self._draining.discard(uid)
            self._warned.discard(uid)
            return
        now = datetime.now(UTC)
        step = drain_step(pod, drain, int(now.timestamp() * 1000))
        if step == DrainStep.POLL and await self._has_no_connections(session, pod, drain):
            step = DrainStep.NO_CONNECTIONS
        if step in {DrainStep.NO_CONNECTIONS, DrainStep.MAXIMUM_REACHED}:
            await self._write_condition(pod, step, now)

    async def _has_no_connections(self, session: aiohttp.ClientSession, pod: Pod, drain: Drain) -> bool:
        url: object = pod.status.pod_ip
        try:
            url = URL.build(scheme="http", host=pod.status.pod_ip, port=drain.port)
            async with self._concurrency, session.get(f"{url}{drain.path}", allow_redirects=False) as answer:
                text = (await answer.content.read(LONGEST_ANSWER)).strip()
                answered = text.decode(errors="replace")
                if answer.status == 200 and text.isdigit():
                    return int(text) == 0
                problem = f"it answered {answer.status} {answered!r}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = f"it does not answer: {error or type(error).__name__}"
        if pod.metadata.uid not in self._warned:
            self._warned.add(pod.metadata.uid)
            _log.warning(
                "connections of pod %s are not known, %s (%s%s); it is polled for at most %s s",
                pod.metadata.name,
                problem,
                url,
                drain.path,
                drain.max_seconds,
                extra={"triton.key": str(pod.key)},
            )
        return False

    async def _write_condition(self, pod: Pod, reason: DrainStep, now: datetime) -> None:
        """Write the result into a condition of the pod as it was read; the next poll repeats a write that failed."""
        message = "no connections are left"
        if reason == DrainStep.MAXIMUM_REACHED:
            message = "the maximum drain time has passed"
        body = status_patch(pod, [condition_of(DRAINED, True, reason, message, now)])
        meta = pod.metadata
        try:
            written = await self._client.patch(
                PODS, meta.namespace, meta.name, body, subresource="status", content_type=STRATEGIC
            )
        except (ApiError, Unavailable) as error:
            if not isinstance(error, ApiError) or error.code not in {404, 409}:
                _log.warning(
                    "could not write that pod %s has drained: %s",
                    meta.name,
                    error,
                    extra={"triton.key": str(pod.key)},
                )
            return
        self._pods.put(written)
        _drained.labels(reason).inc()
        level = logging.WARNING if reason == DrainStep.MAXIMUM_REACHED else logging.INFO
        _log.log(
            level, "pod %s has finished draining: %s", meta.name, message, extra={"triton.key": str(pod.key)}
        )


def _warn_of_unreadable(pod: Pod) -> None:
    """Log why a pod that was pulled out is not polled: only pods of foreign templates have unreadable annotations."""
    condition = pod.condition(READINESS_GATE)
    if condition is None or condition.reason != CLOSED:
        return
    try:
        drain_of(pod.metadata.annotations, pod.ports)
    except ValueError as error:
        _log.warning(
            "pod %s is not polled for its connections: %s",
            pod.metadata.name,
            error,
            extra={"triton.key": str(pod.key)},
        )
