"""What stands in the release log about each fact."""

from __future__ import annotations

import pytest

from services.events.documents import documents
from shared.domain.deployflow import BatchPhase, FlowPhase, PodPhase
from shared.domain.messages import Message, PodGone
from shared.event_store import Document, Stream
from shared.event_store.fitting import misfit
from shared.event_store.templates import fields
from tests.unit.events.samples import (
    START,
    came,
    cloneset_event,
    cluster_event,
    container_log,
    flow_event,
    pod,
    pods_seen,
)


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
        flow_event(
            batch_phase=BatchPhase.SMOKED,
            reason="Smoked",
            message="press next to send it traffic",
            duration_ms=1200,
        )
    )
    assert document.stream == Stream.DEPLOYFLOW
    assert document.id == "flow-1:1"
    source = document.source
    assert source["@timestamp"] == "2025-11-21T10:13:20.001Z"
    assert source["message"] == "web-kvn6b batch 1/3 (canary): Smoked: press next to send it traffic"
    assert source["user"] == {"name": "deployer"}
    assert source["trace"] == {"id": "flow1"}
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
        "step": "surge",
        "canary": True,
        "release_requested_by": "deployer",
        "reason": "Smoked",
        "message": "press next to send it traffic",
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


def test_what_somebody_requested_is_no_failure_though_the_batch_has_failed() -> None:
    requested = flow_event(batch_phase=BatchPhase.SMOKE_FAILED, command="cancel", reason="CancelRequested")
    event = only(requested).source["event"]
    assert (event["outcome"], event["type"]) == ("unknown", ["change"])


def test_an_event_before_the_first_batch_has_no_batch() -> None:
    source = only(
        flow_event(reason="Planned", message="3 batches", batch=0, batch_phase=None, batches=3)
    ).source
    assert source["message"] == "web-kvn6b: Planned: 3 batches"
    assert "batch" not in source["triton"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("created", "pod web-x7k2p is made"),
        ("scheduled", "pod web-x7k2p is scheduled to node-1"),
        ("started", "pod web-x7k2p runs, its containers are starting"),
        ("containers-ready", "pod web-x7k2p has all containers ready"),
        ("pulled-in", "pod web-x7k2p is pulled in"),
        ("ready", "pod web-x7k2p is Ready and takes traffic"),
        ("unready", "pod web-x7k2p is not Ready any more"),
        ("pulled-out", "pod web-x7k2p is pulled out and takes no traffic"),
        ("restarted", "pod web-x7k2p has a container that was started again"),
        ("waiting", "pod web-x7k2p makes no progress"),
        ("failed", "pod web-x7k2p failed"),
        ("terminating", "pod web-x7k2p is terminating"),
        ("hatched", "pod web-x7k2p is hatched"),
    ],
)
def test_a_pod_says_what_it_has_come_to(name: str, message: str) -> None:
    source = only(pods_seen(pod(node="node-1", transitions=[came(name)]))).source
    assert source["event"]["action"] == f"pod-{name}"
    assert source["message"] == message
    assert source["kubernetes"]["pod"] == {"name": "web-x7k2p", "uid": "uid-web-x7k2p"}


def test_a_pod_says_which_release_batch_application_and_person_it_is_about() -> None:
    source = only(pods_seen(pod())).source
    assert source["user"] == {"name": "deployer"}
    assert source["trace"] == {"id": "flow1"}
    wanted = {
        "instance": "web",
        "deployflow": "web-kvn6b",
        "uid": "flow-1",
        "batch": 1,
        "application": "deploy-demo-hello",
        "application_id": 12122,
        "group": 10010,
        "revision": "web-6d5f",
        "phase": "Running",
        "age_ms": 812,
    }
    assert wanted.items() <= source["triton"].items()


def test_what_happened_to_a_pod_while_no_release_was_under_way_names_none() -> None:
    source = only(pods_seen(pod(flow=None))).source
    assert "deployflow" not in source["triton"]
    assert source["triton"]["application"] == "deploy-demo-hello"
    assert "trace" not in source


def test_why_a_pod_failed_is_part_of_the_sentence_and_can_be_searched() -> None:
    crash = came("failed", reason="CrashLoopBackOff", message="container app, exit code 1")
    source = only(pods_seen(pod(phase=PodPhase.FAILED, transitions=[crash]))).source
    assert source["message"] == "pod web-x7k2p failed: CrashLoopBackOff: container app, exit code 1"
    assert (source["event"]["reason"], source["event"]["outcome"]) == ("CrashLoopBackOff", "failure")


def test_a_pod_event_reports_when_it_happened_and_how_long_it_took() -> None:
    source = only(pods_seen(pod(transitions=[came(since=START + 100)]), at=START + 900)).source
    assert source["@timestamp"] == "2025-11-21T10:13:20.812Z"
    assert source["event"]["created"] == "2025-11-21T10:13:20.900Z"
    assert source["event"]["start"] == "2025-11-21T10:13:20.100Z"
    assert source["event"]["duration"] == 712_000_000
    assert source["triton"]["age_ms"] == 812


def test_what_took_an_unknown_time_has_no_duration() -> None:
    assert "duration" not in only(pods_seen(pod(transitions=[came(since=0)]))).source["event"]


def test_a_state_that_has_brought_nothing_new_is_no_document() -> None:
    assert documents(pods_seen(pod(transitions=[]), complete=True), 5) == []


