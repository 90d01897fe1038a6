"""What is found out about pods in trouble: which are checked, what is requested, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
import uvloop

from services.readiness import trouble_details as module
from services.readiness.pod_facts import Detail, fact_of
from services.readiness.trouble_details import (
    PODS_OF_A_REVISION,
    TroubleDetails,
    is_in_trouble,
    last_lines,
    newest_event,
    run_of,
)
from shared.domain.json_types import Json
from shared.domain.messages import ContainerLog, FlowRef
from shared.errors import Unavailable
from shared.kube import client as k8s
from shared.kube.pods import Pod
from tests.unit.parts import KEY, until
from tests.unit.readiness.samples import AT, UP, conditions, pod

SCALED_DOWN = 0.01


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECHECK_SECONDS", SCALED_DOWN)
    monkeypatch.setattr(module, "FIRST_CHECK_SECONDS", SCALED_DOWN)


def container(name: str = "main", reason: str = "", *, restarts: int = 0, ready: bool = False) -> Json:
    state = {"waiting": {"reason": reason}} if reason else {"running": {}}
    last = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:09Z"}} if restarts else {}
    return {"name": name, "restartCount": restarts, "ready": ready, "state": state, "lastState": last}


def crashed(name: str = "web-1", restarts: int = 1, **meta: Any) -> Pod:
    return pod(name, {"containerStatuses": [container(reason="CrashLoopBackOff", restarts=restarts)]}, **meta)


# --- what is requested ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "gate", "expected"),
    [
        pytest.param({}, "closed", True, id="not started"),
        pytest.param(UP, "closed", False, id="without traffic, as it should be"),
        pytest.param(UP, "open", True, id="gate open and not Ready"),
        pytest.param(
            {"conditions": conditions(ContainersReady=True, Ready=True)}, "open", False, id="serving"
        ),
        pytest.param({**UP, "phase": "Failed"}, "closed", True, id="evicted"),
    ],
)
def test_a_pod_is_in_trouble_when_it_is_not_as_it_should_be(status: Json, gate: str, expected: bool) -> None:
    assert is_in_trouble(pod(status=status, gate=gate)) == expected


@pytest.mark.parametrize(
    ("statuses", "requested"),
    [
        pytest.param(
            [container(reason="CrashLoopBackOff", restarts=2)], ("main", "true"), id="the run before"
        ),
        pytest.param([container(reason="ImagePullBackOff")], None, id="it never ran"),
        pytest.param([container(restarts=3)], ("main", None), id="it runs and is not ready"),
        pytest.param([container(ready=True)], None, id="all is well"),
        pytest.param(
            [container(), container("sidecar", "CrashLoopBackOff", restarts=1)],
            ("sidecar", "true"),
            id="the one that fails, not one that only waits for it",
        ),
    ],
)
def test_the_log_asked_for_is_that_of_the_container_and_the_run_that_failed(
    statuses: list[Json], requested: tuple[str, str | None] | None
) -> None:
    run = run_of(pod(status={"containerStatuses": statuses}))
    assert (run and (run.query["container"], run.query.get("previous"))) == requested


def test_an_init_container_comes_first() -> None:
    status = {
        "initContainerStatuses": [container("migrate", "CrashLoopBackOff", restarts=1)],
        "containerStatuses": [container(reason="PodInitializing")],
    }
    run = run_of(pod(status=status))
    assert run is not None
    assert run.container == "migrate"


def test_a_log_is_kept_as_few_plain_lines() -> None:
    assert last_lines("\x1b[31mone\x1b[0m\r\n\x07two\n\n") == "one\ntwo"
    assert last_lines("\n".join(str(n) for n in range(9))) == "4\n5\n6\n7\n8"
    kept = last_lines("ü" * 9000)
    assert kept == "ü" * 250


def test_the_newest_event_is_that_which_was_seen_last_however_it_says_so() -> None:
    def event(reason: str, **times: Any) -> Json:
        return {"reason": reason, "message": "a\nb", "lastTimestamp": None, "eventTime": None, **times}

    events = [
        event("First", lastTimestamp="2026-01-01T00:00:01Z"),
        event(
            "Series",
            eventTime="2026-01-01T00:00:00.000000Z",
            series={"lastObservedTime": "2026-01-01T00:00:03.000000Z"},
        ),
        event("Single", eventTime="2026-01-01T00:00:02.000000Z"),
    ]
    assert newest_event(events) == "Series: a b"
    assert newest_event([]) == ""


# --- since when ------------------------------------------------------------------------------------------


def test_a_pod_fails_since_its_containers_are_not_ready_whatever_its_gate_does() -> None:
    status = {
        "conditions": [
            {"type": "ContainersReady", "status": "False", "lastTransitionTime": "2026-01-01T00:00:05Z"}
        ],
        "containerStatuses": [container(reason="CrashLoopBackOff", restarts=1)],
    }
    assert fact_of(pod(status=status, gate="open")).since == AT + 5000


def test_without_a_condition_it_fails_since_its_container_ended() -> None:
    assert fact_of(crashed()).since == AT + 9000


def test_a_pod_with_an_open_gate_is_in_trouble_since_it_lost_ready() -> None:
    lost = {
        "conditions": [
            *conditions(ContainersReady=True),
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:07Z"},
            {"type": "theirs", "status": "False"},
        ]
    }
    fact = fact_of(pod(status=lost, gate="open"))
    assert fact.since == AT + 7000
    assert (fact.reason, fact.message) == ("ReadinessGatesNotReady", "readiness gate theirs is not open")
    assert fact_of(pod(status=lost, gate="closed")).since == 0


# --- asking ----------------------------------------------------------------------------------------------


class Cluster:
    """Takes the place of the client: answers with what it was set to, or fails with it."""

    def __init__(self) -> None:
        self.event: str | Exception = "Back-off"
        self.lines: str | Exception = "panic"
        self.requested: list[str] = []
        self.at_once = self.most = 0

    async def list_page(self, resource: k8s.Resource, namespace: str, query: dict[str, str]) -> bytes:
        assert (resource, namespace) == (k8s.EVENTS, "default")
        assert "type=Warning" in query["fieldSelector"]
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if isinstance(self.event, Exception):
            raise self.event
        return json.dumps({"items": [{"reason": "BackOff", "message": self.event}]}).encode()

    async def log(self, namespace: str, name: str, query: dict[str, str]) -> str:
        self.requested.append(name)
        if isinstance(self.lines, Exception):
            raise self.lines
        return self.lines


class Ward:
    """Details with the pods they are about; `republished`: their names."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.pods: dict[str, Pod] = {}
        self.owned = True
        self.republished: list[str] = []
        self.logs: list[ContainerLog] = []
        self.details = TroubleDetails(
            cast("k8s.Client", self.cluster),
            self.pods.get,
            lambda _: self.owned,
            lambda p: self.republished.append(p.metadata.name),
            self.logs.append,
            lambda _: FlowRef(name="web-2", uid="flow-2", batch=1),
        )

    def put(self, new: Pod) -> None:
        old = self.pods.get(new.metadata.uid)
        self.pods[new.metadata.uid] = new
        self.details.changed(old, new)

    def drop(self, gone: Pod) -> None:
        del self.pods[gone.metadata.uid]
        self.details.changed(gone, None)


