"""What the services publish of releases, made up: as many messages of each kind, and as large, as a run gives them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from shared.clock import now_milliseconds
from shared.domain.deployflow import BatchPhase, FlowPhase, PodPhase
from shared.domain.messages import (
    AppRef,
    CloneSetEvent,
    CloneSetFacts,
    FlowEvent,
    FlowRef,
    Gate,
    Message,
    PodFact,
    PodGone,
    PodsSeen,
    PodTransition,
    Transition,
)

PODS: Final = 20
BATCHES: Final = 4
TOGETHER: Final = 2
"""Pods that are told of in one message: what came true within some 20 ms."""
SIDE_BY_SIDE: Final = 50
"""Releases that run at the same time, so that all partitions have messages."""
State = tuple[PodTransition, dict[str, Any]]
"""What a pod has come to, and its state then."""
_NEW: Final[Sequence[State]] = (
    (PodTransition.SCHEDULED, {"phase": PodPhase.PENDING, "gate": Gate.CLOSED}),
    (PodTransition.STARTED, {"phase": PodPhase.RUNNING, "gate": Gate.CLOSED}),
    (
        PodTransition.CONTAINERS_READY,
        {"phase": PodPhase.CONTAINERS_READY, "containers_ready": True, "gate": Gate.CLOSED},
    ),
    (
        PodTransition.PULLED_IN,
        {"phase": PodPhase.CONTAINERS_READY, "containers_ready": True, "gate": Gate.OPEN, "sequence": 7},
    ),
    (
        PodTransition.READY,
        {
            "phase": PodPhase.READY,
            "containers_ready": True,
            "ready": True,
            "gate": Gate.OPEN,
            "sequence": 7,
        },
    ),
)
_OLD: Final[Sequence[State]] = (
    (
        PodTransition.PULLED_OUT,
        {"phase": PodPhase.CONTAINERS_READY, "containers_ready": True, "gate": Gate.CLOSED, "sequence": 8},
    ),
    (
        PodTransition.TERMINATING,
        {"phase": PodPhase.CONTAINERS_READY, "gate": Gate.CLOSED, "sequence": 8, "deleting": True},
    ),
)
_STEPS: Final = (
    BatchPhase.SMOKING,
    BatchPhase.SMOKED,
    BatchPhase.BAKING,
    BatchPhase.BAKED,
)


def stories() -> Iterator[Message]:
    """Releases without end, some side by side."""
    numbers = itertools.count()
    running: list[Iterator[Message]] = []
    while True:
        while len(running) < SIDE_BY_SIDE:
            running.append(release(next(numbers)))
        for story in list(running):
            message = next(story, None)
            if message is None:
                running.remove(story)
            else:
                yield message


def release(number: int) -> Iterator[Message]:
    """An update of `PODS` pods in `BATCHES` batches, in the order in which it is told."""
    teller = _Teller(number)
    size = PODS // BATCHES
    yield teller.flow("Initializing", FlowPhase.INITIALIZING)
    for batch in range(1, BATCHES + 1):
        names = [f"{batch}{index}" for index in range(size)]
        yield teller.cloneset("SpecChanged", batch * size)
        for step, states in zip(_STEPS, (_NEW[:3], (), _NEW[3:], _OLD), strict=True):
            yield teller.flow(step, FlowPhase.BATCH_STARTED, batch, step)
            for state in states:
                for some in _some(names):
                    yield teller.pods(some, state, old=states is _OLD)
                yield teller.cloneset("StatusChanged", batch * size)
        for some in _some(names):
            yield teller.gone(some)
    yield teller.flow("Success", FlowPhase.SUCCESS)


def pod_story() -> Iterator[Message]:
    """Pod events alone, one a message, of pods that are told of once."""
    for number in itertools.count(10_000_000):
        yield _Teller(number).pods(["0"], _NEW[0])


def _some(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + TOGETHER] for start in range(0, len(names), TOGETHER))


class _Teller:
    def __init__(self, number: int) -> None:
        self._about = {"namespace": f"shop-{number % 7}", "instance": f"{12000 + number}-web-10010"}
        self._number = number
        name = f"{self._about['instance']}-kvn6b"
        self._flow = FlowRef(
            name=name, uid=self._uid("flow"), batch=1, requested_by="release-bot@example.org"
        )
        self._app = AppRef(name="web", app_id=number, group_id=10010)
        self._told = itertools.count(1)

    def flow(
        self, reason: str, phase: FlowPhase, batch: int = 0, step: BatchPhase | None = None
    ) -> FlowEvent:
        return FlowEvent(
            **self._about,
            id=f"{self._flow.uid}:{next(self._told)}",
            at=now_milliseconds(),
            flow=self._flow,
            app_id=self._number,
            group_id=10010,
            app_name="web",
            action="update",
            reason=reason,
            message=f"batch {batch}" if batch else "",
            phase=phase,
            batch=batch,
            batches=BATCHES,
            batch_phase=step,
            batch_size=PODS // BATCHES,
            revision="12000-web-10010-6d5f8c9b7d",
            requested_by="release-bot@example.org",
            duration_ms=1234,
        )

    def cloneset(self, reason: str, updated: int) -> CloneSetEvent:
        facts = CloneSetFacts(
            uid=self._uid("cloneset"),
            generation=next(self._told),
            observed_generation=4,
            sequence=7,
            replicas=PODS,
            partition=PODS - updated,
            update_revision="12000-web-10010-6d5f8c9b7d",
            status_replicas=PODS,
            ready_replicas=PODS - 1,
            available_replicas=PODS - 1,
            updated_replicas=updated,
            updated_ready_replicas=updated - 1,
        )
        told = f"{facts.uid}:{facts.generation}"
        return CloneSetEvent(
            **self._about,
            id=told,
            at=now_milliseconds(),
            reason=reason,
            message=f"replicas {PODS}, partition {PODS - updated}",
            cloneset=facts,
            flow=self._flow,
            app=self._app,
        )

    def pods(self, names: Sequence[str], state: State, *, old: bool = False) -> PodsSeen:
        now = now_milliseconds()
        came = Transition(name=state[0], id=f"{state[0]}:{now}", at=now, since=now - 800, age=3000)
        facts = [self._fact(name, state[1], now, old=old, transitions=[came]) for name in names]
        return PodsSeen(**self._about, pods=facts, at=now, app=self._app)

    def gone(self, names: Sequence[str]) -> PodsSeen:
        now = now_milliseconds()
        last = [self._fact(name, _OLD[-1][1], now, old=True) for name in names]
        gone = [PodGone(uid=fact.uid, name=fact.name, at=now, since=now - 900, last=fact) for fact in last]
        return PodsSeen(**self._about, gone=gone, at=now, app=self._app)

    def _fact(self, name: str, state: dict[str, Any], now: int, *, old: bool, **more: Any) -> PodFact:
        return PodFact(
            uid=self._uid(("old-" if old else "") + name),
            name=f"{self._about['instance']}-{name}x7k2p",
            revision="12000-web-10010-" + ("5c4e7b8a6c" if old else "6d5f8c9b7d"),
            ip="10.244.17.203",
            port=8080,
            node="node-17.example.org",
            image="registry.example.org/shop/web:2026.11.21-4711",
            created_at=now - 3000,
            at=now,
            version=next(self._told),
            flow=self._flow,
            **{"ready": False, "containers_ready": False} | state | more,
        )

    def _uid(self, name: str) -> str:
        return str(UUID(int=hash((self._number, name)) & (1 << 128) - 1))