def test_everything_in_a_message_is_a_document_in_its_order() -> None:
    many = pod("web-a", transitions=[came("started"), came("containers-ready")])
    last = pod("web-c", transitions=[came("terminating")])
    ended = PodGone(uid="uid-web-c", name="web-c", at=START + 3000, since=START + 1000, last=last)
    made = documents(pods_seen(many, pod("web-b"), gone=[ended]), 5)
    assert [(d.source["kubernetes"]["pod"]["name"], d.source["event"]["action"]) for d in made] == [
        ("web-a", "pod-started"),
        ("web-a", "pod-containers-ready"),
        ("web-b", "pod-started"),
        ("web-c", "pod-terminating"),
        ("web-c", "pod-gone"),
    ]
    gone = made[-1]
    assert gone.id == "uid-web-c:gone"
    assert gone.source["event"]["duration"] == 2_000_000_000
    assert gone.source["triton"]["revision"] == "web-6d5f"
    sequences = [document.source["event"]["sequence"] for document in made]
    assert sequences == sorted(sequences)
    (after,) = documents(pods_seen(pod()), 6)
    assert after.source["event"]["sequence"] > sequences[-1]


def test_a_pod_whose_last_state_is_not_known_is_gone_all_the_same() -> None:
    document = only(pods_seen(gone=[PodGone(uid="uid-web-c", name="web-c")]))
    assert (document.id, document.source["message"]) == ("uid-web-c:gone", "pod web-c is gone")


def test_a_transition_reported_again_after_a_rebalance_has_the_same_id_and_another_one_has_not() -> None:
    first = only(pods_seen(pod(), at=START + 900))
    again = only(pods_seen(pod(ip="10.1.2.3"), at=START + 60_000, complete=True))
    other = only(pods_seen(pod(transitions=[came(id="started:2")])))
    assert first.id == again.id != other.id


def test_a_command_says_who_sent_it() -> None:
    event = flow_event(command="next", request="r-1", reason="GoAhead", requested_by="on-call")
    source = only(event).source
    assert (source["triton"]["command"], source["triton"]["request"]) == ("next", "r-1")
    assert source["user"] == {"name": "on-call"}


def test_a_release_event_says_how_old_the_release_is() -> None:
    source = only(flow_event(at=START + 5000, started_at=START + 1000)).source
    assert source["triton"]["age_ms"] == 4000


@pytest.mark.parametrize(
    ("reason", "phase", "step"),
    [
        ("BatchSmoking", BatchPhase.SMOKING, "surge"),
        ("BatchSmokeFailed", BatchPhase.SMOKE_FAILED, "surge"),
        ("BatchBaking", BatchPhase.BAKING, "pull_in"),
        ("BatchBaked", BatchPhase.BAKED, "pull_in"),
        ("BatchFinished", BatchPhase.BAKED, "retire"),
    ],
)
def test_a_batch_event_says_which_of_its_commands_it_belongs_to(
    reason: str, phase: BatchPhase, step: str
) -> None:
    assert only(flow_event(reason=reason, batch_phase=phase)).source["triton"]["step"] == step


def test_the_clusters_own_event_says_whose_word_it_is() -> None:
    document = only(cluster_event())
    source = document.source
    assert (document.stream, document.id) == (Stream.POD, "event-1:2")
    assert source["message"] == "Pod web-x7k2p: FailedScheduling: 0/3 nodes are available"
    assert (source["event"]["provider"], source["event"]["action"]) == (
        "default-scheduler",
        "failed-scheduling",
    )
    assert source["kubernetes"]["event"] == {"type": "Warning", "count": 2}
    assert source["event"]["outcome"] == "failure"
    assert source["triton"]["deployflow"] == "web-kvn6b"


def test_the_clusters_own_event_about_a_cloneset_stands_with_it() -> None:
    document = only(cluster_event(kind="CloneSet", name="web", warning=False, reason="SuccessfulCreate"))
    assert document.stream == Stream.CLONESET
    assert document.source["kubernetes"]["event"]["type"] == "Normal"
    assert "pod" not in document.source["kubernetes"]


def test_the_last_lines_of_a_container_say_which_run_wrote_them() -> None:
    source = only(container_log()).source
    assert source["message"].startswith("pod web-x7k2p, container main before its last start, last lines:\n")
    assert source["container"] == {"name": "main"}
    assert source["triton"]["log"] == "starting\npanic: no database"
    assert source["triton"]["log_previous"] is True


def test_the_cluster_is_named_where_it_has_a_name() -> None:
    (named,) = documents(flow_event(), 5, "berlin-1")
    assert named.source["orchestrator"]["cluster"] == {"name": "berlin-1"}
    assert "cluster" not in only(flow_event()).source["orchestrator"]


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
        flow_event(
            message="m",
            revision="r",
            duration_ms=1,
            failed_replicas=1,
            command="next",
            request="r-1",
            started_at=START,
        ),
        pods_seen(
            pod(
                ip="10.1.2.3",
                port=80,
                node="n",
                image="nginx",
                restarts=2,
                sequence=3,
                transitions=[came(reason="r", message="m")],
            ),
        ),
        pods_seen(gone=[PodGone(uid="uid", name="web-a")]),
        cluster_event(),
        cluster_event(kind="CloneSet"),
        container_log(),
        cloneset_event(),
    ],
    ids=["deployflow", "pod", "gone", "event of a pod", "event of a cloneset", "log", "cloneset"],
)
def test_every_field_of_a_document_can_be_searched_and_is_taken(message: Message) -> None:
    (document,) = documents(message, 5, "berlin-1")
    assert flat(document.source) <= fields(document.stream).keys()
    assert misfit(document) == ""