async def test_the_details_of_a_failed_pod_are_published_once() -> None:
    ward = Ward()
    ward.put(crashed())
    assert ward.details.find(crashed()) == Detail()
    await until(lambda: len(ward.cluster.requested) == module.CHECKS)
    assert ward.details.find(crashed()) == Detail("BackOff: Back-off", "panic")
    assert ward.republished == ["web-1"]


async def test_of_a_failed_pod_the_log_keeps_the_last_lines_of_every_container_the_run_before_included() -> (
    None
):
    ward = Ward()
    ward.cluster.lines = "\n".join(f"line {n}" for n in range(40))
    both = [container("sidecar", ready=True), container(reason="CrashLoopBackOff", restarts=2)]
    ward.put(pod("web-1", {"containerStatuses": both}))
    await until(lambda: len(ward.logs) == 2)
    side, main = ward.logs
    assert (side.container, side.previous, side.restarts) == ("sidecar", False, 0)
    assert (main.container, main.previous, main.restarts) == ("main", True, 2)
    assert main.text.splitlines() == [f"line {n}" for n in range(10, 40)]
    assert (main.name, main.uid, main.instance) == ("web-1", "uid-web-1", "web")
    assert main.flow == FlowRef(name="web-2", uid="flow-2", batch=1)
    await until(lambda: ward.details.find(crashed()).log != "")
    assert ward.details.find(crashed()).log.splitlines() == [f"line {n}" for n in range(35, 40)]


async def test_the_same_lines_are_kept_once_and_new_ones_again() -> None:
    ward = Ward()
    ward.put(crashed())
    await until(lambda: len(ward.cluster.requested) >= 3)
    ward.cluster.lines = "another end"
    await until(lambda: len(ward.logs) == 2)
    assert [log.text for log in ward.logs] == ["panic", "another end"]
    assert ward.logs[0].id != ward.logs[1].id


