"""What stands in the release log about each fact."""

from __future__ import annotations

from typing import Any

import pytest

from services.events.documents import documents, happened
from shared.deployflow import BatchPhase, FlowPhase, PodPhase
from shared.event_store import Document, Stream
from shared.event_store.templates import fields
from shared.messages import Gate, Message, PodFact, PodGone
from tests.unit.events.samples import START, cloneset_event, flow_event, pod, pods_seen


def only(message: Message) -> Document:
    (document,) = documents(message, 5)
    return document


def flat(source: dict[str, object], prefix: str = "") -> set[str]:
    names: set[str] = set()
    for name, value in source.items():
        names |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return names


def test_a_batch_phase_says_which_release_batch_and_person_it_is_about() -> None:
    document = only(
        flow_event(batch_phase=BatchPhase.SMOKED, reason="Smoked", message="waits for next", duration_ms=1200)
    )
    assert document.stream == Stream.DEPLOYFLOW
    assert document.id == "flow-1:1"
    source = document.source
    assert source["@timestamp"] == "2025-11-21T10:13:20.001Z"
    assert source["message"] == "web-kvn6b batch 1/3 (canary): Smoked: waits for next"
    assert source["user"] == {"name": "anna"}
    assert source["kubernetes"] == {"namespace": "shop"}
    assert source["event"]["action"] == "smoked"
    assert source["event"]["outcome"] == "success"
    assert source["event"]["duration"] == 1_200_000_000
    assert source["event"]["start"] == "2025-11-21T10:13:18.801Z"
    assert source["triton"] == {
        "instance": "web",
        "deployflow": "web-kvn6b",
        "uid": "flow-1",
        "application": "deploy-demo-hello",
        "application_id": 12122,
        "group": 10010,
        "action": "update",
        "phase": "BatchStarted",
        "batches": 3,
        "batch": 1,
        "batch_phase": "Smoked",
        "batch_size": 1,
        "canary": True,
        "reason": "Smoked",
        "message": "waits for next",
    }


@pytest.mark.parametrize(
    ("phase", "batch_phase", "outcome"),
    [
        (FlowPhase.BATCH_STARTED, BatchPhase.SMOKING, "unknown"),
        (FlowPhase.BATCH_STARTED, BatchPhase.SMOKE_FAILED, "failure"),
        (FlowPhase.BATCH_STARTED, BatchPhase.BAKE_FAILED, "failure"),
        (FlowPhase.BATCH_FINISHED, BatchPhase.BAKED, "success"),
        (FlowPhase.SUCCESS, BatchPhase.BAKED, "success"),
        (FlowPhase.CANCELED, BatchPhase.SMOKE_FAILED, "unknown"),
        (FlowPhase.FAILED, BatchPhase.BAKED, "failure"),
    ],
)
def test_the_outcome_of_a_release_event(phase: FlowPhase, batch_phase: BatchPhase, outcome: str) -> None:
    assert only(flow_event(phase=phase, batch_phase=batch_phase)).source["event"]["outcome"] == outcome


def test_an_event_before_the_first_batch_has_no_batch() -> None:
    source = only(
        flow_event(reason="Planned", message="3 batches", batch=0, batch_phase=None, batches=3)
    ).source
    assert source["message"] == "web-kvn6b: Planned: 3 batches"
    assert "batch" not in source["triton"]


@pytest.mark.parametrize(
    ("fact", "action", "message"),
    [
        (pod(phase=PodPhase.PENDING), "pod-pending", "pod web-x7k2p is pending"),
        (pod(), "pod-running", "pod web-x7k2p runs, its containers are starting"),
        (
            pod(phase=PodPhase.CONTAINERS_READY, containers_ready=True),
            "pod-containers-ready",
            "pod web-x7k2p has all containers ready, without traffic",
        ),
        (
            pod(phase=PodPhase.CONTAINERS_READY, containers_ready=True, gate=Gate.OPEN, sequence=8),
            "pod-pulled-in",
            "pod web-x7k2p is pulled in, not Ready yet",
        ),
        (
            pod(phase=PodPhase.READY, containers_ready=True, gate=Gate.OPEN, ready=True),
            "pod-ready",
            "pod web-x7k2p is Ready and takes traffic",
        ),
        (
            pod(phase=PodPhase.CONTAINERS_READY, containers_ready=True, sequence=9),
            "pod-pulled-out",
            "pod web-x7k2p is pulled out and takes no traffic",
        ),
        (
            pod(phase=PodPhase.FAILED, reason="CrashLoopBackOff", message="container app, exit code 1"),
            "pod-failed",
            "pod web-x7k2p failed: CrashLoopBackOff: container app, exit code 1",
        ),
        (pod(phase=PodPhase.READY, deleting=True), "pod-terminating", "pod web-x7k2p is terminating"),
    ],
)
def test_a_pod_says_what_it_has_come_to(fact: PodFact, action: str, message: str) -> None:
    source = only(pods_seen(fact)).source
    assert source["event"]["action"] == action
    assert source["message"] == message
    assert source["kubernetes"]["pod"] == {"name": "web-x7k2p", "uid": "uid-web-x7k2p"}


