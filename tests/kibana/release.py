"""A recorded night: messages as the four services publish them, from which the release log is written.

One release of two batches goes well, its canary let go by a person. The next one crash-loops and is canceled; one
is refused and one replaced. It is written down here and not run: so every panel has the same to show each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from shared.domain.deployflow import BatchPhase, FlowPhase, PodPhase
from shared.domain.messages import (
    AppRef,
    CloneSetEvent,
    CloneSetFacts,
    ClusterEvent,
    ContainerLog,
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

NAMESPACE: Final = "shop"
INSTANCE: Final = "20001-web-10010"
GOOD: Final = f"{INSTANCE}-kvn6b"
BAD: Final = f"{INSTANCE}-x7k2p"
POD: Final = f"{INSTANCE}-8rw4d"
FAILED_POD: Final = f"{INSTANCE}-q9ztl"
DEPLOYER: Final = "deployer@example.com"
ON_CALL: Final = "on-call@example.com"
APP: Final = AppRef(name="web", app_id=20001, group_id=10010)
_HERE: Final[dict[str, Any]] = {"namespace": NAMESPACE, "instance": INSTANCE}
_PHASES: Final = {
    BatchPhase.SMOKING: 1,
    BatchPhase.SMOKED: 4,
    BatchPhase.BAKING: 5,
    BatchPhase.BAKED: 8,
}
"""Seconds of a batch until it comes to them."""


def messages(start: int) -> list[Message]:
    """What was published, in order; `start` in ms since 1970."""
    return [*_good(start), *_bad(start + 60_000), *_others(start + 120_000)]


def _flow(name: str, what: str, at: int, reason: str, phase: FlowPhase, **fields: Any) -> FlowEvent:
    defaults: dict[str, Any] = {
        "id": f"{name}:{what}",
        "at": at,
        "flow": FlowRef(name=name, uid=f"uid-{name}"),
        "app_id": APP.app_id,
        "group_id": APP.group_id,
        "app_name": APP.name,
        "action": "update",
        "reason": reason,
        "phase": phase,
        "requested_by": DEPLOYER,
        "revision": f"{name}-6d5f",
    }
    return FlowEvent(**_HERE | defaults | fields)


def _batch(name: str, number: int, at: int, began: int, **fields: Any) -> FlowEvent:
    defaults: dict[str, Any] = {
        "batch": number,
        "batches": 2,
        "batch_size": 1,
        "canary": number == 1,
        "started_at": began,
        "message": f"batch {number} of 2 is {fields.get('batch_phase', 'finished')}",
    }
    what = f"{number}:{fields.get('reason')}"
    return _flow(name, what, at, phase=FlowPhase.BATCH_STARTED, **defaults | fields)


def _good(start: int) -> Iterator[Message]:
    flow = FlowRef(name=GOOD, uid=f"uid-{GOOD}", batch=1, requested_by=ON_CALL)
    yield _flow(GOOD, "seen", start, "Received", FlowPhase.PENDING, command="deploy", request="request-1")
    for number in (1, 2):
        began = start + number * 15_000
        for phase, seconds in _PHASES.items():
            yield _batch(
                GOOD,
                number,
                began + seconds * 1000,
                start,
                reason=f"Batch{phase}",
                batch_phase=phase,
                duration_ms=None if phase == BatchPhase.SMOKING else seconds * 1000,
            )
            if number == 1 and phase == BatchPhase.SMOKED:
                yield _batch(
                    GOOD,
                    1,
                    began + 4_500,
                    start,
                    reason="GoAhead",
                    batch_phase=phase,
                    command="next",
                    requested_by=ON_CALL,
                )
        yield _batch(
            GOOD,
            number,
            began + 9_000,
            start,
            reason="BatchFinished",
            batch_phase=BatchPhase.BAKED,
            duration_ms=9_000,
        )
    yield _flow(
        GOOD, "end", start + 45_000, "Success", FlowPhase.SUCCESS, duration_ms=45_000, started_at=start
    )
    yield _counts(flow, start + 16_000, "SpecChanged", 4, updated=0)
    yield _counts(flow, start + 23_000, "StatusChanged", 4, updated=1)
    made = start + 16_000
    yield _pods(
        _pod(
            POD,
            made,
            flow,
            PodPhase.READY,
            _came(PodTransition.CREATED, made),
            _came(PodTransition.SCHEDULED, made + 200, made),
            _came(PodTransition.STARTED, made + 1_200, made + 200),
            _came(PodTransition.CONTAINERS_READY, made + 3_000, made + 1_200),
            _came(PodTransition.PULLED_IN, made + 4_500, made + 3_000),
            _came(PodTransition.READY, made + 4_700, made + 4_500),
            gate=Gate.OPEN,
        ),
        at=made + 5_000,
    )
    old = _pod(f"{INSTANCE}-old01", start - 86_400_000, flow, PodPhase.OUTDATED)
    gone = PodGone(uid=old.uid, name=old.name, at=made + 8_500, since=made + 7_000, last=old)
    yield PodsSeen(**_HERE, gone=[gone], at=made + 8_600, app=APP)


def _bad(start: int) -> Iterator[Message]:
    flow = FlowRef(name=BAD, uid=f"uid-{BAD}", batch=1, requested_by=DEPLOYER)
    yield _flow(BAD, "seen", start, "Received", FlowPhase.PENDING, command="deploy")
    made = start + 2_000
    loop = "back-off 10s restarting failed container"
    yield _pods(
        _pod(
            FAILED_POD,
            made,
            flow,
            PodPhase.FAILED,
            _came(PodTransition.CREATED, made),
            _came(PodTransition.RESTARTED, made + 2_000, reason="Error", message="exit code 1"),
            _came(PodTransition.FAILED, made + 4_000, made, reason="CrashLoopBackOff", message=loop),
            restarts=2,
            image="web:crash",
        ),
        at=made + 4_100,
    )
    about: dict[str, Any] = {
        "kind": "Pod",
        "name": FAILED_POD,
        "uid": f"uid-{FAILED_POD}",
        "flow": flow,
        "app": APP,
    }
    yield ClusterEvent(
        **_HERE | about,
        id="event-1",
        at=made + 4_200,
        warning=True,
        reason="BackOff",
        message=loop,
        component="kubelet",
        count=3,
    )
    for previous in (True, False):
        yield ContainerLog(
            **_HERE | about,
            id=f"log-1:{previous}",
            at=made + 4_300,
            container="web",
            previous=previous,
            restarts=2,
            text="starting\nfatal: no such configuration",
        )
    yield _batch(
        BAD,
        1,
        made + 4_400,
        start,
        reason="BatchSmokeFailed",
        batch_phase=BatchPhase.SMOKE_FAILED,
        failed_replicas=1,
        message=f"1 pod failed: {FAILED_POD} (CrashLoopBackOff)",
        duration_ms=4_400,
    )
    canceled = {"command": "cancel", "requested_by": ON_CALL}
    yield _flow(BAD, "cancel", start + 20_000, "CancelRequested", FlowPhase.BATCH_STARTED, **canceled)
    yield _flow(
        BAD,
        "end",
        start + 25_000,
        "Canceled",
        FlowPhase.CANCELED,
        requested_by=ON_CALL,
        duration_ms=25_000,
    )


def _others(start: int) -> Iterator[Message]:
    refused = {"message": "invalid spec", "duration_ms": 100, "requested_by": ON_CALL}
    yield _flow(f"{INSTANCE}-refused", "end", start, "Failed", FlowPhase.FAILED, **refused)
    replaced = {"message": "replaced by a newer one", "duration_ms": 900}
    yield _flow(f"{INSTANCE}-older", "end", start + 1_000, "Aborted", FlowPhase.ABORTED, **replaced)


def _came(name: PodTransition, at: int, since: int = 0, reason: str = "", message: str = "") -> Transition:
    return Transition(name=name, id=f"{name}:{at}", at=at, since=since, reason=reason, message=message)


def _pod(name: str, made: int, flow: FlowRef, phase: PodPhase, *came: Transition, **fields: Any) -> PodFact:
    defaults: dict[str, Any] = {
        "uid": f"uid-{name}",
        "name": name,
        "transitions": [step.model_copy(update={"age": step.at - made}) for step in came],
        "revision": "6d5f",
        "phase": phase,
        "ready": phase == PodPhase.READY,
        "containers_ready": phase == PodPhase.READY,
        "gate": Gate.CLOSED,
        "node": "node-1",
        "image": "web:2.0",
        "ip": "10.0.0.7",
        "created_at": made,
        "at": made,
        "flow": flow,
    }
    return PodFact(**defaults | fields)


def _pods(*pods: PodFact, at: int) -> PodsSeen:
    return PodsSeen(**_HERE, pods=list(pods), at=at, app=APP)


def _counts(flow: FlowRef, at: int, reason: str, replicas: int, updated: int) -> CloneSetEvent:
    facts = CloneSetFacts(
        uid="uid-cloneset",
        generation=4,
        replicas=replicas,
        ready_replicas=3 + updated,
        updated_replicas=1,
        updated_ready_replicas=updated,
        update_revision="6d5f",
    )
    return CloneSetEvent(
        **_HERE, id=f"cloneset:{at}", at=at, reason=reason, cloneset=facts, flow=flow, app=APP
    )
