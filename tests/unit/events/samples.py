"""Messages of a small release, as the services publish them."""

from __future__ import annotations

from typing import Any

from shared.domain.deployflow import BatchPhase, FlowPhase, PodPhase
from shared.domain.messages import (
    TOPIC_OF,
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
    PodsSeen,
    Transition,
)
from shared.domain.record import Record

START = 1_763_720_000_000
FLOW = FlowRef(name="web-kvn6b", uid="flow-1")
APP = AppRef(name="deploy-demo-hello", app_id=12122, group_id=10010)


def flow_event(number: int = 1, **changes: Any) -> FlowEvent:
    fields: dict[str, Any] = {
        "namespace": "shop",
        "instance": "web",
        "id": f"flow-1:{number}",
        "at": START + number,
        "flow": FLOW,
        "app_id": 12122,
        "group_id": 10010,
        "app_name": "deploy-demo-hello",
        "action": "update",
        "reason": "BatchStarted",
        "phase": FlowPhase.BATCH_STARTED,
        "batch": 1,
        "batches": 3,
        "batch_phase": BatchPhase.SMOKING,
        "batch_size": 1,
        "canary": True,
        "requested_by": "deployer",
    }
    return FlowEvent(**fields | changes)


def pod(name: str = "web-x7k2p", **changes: Any) -> PodFact:
    fields: dict[str, Any] = {
        "uid": f"uid-{name}",
        "name": name,
        "revision": "web-6d5f",
        "phase": PodPhase.RUNNING,
        "ready": False,
        "containers_ready": False,
        "gate": Gate.CLOSED,
        "created_at": START,
        "at": START + 812,
        "transitions": [came()],
        "flow": FLOW.model_copy(update={"batch": 1, "requested_by": "deployer"}),
    }
    return PodFact(**fields | changes)


def came(name: str = "started", **changes: Any) -> Transition:
    """What a pod has come to, 812 ms after it was made."""
    fields = {"name": name, "id": name, "at": START + 812, "since": START, **changes}
    return Transition(**{"age": fields["at"] - START, **fields})


def cluster_event(**changes: Any) -> ClusterEvent:
    fields: dict[str, Any] = {
        "namespace": "shop",
        "instance": "web",
        "id": "event-1:2",
        "at": START + 700,
        "kind": "Pod",
        "name": "web-x7k2p",
        "uid": "uid-web-x7k2p",
        "flow": FLOW.model_copy(update={"batch": 1, "requested_by": "deployer"}),
        "app": APP,
        "warning": True,
        "reason": "FailedScheduling",
        "message": "0/3 nodes are available",
        "component": "default-scheduler",
        "count": 2,
    }
    return ClusterEvent(**fields | changes)


def container_log(**changes: Any) -> ContainerLog:
    fields: dict[str, Any] = {
        "namespace": "shop",
        "instance": "web",
        "id": "uid-web-x7k2p:log:main:previous:abc",
        "at": START + 2000,
        "kind": "Pod",
        "name": "web-x7k2p",
        "uid": "uid-web-x7k2p",
        "flow": FLOW,
        "app": APP,
        "container": "main",
        "previous": True,
        "restarts": 2,
        "text": "starting\npanic: no database",
    }
    return ContainerLog(**fields | changes)


def pods_seen(*pods: PodFact, at: int = START + 900, **changes: Any) -> PodsSeen:
    return PodsSeen(namespace="shop", instance="web", pods=list(pods), at=at, **{"app": APP, **changes})


def cloneset_event(**changes: Any) -> CloneSetEvent:
    facts = CloneSetFacts(
        uid="cs-1", generation=4, replicas=4, partition=3, update_revision="web-6d5f", sequence=7
    )
    fields: dict[str, Any] = {
        "namespace": "shop",
        "instance": "web",
        "id": "cs-1:4:101",
        "at": START + 20,
        "reason": "SpecChanged",
        "message": "replicas 3 → 4, partition 3",
        "cloneset": facts,
        "flow": FLOW,
        "app": APP,
    }
    return CloneSetEvent(**fields | changes)


def record(message: Message, offset: int = 0) -> Record:
    value = message.model_dump_json(exclude_defaults=True).encode()
    return Record(TOPIC_OF[type(message)], str(message.key), value, {}, 0, offset, START)