def test_a_pod_event_tells_how_long_it_took_since_the_pod_was_made() -> None:
    assert only(pods_seen(pod(), at=START + 812)).source["event"]["duration"] == 812_000_000


def test_a_pull_in_is_dated_to_the_opening_of_the_gate_not_to_the_phase() -> None:
    opened = pod(phase=PodPhase.CONTAINERS_READY, containers_ready=True, gate=Gate.OPEN, at=START + 812)
    assert only(pods_seen(opened, at=START + 30_000)).source["@timestamp"] == "2025-11-21T10:13:50.000Z"


def test_the_state_told_anew_after_a_rebalance_is_dated_to_when_it_came_about() -> None:
    old = pods_seen(pod(at=START + 812), at=START + 60_000, complete=True)
    assert only(old).source["@timestamp"] == "2025-11-21T10:13:20.812Z"


def test_every_pod_of_a_message_and_every_gone_one_is_a_document() -> None:
    made = documents(pods_seen(pod("web-a"), pod("web-b"), gone=[PodGone(uid="uid-web-c", name="web-c")]), 5)
    assert [document.source["event"]["action"] for document in made] == [
        "pod-running",
        "pod-running",
        "pod-gone",
    ]
    assert made[2].id == "uid-web-c:gone"
    assert made[2].source["message"] == "pod web-c is gone"


def test_a_fact_told_again_after_a_rebalance_has_the_same_id() -> None:
    first = only(pods_seen(pod(), at=START + 900))
    again = only(pods_seen(pod(ip="10.1.2.3"), at=START + 60_000, complete=True))
    assert first.id == again.id


@pytest.mark.parametrize(
    "news",
    [
        {"phase": PodPhase.CONTAINERS_READY},
        {"ready": True},
        {"gate": Gate.OPEN},
        {"deleting": True},
        {"restarts": 1},
        {"reason": "CrashLoopBackOff"},
        {"at": START + 5_000},
    ],
)
def test_what_is_new_about_a_pod_is_a_new_document(news: dict[str, Any]) -> None:
    assert only(pods_seen(pod())).id != only(pods_seen(pod(**news))).id


def test_a_cloneset_event_gives_its_counts() -> None:
    source = only(cloneset_event()).source
    assert source["message"] == (
        "CloneSet web: SpecChanged: replicas 3 → 4, partition 3 (0 updated and ready, 0 ready, 4 wanted)"
    )
    assert source["triton"]["partition"] == 3
    assert source["triton"]["sequence"] == 7
    assert source["triton"]["hold"] is False


@pytest.mark.parametrize(
    "message",
    [
        flow_event(message="m", revision="r", duration_ms=1, failed_replicas=1),
        pods_seen(
            pod(
                ip="10.1.2.3",
                port=80,
                node="n",
                image="nginx",
                restarts=2,
                reason="r",
                message="m",
                sequence=3,
            ),
        ),
        pods_seen(gone=[PodGone(uid="uid", name="web-a")]),
        cloneset_event(),
    ],
    ids=["deployflow", "pod", "gone", "cloneset"],
)
def test_every_field_of_a_document_can_be_searched(message: Message) -> None:
    document = only(message)
    assert flat(document.source) <= fields(document.stream).keys()


@pytest.mark.parametrize(
    ("at", "seen", "news", "expected"),
    [
        (START, START + 300, True, START + 300),
        (START, START + 300, False, START + 300),
        (START, START + 60_000, False, START + 999),
        (START + 250, START + 300, False, START + 250),
        (START + 30_000, START + 40, False, START + 40),
    ],
    ids=["news", "seen within the second", "seen much later", "exact", "a deletion with a grace period"],
)
def test_the_time_of_a_fact_stands_neither_before_its_cause_nor_after_it_was_seen(
    at: int, seen: int, news: bool, expected: int
) -> None:
    assert happened(at, seen, news=news) == expected
