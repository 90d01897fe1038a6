"""What the cluster says of a pod in trouble beside its status: its last warning event, the last lines of its log.

Both cost requests that its status does not, and come a little later than the trouble. So they are asked for in
the background, for a few pods of each revision, some times at growing intervals; facts and gates never wait.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple

from services.readiness.facts import FAILED_WAITING, UNASSIGNED, Detail, failed
from shared.clock import now_milliseconds
from shared.domain.messages import ContainerLog, FlowRef, Gate
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import EVENTS, ApiError, Client
from shared.kube.pods import ContainerStatus, Pod
from shared.messaging.coalescing_queue import CoalescingQueue

Json = dict[str, Any]

PODS_OF_A_REVISION: Final = 5
"""As many as the message of a failed batch names."""
SLOW_SECONDS: Final = 5.0
"""When a pod that has not failed, but is not as it should be, is looked at for the first time."""
AGAIN_SECONDS: Final = 1.0
"""Until the second look, for what the kubelet writes after the status; three times as long until each later one."""
LOOKS: Final = 6
AT_ONCE: Final = 4
"""Pods looked at at a time: what gates need of the client's rate stays free."""
PATIENCE_SECONDS: Final = 3.0
"""For one answer: a kubelet that is gone keeps the API server waiting much longer."""
LINES: Final = 30
READ_BYTES: Final = 60_000
"""The API server counts them from the first of these lines on: too few would cut off the last ones."""
LOG_BYTES: Final = 8_000
STATUS_LINES: Final = 5
STATUS_BYTES: Final = 500
"""What `.status` and the facts about pods have of it."""
EVENT_BYTES: Final = 400

_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_log = logging.getLogger(__name__)


def sick(pod: Pod) -> bool:
    """Whether it has failed, has not started yet, or takes no traffic though its gate is open."""
    return failed(pod) or not pod.containers_ready or (pod.gate == Gate.OPEN and not pod.ready)


class Run(NamedTuple):
    """A container, and which of its runs: the one under way, or the one before its last start."""

    container: str
    previous: bool
    restarts: int

    @property
    def query(self) -> dict[str, str]:
        """For the end of its log."""
        query = {"container": self.container, "tailLines": str(LINES), "limitBytes": str(READ_BYTES)}
        return query | ({"previous": "true"} if self.previous else {})


def run_of(pod: Pod) -> Run | None:
    """The run that tells why: the one before, where a container waits for its next. None where none has run."""
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    container = next((c for c in statuses if _waits_in_vain(c)), None)
    if container is None:
        container = next((c for c in pod.status.container_statuses if not c.ready), None)
    if container is None:
        return None
    previous = container.state.waiting is not None
    if previous and not container.restart_count:
        return None
    return Run(container.name, previous, container.restart_count)


def runs_of(pod: Pod) -> list[Run]:
    """The runs whose logs are kept: of a pod that has failed each container's, this one and the one before."""
    if not failed(pod):
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


def _waits_in_vain(container: ContainerStatus) -> bool:
    return container.state.waiting is not None and container.state.waiting.reason in FAILED_WAITING


def last_lines(text: str, lines: int = STATUS_LINES, size: int = STATUS_BYTES) -> str:
    """The end of a log as plain text, in at most so many bytes."""
    plain = "".join(c for c in _COLOUR.sub("", text) if c.isprintable() or c in "\n\t").strip()
    last = "\n".join(plain.splitlines()[-lines:])
    return last.encode()[-size:].decode(errors="ignore")


def newest(events: Iterable[Json]) -> str:
    """The event that was seen last, as `BackOff: Back-off restarting failed container`; empty when there is none."""
    last = max(events, key=_seen_at, default=None)
    if last is None:
        return ""
    text = f"{last.get('reason', '')}: {' '.join(str(last.get('message') or '').split())}"
    return text.encode()[:EVENT_BYTES].decode(errors="ignore")


def _seen_at(event: Json) -> str:
    """RFC 3339 times in UTC are in order as texts, but for fractions: those of an event are of one kind."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max(str(time or "") for time in times)


@dataclass
class _Patient:
    """A pod in trouble. `due` by the loop's clock; `signs` of what a new look is worth."""

    due: float
    signs: tuple[bool, int]
    looks: int = 0
    detail: Detail = UNASSIGNED
    logs: set[str] = field(default_factory=set)
    """The ids of those that were told."""


