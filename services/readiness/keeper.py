"""Opens and closes gates: those that a command names, and those of pods that no release claims."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
from prometheus_client import Counter, Histogram

from services.readiness.gates import UNCLAIMED, commanded, patch, unclaimed, waits
from shared.domain import messages as m
from shared.domain.record import Record
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, PODS, STRATEGIC, ApiError, Client, Json
from shared.kube.clonesets import CloneSet
from shared.kube.pods import Pod
from shared.kube.reflector import Reflector
from shared.messaging.coalescing_queue import CoalescingQueue
from shared.messaging.kafka import decode
from shared.observability import tracing

AT_ONCE: Final = 16
"""Patches under way for one instance; several instances share the client's rate."""
CONFLICTS: Final = 10
SETTLE_SECONDS: Final = 0.05
"""Pods of one instance become ready together: one look at their CloneSet serves them all."""
AGAIN_SECONDS: Final = 15.0
"""How often a pod that waits behind a hold is looked at again."""

_patches = Counter("triton_gate_patches_total", "Gates opened and closed", ["gate", "why"])
_durations = Histogram(
    "triton_gate_command_duration_seconds",
    "From a command on Kafka to the gate of a pod that it names",
    ["gate"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
# a first one is a rise only where there was a 0
for _gate in ("open", "closed"):
    _durations.labels(_gate)
_log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """A command for gates, and when it was given (ms since 1970)."""

    command: m.PullIn | m.PullOut
    at_ms: int

    @property
    def opened(self) -> bool:
        return isinstance(self.command, m.PullIn)

    @property
    def gate(self) -> str:
        return "open" if self.opened else "closed"


class GateKeeper:
    """The only writer of the readiness gate."""

    def __init__(
        self,
        client: Client,
        pods: Reflector[Pod],
        owns: Callable[[Key], bool],
        heard: Callable[[m.Command, int], None] = lambda *_: None,
    ) -> None:
        self._client = client
        self._pods = pods
        self._owns = owns
        self._heard = heard
        self._held: set[Key] = set()
        """Instances that a surge was given for: no need to ask their CloneSet whether it holds."""
        self._waiting: dict[Key, set[str]] = {}
        """The uids of the pods that waited when they were seen last."""
        self._looks = CoalescingQueue(self._look)
        self._asked: dict[Key, Asked] = {}
        """What is being carried out, or tried again."""

    # --- by command ---

    async def handle(self, key: str, records: list[Record]) -> None:
        for record in records:
            command = decode(record)
            self._heard(command, record.timestamp_ms)
            match command:
                case m.PullIn() | m.PullOut():
                    self._asked[command.key] = asked = Asked(command, record.timestamp_ms)
                    await self._carry_out(asked)
                    self._asked.pop(command.key, None)
                    pods = len(command.uids)
                    tracing.export(
                        tracing.command_span(command, command.type, record, "readiness", pods=pods)
                    )
                case m.Surge():
                    self._held.add(Key.parse(key))
                case m.Retire() | m.Cancel() | m.Finish():
                    self._held.discard(Key.parse(key))
                    self.look(Key.parse(key))

    async def _carry_out(self, asked: Asked) -> None:
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(uid: str) -> None:
            async with limit:
                await self._set(uid, asked)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_outcome(one(uid))) for uid in asked.command.uids]
        # every pod was tried before the first failure counts
        for error in (task.result() for task in tasks):
            if error is not None:
                raise error

    async def _set(self, uid: str, asked: Asked) -> None:
        command = asked.command
        opened, sequence = asked.opened, command.sequence
        drain_after = command.drain_after if isinstance(command, m.PullOut) else 0
        pod = self._pods.items.get(uid)
        for _ in range(CONFLICTS):
            if pod is None or not commanded(pod, opened=opened, sequence=sequence):
                return
            body = patch(
                pod, opened=opened, sequence=sequence, now=datetime.now(UTC), drain_after=drain_after
            )
            begun = tracing.now()
            if await self._patch(pod, body, asked.gate, "command"):
                tracing.export(_span(pod, asked, begun))
                _durations.labels(asked.gate).observe(max(time.time() - asked.at_ms / 1000, 0))
                return
            pod = await self._fresh(pod)
        msg = f"pod {uid} keeps changing"
        raise Unavailable(msg)

    async def _patch(self, pod: Pod, body: Json, gate: str, why: str) -> bool:
        """False: the pod has changed since it was read."""
        meta = pod.metadata
        try:
            written = await self._client.patch(
                PODS, meta.namespace, meta.name, body, subresource="status", content_type=STRATEGIC
            )
        except ApiError as error:
            if error.code in {404, 409}:
                return False
            msg = f"gate of pod {meta.namespace}/{meta.name}: {error}"
            raise Unavailable(msg) from error
        self._pods.put(written)
        _patches.labels(gate, why).inc()
        return True

    async def _fresh(self, pod: Pod) -> Pod | None:
        try:
            self._pods.put(await self._client.get(PODS, pod.metadata.namespace, pod.metadata.name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise Unavailable(str(error)) from error
        return self._pods.items.get(pod.metadata.uid)

    def pending(self) -> Iterator[tuple[Asked, int]]:
        """The commands for this replica's instances that are not carried out, each with how many of its pods wait."""
        for key, asked in self._asked.items():
            pods = (self._pods.items.get(uid) for uid in asked.command.uids)
            sequence = asked.command.sequence
            waiting = sum(1 for p in pods if p and commanded(p, opened=asked.opened, sequence=sequence))
            if waiting and self._owns(key):
                yield asked, waiting

    # --- without command ---

    def changed(self, old: Pod | None, new: Pod | None) -> None:
        """A pod appeared (`old` is None), changed or is gone; it may be one that waits for nobody."""
        pod = new or old
        if pod is None:
            return
        key = pod.key
        if new is None or not waits(new):
            self._waiting.get(key, set()).discard(pod.metadata.uid)
            return
        self._waiting.setdefault(key, set()).add(pod.metadata.uid)
        if key not in self._held and self._owns(key):
            self.look(key)

    def look(self, key: Key) -> None:
        """Look soon whether pods of this instance wait though no release claims them."""
        self._looks.mark(key)

    async def _look(self, key: Key) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        seen = [self._pods.items.get(uid) for uid in self._waiting.get(key, ())]
        waiting = [pod for pod in seen if pod is not None and waits(pod)]
        if not waiting:
            self._waiting.pop(key, None)
            return
        if not self._owns(key):
            return
        try:
            cloneset = msgspec.convert(await self._client.get(CLONESETS, *key), CloneSet)
            for pod in waiting:
                if unclaimed(pod, cloneset):
                    _log.info(
                        "opening the gate of %s: no release claims it",
                        pod.metadata.name,
                        extra={"triton.key": str(key)},
                    )
                    body = patch(
                        pod, opened=True, sequence=cloneset.sequence, now=datetime.now(UTC), reason=UNCLAIMED
                    )
                    await self._patch(pod, body, "open", "unclaimed")
        except (ApiError, Unavailable) as error:
            _log.warning("pods of %s wait: %s", key, error, extra={"triton.key": str(key)})

    def look_at_all(self) -> None:
        """Look at every instance of this replica that has pods waiting."""
        for key, uids in self._waiting.items():
            if uids and self._owns(key):
                self.look(key)

    async def look_forever(self) -> None:
        """Pods behind a hold, and those whose look failed: again, by a live read and no memory of ours."""
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            self.look_at_all()


def _span(pod: Pod, asked: Asked, begun: int) -> tracing.Span:
    command, meta = asked.command, pod.metadata
    attributes = tracing.about(command.namespace, command.instance, command.flow.name, command.flow.uid)
    attributes |= {"triton.batch": command.flow.batch, "triton.sequence": command.sequence}
    attributes |= {"triton.gate": asked.gate, "k8s.pod.name": meta.name, "k8s.pod.uid": meta.uid}
    return tracing.Span(
        f"gate {asked.gate}",
        tracing.inside(command.flow.uid, "gate", command.sequence, meta.uid),
        tracing.work(command, "readiness"),
        begun,
        tracing.now(),
        attributes,
    )


async def _outcome(work: object) -> Unavailable | None:
    try:
        await work  # type: ignore[misc]
    except Unavailable as error:
        return error
    return None
