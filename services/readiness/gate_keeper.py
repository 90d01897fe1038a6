"""Opens and closes the gates that a command names, and opens those of pods that no release claims.

A gate that somebody else opens before the release does is closed again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
from prometheus_client import Counter, Histogram

from services.readiness.gate_decisions import (
    HELD,
    UNCLAIMED,
    gate_patch,
    is_held,
    is_opened_by_other,
    is_unclaimed,
    may_remove,
    needs_command,
    waits_for_gate,
)
from shared.clock import now_milliseconds
from shared.domain import messages as m
from shared.domain.json_types import Json
from shared.domain.record import Record
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, PODS, STRATEGIC, ApiError, Client
from shared.kube.clonesets import CloneSet
from shared.kube.pods import Pod
from shared.kube.reflector import Reflector
from shared.messaging.coalescing_queue import CoalescingQueue
from shared.messaging.consumer import decode
from shared.observability import tracing

CONCURRENT_PATCHES: Final = 16
"""Patches under way for one instance; several instances share the client's rate."""
ATTEMPTS: Final = 10
SETTLE_SECONDS: Final = 0.05
"""Pods of one instance become ready together: one read of their CloneSet serves them all."""
UNSETTLED_SECONDS: Final = 1.0
"""Until the next look at a CloneSet of which OpenKruise may be about to remove pods; doubled each time."""
RECHECK_SECONDS: Final = 15.0
"""How often a pod that waits behind a hold is checked again."""

