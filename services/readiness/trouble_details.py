"""Reads the last warning event and the last log lines of pods in trouble.

Both need requests of their own and appear a little later than the trouble. So they are read in the background, for a
few pods of each revision, several times at growing intervals; facts and gates never wait for them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from services.readiness.pod_facts import FAILED_WAITING, NO_DETAIL, Detail, has_failed
from shared.clock import now_milliseconds
from shared.domain.json_types import Json
from shared.domain.messages import ContainerLog, FlowRef, Gate
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import EVENTS, ApiError, Client
from shared.kube.objects import ObjectDecoder
from shared.kube.pods import ContainerStatus, Pod
from shared.messaging.coalescing_queue import CoalescingQueue

PODS_OF_A_REVISION: Final = 5
"""The number of pods that the message of a failed batch lists."""
FIRST_CHECK_SECONDS: Final = 5.0
"""The time until the first check of a pod that is in trouble but has not failed."""
RECHECK_SECONDS: Final = 1.0
"""The time until the second check, for what the kubelet writes after the status; tripled for each later one."""
CHECKS: Final = 6
CONCURRENT_CHECKS: Final = 4
"""Pods checked at the same time: leaves the gates their share of the client's rate."""
ANSWER_SECONDS: Final = 3.0
"""For one answer: the API server itself waits much longer for a kubelet that is away."""
LINES: Final = 30
READ_BYTES: Final = 60_000
"""The API server counts from the first of these lines: a low limit would cut off the last ones."""
LOG_BYTES: Final = 8_000
STATUS_LINES: Final = 5
STATUS_BYTES: Final = 500
"""The size of its excerpt in `.status` and in the facts about pods."""
EVENT_BYTES: Final = 400

_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_log = logging.getLogger(__name__)


def is_in_trouble(pod: Pod) -> bool:
    """Decide whether a pod has failed, has not started yet, or takes no traffic although its gate is open."""
    return has_failed(pod) or not pod.containers_ready or (pod.gate == Gate.OPEN and not pod.ready)


class Run(NamedTuple):
    """A run of a container: the current one, or the `previous` one, before its last start."""

    container: str
    previous: bool
    restarts: int

    @property
    def query(self) -> dict[str, str]:
        """Return the API server's parameters for the end of its log."""
        query = {"container": self.container, "tailLines": str(LINES), "limitBytes": str(READ_BYTES)}
        return query | ({"previous": "true"} if self.previous else {})


def run_of(pod: Pod) -> Run | None:
    """Return the run that shows the cause: the previous one of a container that waits to start. None if none ran."""
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    container = next((c for c in statuses if _fails_to_start(c)), None)
    if container is None:
        container = next((c for c in pod.status.container_statuses if not c.ready), None)
    if container is None:
        return None
    previous = container.state.waiting is not None
    if previous and not container.restart_count:
        return None
    return Run(container.name, previous, container.restart_count)


def runs_of(pod: Pod) -> list[Run]:
    """Return the runs whose logs are published: of a failed pod the current and the previous one of each container."""
    if not has_failed(pod):
        first = run_of(pod)
        return [first] if first else []
    runs: list[Run] = []
    for container in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        name, restarts = container.name, container.restart_count
        if restarts:
            runs.append(Run(name, True, restarts))
        if container.state.waiting is None:
            runs.append(Run(name, False, restarts))
    return runs


def _fails_to_start(container: ContainerStatus) -> bool:
    return container.state.waiting is not None and container.state.waiting.reason in FAILED_WAITING


def last_lines(text: str, lines: int = STATUS_LINES, size: int = STATUS_BYTES) -> str:
    """Return the end of a log as plain text, at most `lines` and `size` bytes."""
    printable = "".join(c for c in _COLOUR.sub("", text) if c.isprintable() or c in "\n\t").strip()
    last = "\n".join(printable.splitlines()[-lines:])
    return last.encode()[-size:].decode(errors="ignore")


