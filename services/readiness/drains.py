"""Asks pods that lost their traffic for the connections that they have left, until there are none.

A pod says so itself, at the HTTP path that an annotation of its template names. What came out is a condition of the
pod: it outlives this process, and whichever replica has the instance goes on from it.
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

from services.readiness.gates import CLOSED, condition_of, status_patch
from shared.domain.deployflow import READINESS_GATE
from shared.domain.graceful_exit import DRAINED, Drain, drain_of
from shared.domain.messages import Gate
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import PODS, STRATEGIC, ApiError, Client
from shared.kube.pods import Pod
from shared.kube.reflector import Reflector, milliseconds

EVERY_SECONDS: Final = 1.0
AT_ONCE: Final = 64
"""Pods asked at the same time; one that does not answer takes a place for `ANSWER_SECONDS`."""
ANSWER_SECONDS: Final = 1.0
LONGEST_ANSWER: Final = 64
"""Bytes: an answer is a number."""

_drained = Counter("triton_drained_pods_total", "Pods that were waited for until they may go", ["reason"])
_log = logging.getLogger(__name__)


class Turn(StrEnum):
    """What there is to do with a pod that drains; a reason is what its condition says at the end."""

    WAIT = "Wait"
    ASK = "Ask"
    NO_CONNECTIONS = "NoConnections"
    MAXIMUM_REACHED = "MaximumReached"


def drains(pod: Pod) -> bool:
    return pod.gate == Gate.CLOSED and not pod.drained and not pod.deleting


def turn(pod: Pod, drain: Drain, now: int) -> Turn:
    """`now` in milliseconds since 1970. Connections are asked for after the pull-out wait, which goes to the full
    second: what the gate's condition says of its time is cut to one.
    """
    gate = pod.condition(READINESS_GATE)
    closed = milliseconds(gate.last_transition_time) if gate is not None else now
    begins = closed + (pod.drain_after + 1) * 1000 if pod.drain_after else closed
    if now < begins:
        return Turn.WAIT
    if now >= begins + drain.max_seconds * 1000:
        return Turn.MAXIMUM_REACHED
    statuses = pod.status.container_statuses
    if not pod.status.pod_ip or all(c.state.waiting or c.state.terminated for c in statuses):
        # crash loops hold up nothing: who does not run has no connections
        return Turn.NO_CONNECTIONS
    return Turn.ASK


class Drains:
    """Asks the pods of this replica's instances; holds up nobody else's work."""

    def __init__(self, client: Client, pods: Reflector[Pod], owns: Callable[[Key], bool]) -> None:
        self._client = client
        self._pods = pods
        self._owns = owns
        self._draining: set[str] = set()
        """Their uids."""
        self._any = asyncio.Event()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._unknown: set[str] = set()
        """The uids of those of which the log says that they do not tell."""

    def changed(self, old: Pod | None, new: Pod | None) -> None:
        """A pod appeared (`old` is None), changed or is gone; it may be one that drains."""
        if new is None or not self._owns(new.key):
            return
        if drains(new):
            self._draining.add(new.metadata.uid)
            self._any.set()
        elif old is not None and old.gate == Gate.OPEN and new.gate == Gate.CLOSED:
            _warn_of_unreadable(new)

    def look_at_all(self) -> None:
        """Other instances are this replica's now."""
        for pod in self._pods.items.values():
            self.changed(None, pod)

    async def ask_forever(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=True)
        ) as session:
            while True:
                await self._any.wait()
                async with asyncio.TaskGroup() as group:
                    for uid in self._draining:
                        group.create_task(self._look(session, uid))
                if not self._draining:
                    self._any.clear()
                await asyncio.sleep(EVERY_SECONDS)

    async def _look(self, session: aiohttp.ClientSession, uid: str) -> None:
        pod = self._pods.items.get(uid)
        drain = pod.drain if pod is not None and drains(pod) and self._owns(pod.key) else None
        if pod is None or drain is None:
            self._draining.discard(uid)
            self._unknown.discard(uid)
            return
        now = datetime.now(UTC)
        found = turn(pod, drain, int(now.timestamp() * 1000))
        if found == Turn.ASK and await self._has_none(session, pod, drain):
            found = Turn.NO_CONNECTIONS
        if found in {Turn.NO_CONNECTIONS, Turn.MAXIMUM_REACHED}:
            await self._say(pod, found, now)

    async def _has_none(self, session: aiohttp.ClientSession, pod: Pod, drain: Drain) -> bool:
        url = URL.build(scheme="http", host=pod.status.pod_ip, port=drain.port)
        try:
            async with self._at_once, session.get(f"{url}{drain.path}", allow_redirects=False) as answer:
                text = (await answer.content.read(LONGEST_ANSWER)).strip()
                said = text.decode(errors="replace")
                if answer.status == 200 and text.isdigit():
                    return int(text) == 0
                why = f"it answered {answer.status} {said!r}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = f"it does not answer: {error or type(error).__name__}"
        if pod.metadata.uid not in self._unknown:
            self._unknown.add(pod.metadata.uid)
            _log.warning(
                "connections of pod %s are not known, %s (%s%s); it is asked again for at most %s s",
                pod.metadata.name,
                why,
                url,
                drain.path,
                drain.max_seconds,
                extra={"triton.key": str(pod.key)},
            )
        return False

    async def _say(self, pod: Pod, reason: Turn, now: datetime) -> None:
        """In a condition of this very pod as it was read; where that fails, the next look tries again."""
        message = "no connections are left"
        if reason == Turn.MAXIMUM_REACHED:
            message = "it was waited for as long as it may be"
        body = status_patch(pod, [condition_of(DRAINED, True, reason, message, now)])
        meta = pod.metadata
        try:
            written = await self._client.patch(
                PODS, meta.namespace, meta.name, body, subresource="status", content_type=STRATEGIC
            )
        except (ApiError, Unavailable) as error:
            if not isinstance(error, ApiError) or error.code not in {404, 409}:
                _log.warning("pod %s: %s", meta.name, error, extra={"triton.key": str(pod.key)})
            return
        self._pods.put(written)
        _drained.labels(reason).inc()
        level = logging.WARNING if reason == Turn.MAXIMUM_REACHED else logging.INFO
        _log.log(level, "pod %s may go: %s", meta.name, message, extra={"triton.key": str(pod.key)})


def _warn_of_unreadable(pod: Pod) -> None:
    """Pods that Triton's own templates make have annotations that can be read; those are tried first."""
    condition = pod.condition(READINESS_GATE)
    if condition is None or condition.reason != CLOSED:
        return
    try:
        drain_of(pod.metadata.annotations, pod.ports)
    except ValueError as error:
        _log.warning(
            "pod %s is not asked for its connections: %s",
            pod.metadata.name,
            error,
            extra={"triton.key": str(pod.key)},
        )