_patches = Counter("triton_gate_patches_total", "Gates opened and closed", ["gate", "why"])
_durations = Histogram(
    "triton_gate_command_duration_seconds",
    "From a command on Kafka to the gate of a pod that it names",
    ["gate"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
# the first observation counts as an increase only where the series was 0 before
for _gate in ("open", "closed"):
    _durations.labels(_gate)
_log = logging.getLogger(__name__)


class GateCommand(NamedTuple):
    """A command for gates, and its time on Kafka in ms since 1970."""

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
        on_command: Callable[[m.Command, int], None] = lambda *_: None,
    ) -> None:
        self._client = client
        self._pods = pods
        self._owns = owns
        self._on_command = on_command
        self._held: set[Key] = set()
        self._rechecks: dict[Key, tuple[float, asyncio.TimerHandle]] = {}
        """Of instances of which OpenKruise may remove pods: the seconds from the next check to the one after it."""
        """Instances with a surge: their CloneSet has a hold, which need not be read."""
        self._waiting: dict[Key, set[str]] = {}
        """Uids of the pods that waited for their gate when they were observed last."""
        self._opened: dict[Key, set[str]] = {}
        """Uids of the pods whose gate somebody else has opened, until they are checked."""
        self._checks = CoalescingQueue(self._check)
        self._in_progress: dict[Key, GateCommand] = {}
        """The commands that are being carried out or retried."""

    # --- by command ---

    async def handle(self, key: str, records: list[Record]) -> None:
        for record in records:
            command = decode(record)
            self._on_command(command, record.timestamp_ms)
            match command:
                case m.PullIn() | m.PullOut():
                    self._in_progress[command.key] = gate_command = GateCommand(command, record.timestamp_ms)
                    await self._carry_out(gate_command)
                    self._in_progress.pop(command.key, None)
                    pods = len(command.uids)
                    tracing.export(
                        tracing.command_span(command, command.type, record, "readiness", pods=pods)
                    )
                case m.Surge():
                    self._held.add(Key.parse(key))
                case m.Retire() | m.Cancel() | m.Finish():
                    self._held.discard(Key.parse(key))
                    self.check_soon(Key.parse(key))

    async def _carry_out(self, gate_command: GateCommand) -> None:
        limit = asyncio.Semaphore(CONCURRENT_PATCHES)

        async def one(uid: str) -> None:
            async with limit:
                await self._set_gate(uid, gate_command)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_outcome(one(uid))) for uid in gate_command.command.uids]
        # raise the first failure only after every pod was tried
        for error in (task.result() for task in tasks):
            if error is not None:
                raise error

    async def _set_gate(self, uid: str, gate_command: GateCommand) -> None:
        command = gate_command.command
        opened, sequence = gate_command.opened, command.sequence
        drain_after = command.drain_after if isinstance(command, m.PullOut) else 0
        pod = self._pods.items.get(uid)
        for _ in range(ATTEMPTS):
            if pod is None or not needs_command(pod, opened=opened, sequence=sequence):
                return
            body = gate_patch(
                pod, opened=opened, sequence=sequence, now=datetime.now(UTC), drain_after=drain_after
            )
            begun = now_milliseconds()
            if await self._patch(pod, body, gate_command.gate, "command"):
                tracing.export(_span(pod, gate_command, begun))
                _durations.labels(gate_command.gate).observe(max(time.time() - gate_command.at_ms / 1000, 0))
                return
            pod = await self._read_again(pod)
        msg = f"pod {uid} keeps changing"
        raise Unavailable(msg)

    async def _patch(self, pod: Pod, body: Json, gate: str, why: str) -> bool:
        """Patch the pod; return False if it has changed since it was read."""
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

    async def _read_again(self, pod: Pod) -> Pod | None:
        try:
            self._pods.put(await self._client.get(PODS, pod.metadata.namespace, pod.metadata.name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise Unavailable(str(error)) from error
        return self._pods.items.get(pod.metadata.uid)

    def pending(self) -> Iterator[tuple[GateCommand, int]]:
        """Yield this replica's commands under way, each with the number of its pods that wait."""
        for key, gate_command in self._in_progress.items():
            pods = (self._pods.items.get(uid) for uid in gate_command.command.uids)
            sequence = gate_command.command.sequence
            waiting = sum(
                1 for p in pods if p and needs_command(p, opened=gate_command.opened, sequence=sequence)
            )
            if waiting and self._owns(key):
                yield gate_command, waiting

    # --- without a command ---

    def changed(self, old: Pod | None, new: Pod | None) -> None:
        """Note that a pod appeared (`old` is None), changed or was deleted, and check soon if it waits for its gate."""
        pod = new or old
        if pod is None:
            return
        key, uid = pod.key, pod.metadata.uid
        if old is not None and (new is None or old.key != key):
            self._waiting.get(old.key, set()).discard(uid)
        if new is None:
            return
        if old is not None and key.instance and is_opened_by_other(old, new):
            self._opened.setdefault(key, set()).add(uid)
            if self._owns(key):
                self.check_soon(key)
        if not waits_for_gate(new):
            self._waiting.get(key, set()).discard(uid)
            return
        self._waiting.setdefault(key, set()).add(uid)
        if key not in self._held and self._owns(key):
            self.check_soon(key)

    def check_soon(self, key: Key) -> None:
        """Check soon whether pods of this instance wait although no release claims them."""
        self._checks.mark(key)

    async def _check(self, key: Key) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        waiting = [pod for pod in self._known(self._waiting.get(key, ())) if waits_for_gate(pod)]
        if not waiting:
            self._waiting.pop(key, None)
            self._recheck(key, later=False)
        if not (waiting or self._opened.get(key)) or not self._owns(key):
            return
        try:
            cloneset = msgspec.convert(await self._client.get(CLONESETS, *key), CloneSet)
            await self._close_held(key, cloneset)
            for pod in waiting:
                if is_unclaimed(pod, cloneset):
                    _log.info(
                        "opening the gate of pod %s: no release claims it",
                        pod.metadata.name,
                        extra={"triton.key": str(key)},
                    )
                    body = gate_patch(
                        pod, opened=True, sequence=cloneset.sequence, now=datetime.now(UTC), reason=UNCLAIMED
                    )
                    await self._patch(pod, body, "open", "unclaimed")
            if waiting:
                self._recheck(key, later=may_remove(cloneset))
        except (ApiError, Unavailable) as error:
            _log.warning(
                "could not check the gates of pods of %s that no command names: %s",
                key,
                error,
                extra={"triton.key": str(key)},
            )

    def _recheck(self, key: Key, *, later: bool) -> None:
        """Check again in a second, and then after twice as long each time."""
        delay, timer = self._rechecks.pop(key, (UNSETTLED_SECONDS, None))
        if timer is not None:
            timer.cancel()
        if later:
            timer = asyncio.get_running_loop().call_later(delay, self.check_soon, key)
            self._rechecks[key] = min(delay * 2, RECHECK_SECONDS), timer

    def _known(self, uids: Iterable[str]) -> list[Pod]:
        return [pod for uid in uids if (pod := self._pods.items.get(uid)) is not None]

    async def _close_held(self, key: Key, cloneset: CloneSet) -> None:
        for uid in tuple(self._opened.get(key, ())):
            pod = self._pods.items.get(uid)
            if pod is not None and is_held(pod, cloneset):
                _log.warning(
                    "closing the gate of pod %s again: somebody else has opened it before the release does",
                    pod.metadata.name,
                    extra={"triton.key": str(key)},
                )
                body = gate_patch(
                    pod, opened=False, sequence=pod.sequence, now=datetime.now(UTC), reason=HELD
                )
                if not await self._patch(pod, body, "closed", "held"):
                    self.check_soon(key)
                    continue
            self._opened[key].discard(uid)

    def check_all(self) -> None:
        """Check every instance of this replica that has waiting pods."""
        for key in {*self._waiting, *self._opened}:
            if (self._waiting.get(key) or self._opened.get(key)) and self._owns(key):
                self.check_soon(key)

    async def check_forever(self) -> None:
        """Check pods behind a hold, and those whose check failed, again and again by a live read."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            self.check_all()


def _span(pod: Pod, gate_command: GateCommand, begun: int) -> tracing.Span:
    command, meta = gate_command.command, pod.metadata
    attributes = tracing.about(command.namespace, command.instance, command.flow.name, command.flow.uid)
    attributes |= {"triton.batch": command.flow.batch, "triton.sequence": command.sequence}
    attributes |= {"triton.gate": gate_command.gate, "k8s.pod.name": meta.name, "k8s.pod.uid": meta.uid}
    return tracing.Span(
        f"gate {gate_command.gate}",
        tracing.inside(command.flow.uid, "gate", command.sequence, meta.uid),
        tracing.work(command, "readiness"),
        begun,
        now_milliseconds(),
        attributes,
    )


async def _outcome(work: object) -> Unavailable | None:
    try:
        await work  # type: ignore[misc]
    except Unavailable as error:
        return error
    return None
