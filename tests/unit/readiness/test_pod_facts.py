"""What a pod's status comes to: its phase, and whether it has failed and why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.readiness.pod_facts import FAILED_WAITING, fact_of
from shared.domain.json_types import Json
from shared.domain.messages import Gate, PodFact, PodsSeen
from tests.unit.readiness.samples import AT, UP, conditions, pod


def container(reason: str = "", message: str = "", last: Json | None = None, restarts: int = 0) -> Json:
    state = {"waiting": {"reason": reason, "message": message}} if reason else {"running": {}}
    return {
        "name": "main",
        "restartCount": restarts,
        "state": state,
        "lastState": {"terminated": last} if last else {},
    }


BACK_OFF = "back-off restarting failed container"
CASES: list[Any] = [
    pytest.param({}, "Pending", "", "", id="just made"),
    pytest.param(
        {
            "phase": "Pending",
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/5 nodes are available",
                }
            ],
        },
        "Pending",
        "Unschedulable",
        "0/5 nodes are available",
        id="unschedulable",
    ),
    pytest.param(
        {
            "phase": "Pending",
            "conditions": conditions(PodScheduled=True),
            "containerStatuses": [container("ContainerCreating")],
        },
        "Pending",
        "ContainerCreating",
        "",
        id="its containers are being made",
    ),
    pytest.param(
        {"phase": "Pending", "containerStatuses": [container("ErrImagePull", "not found")]},
        "Pending",
        "ErrImagePull",
        "not found",
        id="one failed pull is no failure yet",
    ),
    pytest.param(
        {"phase": "Pending", "containerStatuses": [container("ImagePullBackOff", "Back-off pulling image")]},
        "Failed",
        "ImagePullBackOff",
        "container main: Back-off pulling image",
        id="the image can't be pulled",
    ),
    pytest.param(
        {"phase": "Pending", "initContainerStatuses": [container("CreateContainerConfigError", "no secret")]},
        "Failed",
        "CreateContainerConfigError",
        "container main: no secret",
        id="an init container's configuration is wrong",
    ),
    pytest.param(
        {"phase": "Running", "conditions": conditions(Initialized=True), "containerStatuses": [container()]},
        "Running",
        "",
        "",
        id="running",
    ),
    pytest.param(
        {"phase": "Running", "containerStatuses": [container(restarts=1, last={"exitCode": 1})]},
        "Running",
        "",
        "",
        id="one restart by itself is no failure",
    ),
    pytest.param(
        {
            "phase": "Running",
            "containerStatuses": [
                container(
                    "CrashLoopBackOff", BACK_OFF, {"exitCode": 137, "reason": "OOMKilled", "message": "bye"}
                )
            ],
        },
        "Failed",
        "CrashLoopBackOff",
        f"container main: {BACK_OFF} (exit code 137, OOMKilled): bye",
        id="a crash loop says the exit code and the last words",
    ),
    pytest.param(
        {"phase": "Running", "containerStatuses": [container("CrashLoopBackOff", BACK_OFF, {"exitCode": 3})]},
        "Failed",
        "CrashLoopBackOff",
        f"container main: {BACK_OFF} (exit code 3)",
        id="a crash loop without words",
    ),
    pytest.param(
        {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
        "Failed",
        "Evicted",
        "low on memory",
        id="evicted",
    ),
    pytest.param({"phase": "Failed"}, "Failed", "Failed", "", id="failed without a reason"),
    pytest.param(UP, "ContainersReady", "", "", id="containers ready, gate closed"),
    pytest.param(
        {"phase": "Running", "conditions": conditions(ContainersReady=True, Ready=True)},
        "Ready",
        "",
        "",
        id="ready",
    ),
]


@pytest.mark.parametrize(("status", "phase", "reason", "message"), CASES)
def test_a_pods_status_results_in_one_phase_with_its_reason(
    status: Json, phase: str, reason: str, message: str
) -> None:
    fact = fact_of(pod(status=status))
    assert (fact.phase, fact.reason, fact.message) == (phase, reason, message)


@pytest.mark.parametrize("reason", sorted(FAILED_WAITING))
def test_a_ready_pod_of_which_one_container_fails_has_failed(reason: str) -> None:
    status = {**UP, "containerStatuses": [container(), {**container(reason), "name": "sidecar"}]}
    fact = fact_of(pod(status=status))
    assert (fact.phase, fact.reason) == ("Failed", reason)
    assert fact.message.startswith("container sidecar")


def test_a_fact_says_who_the_pod_is_and_where_it_runs() -> None:
    fact = fact_of(pod(status={**UP, "containerStatuses": [container(restarts=2), container(restarts=1)]}))
    assert (fact.uid, fact.name, fact.revision) == ("uid-web-1", "web-1", "new")
    assert (fact.ip, fact.port, fact.node, fact.image, fact.restarts) == (
        "10.1.1.1",
        80,
        "node-1",
        "demo:1",
        3,
    )
    assert fact.created_at == AT


@pytest.mark.parametrize(
    ("gate", "sequence", "expected"),
    [
        (None, None, (Gate.NONE, 0)),
        ("closed", None, (Gate.CLOSED, 0)),
        ("out", 7, (Gate.CLOSED, 7)),
        ("open", 8, (Gate.OPEN, 8)),
        ("open", None, (Gate.OPEN, 0)),
    ],
)
def test_a_fact_has_the_gate_and_which_command_wrote_it(
    gate: str | None, sequence: int | None, expected: tuple[Gate, int]
) -> None:
    fact = fact_of(pod(gate=gate, sequence=sequence, status=UP))
    assert (fact.gate, fact.sequence) == expected


def test_a_ready_pod_says_that_no_release_claimed_it() -> None:
    status = {"phase": "Running", "conditions": conditions(ContainersReady=True, Ready=True)}
    ours, nobodys = (
        fact_of(pod(gate="open", status=status, reason=why)) for why in ("PulledIn", "Unclaimed")
    )
    assert (ours.phase, ours.reason, ours.message) == ("Ready", "", "")
    assert (nobodys.phase, nobodys.reason) == ("Ready", "Unclaimed")
    assert "no release claims it" in nobodys.message


@pytest.mark.parametrize(
    "scribble", ["sequence", "sequence ", "sequence x", "sequence -1", "sequence ²", "hello"]
)
def test_a_gate_with_somebody_elses_message_was_written_by_no_command(scribble: str) -> None:
    status = {"conditions": [{"type": "apps.triton.io/ready", "status": "True", "message": scribble}]}
    assert fact_of(pod(status=status)).sequence == 0


def test_a_pod_that_is_being_deleted_serves_no_more_whatever_its_conditions_say() -> None:
    status = {"phase": "Running", "conditions": conditions(ContainersReady=True, Ready=True)}
    fact = fact_of(pod(status=status, gate="open", deletionTimestamp="2026-01-01T00:01:00Z"))
    assert (fact.deleting, fact.ready, fact.containers_ready) == (True, False, False)


def test_a_deleted_pod_left_when_it_was_deleted_not_when_its_grace_has_passed() -> None:
    fact = fact_of(pod(deletionTimestamp="2026-01-01T00:01:00Z", deletionGracePeriodSeconds=45))
    assert fact.at == AT + 15_000


@pytest.mark.parametrize(
    ("status", "at"),
    [
        pytest.param({}, AT, id="without conditions: since it was made"),
        pytest.param(
            {"conditions": conditions(PodScheduled="2026-01-01T00:00:03Z")}, AT + 3000, id="pending"
        ),
        pytest.param(
            {"phase": "Running", "conditions": conditions(Initialized="2026-01-01T00:00:04Z")},
            AT + 4000,
            id="running",
        ),
        pytest.param(
            {"conditions": conditions(ContainersReady="2026-01-01T00:00:05Z")},
            AT + 5000,
            id="containers ready",
        ),
        pytest.param(
            {"conditions": conditions(ContainersReady=True, Ready="2026-01-01T00:00:06Z")},
            AT + 6000,
            id="ready",
        ),
        pytest.param(
            {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": None}]},
            AT,
            id="no time expected",
        ),
    ],
)
def test_a_fact_says_since_when_by_the_pods_own_conditions(status: Json, at: int) -> None:
    assert fact_of(pod(status=status)).at == at


def test_a_thousand_crashing_pods_with_long_last_words_fit_into_one_message() -> None:
    words = "ü\n" * 2000  # the kubelet keeps 4 KB
    status = {
        "containerStatuses": [container("CrashLoopBackOff", BACK_OFF, {"exitCode": 1, "message": words})]
    }
    facts = [fact_of(pod(f"web-{n:030}", status=status, gate="open", sequence=n)) for n in range(1000)]
    message = PodsSeen(namespace="default", instance="web", pods=facts, at=0)
    assert len(message.model_dump_json().encode()) < 1_000_000
    assert "exit code 1" in facts[0].message


def test_a_fact_survives_the_way_through_kafka() -> None:
    fact = fact_of(pod(status=UP, gate="open", sequence=3))
    assert PodFact.model_validate(json.loads(fact.model_dump_json())) == fact