class Details:
    """Knows the details of the pods in trouble, and has a pod told again (`tell`) when they have changed.

    `pod_of` is the pod with that uid as it was seen last.
    """

    def __init__(
        self,
        client: Client,
        pod_of: Callable[[str], Pod | None],
        owns: Callable[[Key], bool],
        tell: Callable[[Pod], None],
        put: Callable[[ContainerLog], None],
        release: Callable[[Pod], FlowRef | None],
    ) -> None:
        self._client = client
        self._pod_of = pod_of
        self._owns = owns
        self._tell = tell
        self._put = put
        self._release = release
        self._patients: dict[Key, dict[str, _Patient]] = defaultdict(dict)
        self._timers: dict[Key, tuple[float, asyncio.Handle]] = {}
        """When the next look at an instance is due; uvloop's handles do not always say it."""
        self._looks = CoalescingQueue(self._look)
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._said: set[tuple[Key, str]] = set()

    def of(self, pod: Pod) -> Detail:
        patient = self._patients.get(pod.key, {}).get(pod.metadata.uid)
        return patient.detail if patient else UNASSIGNED

    def changed(self, old: Pod | None, new: Pod | None) -> None:
        """A pod appeared (`old` is None), changed or is gone (`new` is None)."""
        pod = new or old
        if pod is None or not pod.key.instance:
            return
        key, uid = pod.key, pod.metadata.uid
        now = asyncio.get_running_loop().time()
        if new is None or not sick(new) or not self._owns(key):
            self._forget(key, uid, now)
            return
        signs = (failed(new), sum(c.restart_count for c in new.status.container_statuses))
        patient = self._patients[key].get(uid)
        if patient is None:
            patient = _Patient(now if signs[0] else now + SLOW_SECONDS, signs)
            self._patients[key][uid] = patient
        elif signs == patient.signs:
            return
        elif signs[0]:
            patient.due, patient.looks = now, min(patient.looks, LOOKS - 1)
        patient.signs = signs
        self._wake(key, patient.due)

    def _forget(self, key: Key, uid: str, now: float) -> None:
        patients = self._patients.get(key, {})
        patient = patients.pop(uid, None)
        if patient is not None and not patients:
            del self._patients[key]
        elif patient is not None and patient.looks:
            # its place is free for another
            self._wake(key, now + AGAIN_SECONDS)

    def _wake(self, key: Key, at: float) -> None:
        """Look at the instance then, if not sooner."""
        if key in self._timers:
            due, timer = self._timers[key]
            if due <= at:
                return
            timer.cancel()
        self._timers[key] = at, asyncio.get_running_loop().call_at(at, self._mark, key)

    def _mark(self, key: Key) -> None:
        del self._timers[key]
        self._looks.mark(key)

    async def _look(self, key: Key) -> None:
        if not self._owns(key):
            self._patients.pop(key, None)
            return
        loop = asyncio.get_running_loop()
        chosen = self._chosen(key)
        due = [(pod, patient) for pod, patient in chosen if patient.due <= loop.time()]
        await asyncio.gather(*(self._look_at(key, pod, patient) for pod, patient in due))
        again = [patient.due for _, patient in chosen if patient.looks < LOOKS]
        if again:
            self._wake(key, min(again))

    def _chosen(self, key: Key) -> list[tuple[Pod, _Patient]]:
        """Of each revision a few pods that a look is worth: failed ones first, then those looked at before."""
        found: dict[str, list[tuple[Pod, _Patient]]] = defaultdict(list)
        for uid, patient in self._patients.get(key, {}).items():
            pod = self._pod_of(uid)
            if pod is not None and not pod.deleting:
                found[pod.revision].append((pod, patient))
        for of_revision in found.values():
            of_revision.sort(key=lambda one: (not one[1].signs[0], not one[1].looks))
        few = [one for of_revision in found.values() for one in of_revision[:PODS_OF_A_REVISION]]
        return [(pod, patient) for pod, patient in few if patient.looks < LOOKS]

    async def _look_at(self, key: Key, pod: Pod, patient: _Patient) -> None:
        patient.due = asyncio.get_running_loop().time() + AGAIN_SECONDS * 3**patient.looks
        patient.looks += 1
        async with self._limit:
            event = await self._asked(key, "events", self._event(pod))
            log = ""
            for run in runs_of(pod):
                text = await self._asked(key, "log", self._log_of(pod, run))
                self._tell_log(pod, patient, run, last_lines(text, LINES, LOG_BYTES))
                if run == run_of(pod):
                    log = last_lines(text)
        detail = Detail(event or patient.detail.event, log or patient.detail.log)
        live = self._pod_of(pod.metadata.uid)
        if detail != patient.detail and live is not None:
            patient.detail = detail
            self._tell(live)

    async def _event(self, pod: Pod) -> str:
        meta = pod.metadata
        query = {"fieldSelector": f"involvedObject.uid={meta.uid},type=Warning"}
        return newest(json.loads(await self._client.list_page(EVENTS, meta.namespace, query))["items"])

    async def _log_of(self, pod: Pod, run: Run) -> str:
        return await self._client.log(pod.metadata.namespace, pod.metadata.name, run.query)

    def _tell_log(self, pod: Pod, patient: _Patient, run: Run, text: str) -> None:
        which = "previous" if run.previous else "current"
        told = f"{pod.metadata.uid}:log:{run.container}:{which}:{sha256(text.encode()).hexdigest()[:16]}"
        if not text or told in patient.logs:
            return
        patient.logs.add(told)
        self._put(
            ContainerLog(
                namespace=pod.key.namespace,
                instance=pod.key.instance,
                id=told,
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

    async def _asked(self, key: Key, what: str, answer: Awaitable[str]) -> str:
        """The answer; empty when there is none, which is said once of an instance."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await answer
        except (ApiError, Unavailable, TimeoutError) as error:
            why: Exception = error
            if isinstance(error, ApiError):
                if error.code in {400, 404}:  # no such run of the container any more, or no such pod
                    return ""
                if error.rights_missing:
                    why = error.waited_for("readiness")
            if (key, what) not in self._said:
                self._said.add((key, what))
                _log.warning(
                    "failures of %s are told without the %s of their pods: %s",
                    key,
                    what,
                    str(why) or f"no answer within {PATIENCE_SECONDS:g} s",
                    extra={"triton.key": str(key)},
                )
            return ""