def test_pods_that_crash_at_once_are_no_trouble_on_the_loop_that_services_run_on() -> None:
    async def crash() -> None:
        ward = Ward()
        for n in range(3):
            ward.put(crashed(f"web-{n}"))
        await until(lambda: len(ward.republished) == 3)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(crash())


async def test_what_comes_later_is_published_too_and_what_is_gone_by_then_is_kept() -> None:
    ward = Ward()
    ward.cluster.event = ""
    ward.cluster.lines = k8s.ApiError(400, "BadRequest", "previous terminated container not found")
    ward.put(crashed())
    await until(lambda: ward.cluster.requested)
    ward.cluster.lines = "panic"
    await until(lambda: ward.details.find(crashed()).log == "panic")
    ward.cluster.lines = ""
    await until(lambda: len(ward.cluster.requested) == module.CHECKS)
    assert ward.details.find(crashed()).log == "panic"


async def test_of_many_failing_pods_a_few_of_each_revision_are_asked_about_a_few_at_a_time() -> None:
    ward = Ward()
    for n in range(50):
        ward.put(crashed(f"new-{n:02}"))
        ward.put(crashed(f"old-{n:02}", labels={**pod().metadata.labels, "controller-revision-hash": "old"}))
    enough = 2 * PODS_OF_A_REVISION * module.CHECKS
    await until(lambda: len(ward.cluster.requested) >= enough)
    await until(lambda: not ward.details._timers)
    await ward.details._checks.drain(5)
    assert len(ward.cluster.requested) == enough
    assert len(set(ward.cluster.requested)) == 2 * PODS_OF_A_REVISION
    assert ward.cluster.most <= module.CONCURRENT_CHECKS


async def test_when_one_of_them_is_gone_another_takes_its_place() -> None:
    ward = Ward()
    pods = [crashed(f"web-{n}") for n in range(PODS_OF_A_REVISION + 1)]
    for one in pods:
        ward.put(one)
    await until(lambda: len(ward.republished) == PODS_OF_A_REVISION)
    ward.drop(next(one for one in pods if one.metadata.name == ward.republished[0]))
    await until(lambda: len(set(ward.republished)) == PODS_OF_A_REVISION + 1)


async def test_a_restart_is_worth_another_check() -> None:
    ward = Ward()
    ward.put(crashed())
    await until(lambda: len(ward.cluster.requested) == module.CHECKS)
    ward.cluster.lines = "another panic"
    ward.put(crashed(restarts=2))
    await until(lambda: ward.details.find(crashed()).log == "another panic")


async def test_a_pod_that_starts_in_time_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_CHECK_SECONDS", 0.1)
    ward = Ward()
    ward.put(pod("quick", {}))
    ward.put(pod("slow", {"containerStatuses": [container()]}))
    ward.put(pod("quick", UP, resourceVersion="2"))
    await until(lambda: ward.republished)
    assert set(ward.cluster.requested) == set(ward.republished) == {"slow"}


async def test_a_pod_that_has_recovered_has_no_details_any_more() -> None:
    ward = Ward()
    ward.put(crashed())
    await until(lambda: ward.republished)
    ward.put(pod(status=UP))
    assert ward.details.find(pod(status=UP)) == Detail()


async def test_pods_of_other_replicas_are_not_asked_about() -> None:
    ward = Ward()
    ward.put(crashed("mine"))
    ward.owned = False
    ward.put(crashed("theirs"))
    await until(lambda: not ward.details._timers)
    await ward.details._checks.drain(5)
    assert ward.cluster.requested == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Unavailable("kubelet answered 500"), "kubelet answered 500"),
        (
            k8s.ApiError(403, "Forbidden", 'pods "x" is forbidden: User "r" cannot get resource "pods/log"'),
            "give the readiness the rights of deploy/rbac",
        ),
    ],
)
async def test_a_cluster_without_logs_is_said_once_and_the_event_is_published_alone(
    caplog: pytest.LogCaptureFixture, error: Exception, says: str
) -> None:
    ward = Ward()
    ward.cluster.lines = error
    ward.put(crashed("a"))
    ward.put(crashed("b"))
    await until(lambda: len(ward.cluster.requested) == 2 * module.CHECKS)
    assert ward.details.find(crashed("a")) == Detail("BackOff: Back-off", "")
    (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("services.readiness")]
    assert line.startswith(f"failures of {KEY} are reported without the log of their pods: ")
    assert says in line


async def test_one_that_does_not_answer_is_not_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.02)
    ward = Ward()

    async def never(*_: Any) -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(ward.cluster, "log", never)
    ward.put(crashed())
    await until(lambda: ward.republished)
    assert "no answer within 0.02 s" in caplog.text