def newest_event(events: Iterable[Json]) -> str:
    """Return the latest event, as `BackOff: Back-off restarting failed container`; empty when there is none."""
    last = max(events, key=_seen_at, default=None)
    if last is None:
        return ""
    text = f"{last.get('reason', '')}: {' '.join(str(last.get('message') or '').split())}"
    return text.encode()[:EVENT_BYTES].decode(errors="ignore")


def _seen_at(event: Json) -> str:
    """Return the event's time as text: times of one event have the same format, so they sort as texts."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max(str(time or "") for time in times)


@dataclass
class _TroubledPod:
    """A pod in trouble. `due`: its next check, by the loop's clock. `signs`: failed, restarts; a change is checked."""

    due: float
    signs: tuple[bool, int]
    checks: int = 0
    detail: Detail = NO_DETAIL
    logs: set[str] = field(default_factory=set)
    """Ids of the published logs."""


class TroubleDetails:
    """Knows the details of the pods in trouble, and has a pod published again when they change.

    `pod_of` returns the last observed pod with that uid.
    """

    def __init__(
        self,
        client: Client,
        pod_of: Callable[[str], Pod | None],
        owns: Callable[[Key], bool],
        republish: Callable[[Pod], None],
        publish: Callable[[ContainerLog], None],
        release: Callable[[Pod], FlowRef | None],
    ) -> None:
        self._client = client
        self._events: ObjectDecoder[Json] = ObjectDecoder(EVENTS, dict)
        self._pod_of = pod_of
        self._owns = owns
        self._republish = republish
        self._publish = publish
        self._release = release
        self._troubled: dict[Key, dict[str, _TroubledPod]] = defaultdict(dict)
        self._timers: dict[Key, tuple[float, asyncio.Handle]] = {}
        """The time of the next check of an instance, beside its timer: not all of uvloop's handles have it."""
        self._checks = CoalescingQueue(self._check)
        self._limit = asyncio.Semaphore(CONCURRENT_CHECKS)
        self._warned: set[tuple[Key, str]] = set()

    def find(self, pod: Pod) -> Detail:
        trouble = self._troubled.get(pod.key, {}).get(pod.metadata.uid)
        return trouble.detail if trouble else NO_DETAIL

    def changed(self, old: Pod | None, new: Pod | None) -> None:
        """Note that a pod appeared (`old` is None), changed or was deleted (`new` is None)."""
        now = asyncio.get_running_loop().time()
        if old is not None and new is not None and old.key != new.key:
            self._forget(old.key, old.metadata.uid, now)
        pod = new or old
        if pod is None or not pod.key.instance:
            return
        key, uid = pod.key, pod.metadata.uid
        if new is None or not is_in_trouble(new) or not self._owns(key):
            self._forget(key, uid, now)
            return
        signs = (has_failed(new), sum(c.restart_count for c in new.status.container_statuses))
        trouble = self._troubled[key].get(uid)
        if trouble is None:
            trouble = _TroubledPod(now if signs[0] else now + FIRST_CHECK_SECONDS, signs)
            self._troubled[key][uid] = trouble
        elif signs == trouble.signs:
            return
        elif signs[0]:
            trouble.due, trouble.checks = now, min(trouble.checks, CHECKS - 1)
        trouble.signs = signs
        self._wake(key, trouble.due)

    def _forget(self, key: Key, uid: str, now: float) -> None:
        troubled = self._troubled.get(key, {})
        trouble = troubled.pop(uid, None)
        if trouble is not None and not troubled:
            del self._troubled[key]
        elif trouble is not None and trouble.checks:
            # another pod takes its place among the few
            self._wake(key, now + RECHECK_SECONDS)

    def _wake(self, key: Key, at: float) -> None:
        """Check the instance at `at`, if no earlier check is due."""
        if key in self._timers:
            due, timer = self._timers[key]
            if due <= at:
                return
            timer.cancel()
        self._timers[key] = at, asyncio.get_running_loop().call_at(at, self._mark, key)

    def _mark(self, key: Key) -> None:
        del self._timers[key]
        self._checks.mark(key)

    async def _check(self, key: Key) -> None:
        if not self._owns(key):
            self._troubled.pop(key, None)
            return
        loop = asyncio.get_running_loop()
        chosen = self._chosen(key)
        due = [(pod, trouble) for pod, trouble in chosen if trouble.due <= loop.time()]
        await asyncio.gather(*(self._check_pod(key, pod, trouble) for pod, trouble in due))
        recheck = [trouble.due for _, trouble in chosen if trouble.checks < CHECKS]
        if recheck:
            self._wake(key, min(recheck))

    def _chosen(self, key: Key) -> list[tuple[Pod, _TroubledPod]]:
        """Choose a few pods of each revision to check: failed ones first, then those checked before."""
        found: dict[str, list[tuple[Pod, _TroubledPod]]] = defaultdict(list)
        for uid, trouble in self._troubled.get(key, {}).items():
            pod = self._pod_of(uid)
            if pod is not None and not pod.deleting:
                found[pod.revision].append((pod, trouble))
        for of_revision in found.values():
            of_revision.sort(key=lambda one: (not one[1].signs[0], not one[1].checks))
        few = [one for of_revision in found.values() for one in of_revision[:PODS_OF_A_REVISION]]
        return [(pod, trouble) for pod, trouble in few if trouble.checks < CHECKS]

    async def _check_pod(self, key: Key, pod: Pod, trouble: _TroubledPod) -> None:
        trouble.due = asyncio.get_running_loop().time() + RECHECK_SECONDS * 3**trouble.checks
        trouble.checks += 1
        async with self._limit:
            event = await self._read(key, "events", self._event(pod))
            log = ""
            for run in runs_of(pod):
                text = await self._read(key, "log", self._log_of(pod, run))
                self._publish_log(pod, trouble, run, last_lines(text, LINES, LOG_BYTES))
                if run == run_of(pod):
                    log = last_lines(text)
        detail = Detail(event or trouble.detail.event, log or trouble.detail.log)
        live = self._pod_of(pod.metadata.uid)
        if detail != trouble.detail and live is not None:
            trouble.detail = detail
            self._republish(live)

    async def _event(self, pod: Pod) -> str:
        meta = pod.metadata
        query = {"fieldSelector": f"involvedObject.uid={meta.uid},type=Warning"}
        found = self._events.page(await self._client.list_page(EVENTS, meta.namespace, query))
        return newest_event(found.items)

    async def _log_of(self, pod: Pod, run: Run) -> str:
        return await self._client.log(pod.metadata.namespace, pod.metadata.name, run.query)

    def _publish_log(self, pod: Pod, trouble: _TroubledPod, run: Run, text: str) -> None:
        which = "previous" if run.previous else "current"
        log_id = f"{pod.metadata.uid}:log:{run.container}:{which}:{sha256(text.encode()).hexdigest()[:16]}"
        if not text or log_id in trouble.logs:
            return
        trouble.logs.add(log_id)
        self._publish(
            ContainerLog(
                namespace=pod.key.namespace,
                instance=pod.key.instance,
                id=log_id,
                at=now_milliseconds(),
                kind="Pod",
                name=pod.metadata.name,
                uid=pod.metadata.uid,
                flow=self._release(pod),
                app=pod.app,
                container=run.container,
                previous=run.previous,
                restarts=run.restarts,
                text=text,
            )
        )

    async def _read(self, key: Key, what: str, answer: Awaitable[str]) -> str:
        """Return the answer; empty if it fails, which is logged once for each instance."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except (ApiError, Unavailable, TimeoutError) as error:
            problem: Exception = error
            if isinstance(error, ApiError):
                if error.code in {400, 404}:  # no such run of the container any more, or no such pod
                    return ""
                if error.rights_missing:
                    problem = error.waited_for("readiness")
            if (key, what) not in self._warned:
                self._warned.add((key, what))
                _log.warning(
                    "failures of %s are reported without the %s of their pods: %s",
                    key,
                    what,
                    str(problem) or f"no answer within {ANSWER_SECONDS:g} s",
                    extra={"triton.key": str(key)},
                )
            return ""
