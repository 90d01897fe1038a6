"""What the log is found of a pod: each thing that it comes to, once, in order, with the time that it took."""

from __future__ import annotations

from typing import Any

import pytest

from services.readiness.pod_transitions import RECENT_MS, transitions_between
from shared.domain.deployflow import READINESS_GATE
from shared.domain.json_types import Json
from shared.domain.messages import Transition
from shared.kube.pods import Pod
from tests.unit.readiness.samples import AT, CREATED, conditions, pod

LATER = "2026-01-01T00:00:05Z"
SCHEDULED: Json = {"conditions": conditions(PodScheduled=True)}


def running(restarts: int = 0, **more: Any) -> Json:
    container: Json = {"name": "main", "ready": True, "restartCount": restarts}
    container |= {"state": {"running": {"startedAt": CREATED}}, **more}
    return {
        "phase": "Running",
        "containerStatuses": [container],
        "conditions": conditions(PodScheduled=True),
    }


def up(**extra: bool | str) -> Json:
    status = running()
    return {**status, "conditions": conditions(PodScheduled=True, ContainersReady=CREATED, **extra)}


def waiting(reason: str, message: str = "", restarts: int = 0) -> Json:
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "phase": "Pending",
        "conditions": conditions(PodScheduled=True),
        "containerStatuses": [{"name": "main", "restartCount": restarts, "state": state}],
    }


def names(found: list[Transition]) -> list[str]:
    return [transition.name for transition in found]


def story(*states: tuple[int, Pod]) -> list[Transition]:
    """What is found of a pod that is seen in these states, each so many ms after it was made."""
    found: list[Transition] = []
    times: dict[str, int] = {}
    before: Pod | None = None
    for after, state in states:
        came = transitions_between(before, state, AT + after, times)
        times |= {transition.name: transition.at for transition in came}
        found += came
        before = state
    return found


def test_the_whole_way_of_a_pod_into_traffic_and_out_of_it_is_reported_in_order_with_its_times() -> None:
    found = story(
        (20, pod()),
        (50, pod(status=SCHEDULED)),
        (300, pod(status=running())),
        (700, pod(status=up())),
        (2000, pod(status=up(gate="2026-01-01T00:00:02Z", Ready=False), gate="closed")),
        (2100, pod(status=up(gate="2026-01-01T00:00:02Z", Ready="2026-01-01T00:00:02Z"))),
    )
    assert [(t.name, t.at - AT, t.since and t.since - AT) for t in found[:4]] == [
        ("created", 20, 0),
        ("scheduled", 50, 20),
        ("started", 300, 50),
        ("containers-ready", 700, 300),
    ]
    assert [(t.name, t.at - AT, t.since - AT) for t in found[4:]] == [
        ("pulled-in", 2000, 700),
        ("ready", 2100, 2000),
    ]


def test_the_same_state_seen_again_reports_nothing() -> None:
    state = pod(status=up(gate=CREATED, Ready=CREATED))
    assert transitions_between(state, state, AT + 5, {}) == []


def test_two_readers_give_the_same_thing_the_same_id_whenever_they_see_it() -> None:
    state = pod(status=up(gate=CREATED, Ready=CREATED))
    first = transitions_between(None, state, AT + 1500, {})
    later = transitions_between(None, state, AT + 60_000, {})
    assert [t.id for t in first] == [t.id for t in later]
    assert names(first) == ["created", "scheduled", "started", "containers-ready", "pulled-in", "ready"]
    assert len({t.id for t in first}) == len(first)


def test_of_a_pod_seen_late_the_times_are_its_own_and_never_in_the_future() -> None:
    (created, *_) = transitions_between(None, pod(status=SCHEDULED), AT + 60_000, {})
    assert created.at == AT + 999
    (created, *_) = transitions_between(None, pod(status=SCHEDULED), AT + 40, {})
    assert created.at == AT + 40


def test_of_a_pod_seen_for_the_first_time_what_is_long_ago_is_not_reported() -> None:
    state = pod(status=up(gate="2026-01-01T09:00:00Z", Ready="2026-01-01T09:00:00Z"))
    nine = 9 * 3600 * 1000
    assert names(transitions_between(None, state, AT + nine + 100, {})) == ["pulled-in", "ready"]
    assert transitions_between(None, state, AT + nine + RECENT_MS + 2000, {}) == []


def test_a_pod_that_loses_ready_and_gets_it_back_is_reported_each_time() -> None:
    ready = pod(status=up(gate=CREATED, Ready=CREATED))
    lost = pod(status=up(gate=CREATED, Ready=False))
    back = pod(status=up(gate=CREATED, Ready=LATER))
    found = [
        *transitions_between(ready, lost, AT + 3000, {}),
        *transitions_between(lost, back, AT + 5100, {}),
    ]
    assert names(found) == ["unready", "ready"]
    assert found[0].reason == "ReadinessGatesNotReady"


def test_the_gate_closed_by_a_command_is_a_pull_out_and_not_a_loss_of_ready() -> None:
    inside = pod(status=up(gate=CREATED, Ready=CREATED))
    outside = pod(status=up(Ready=False), gate="out", sequence=7)
    (found,) = transitions_between(inside, outside, AT + 9000, {})
    assert (found.name, found.since) == ("pulled-out", AT)


def test_a_gate_that_nobody_has_touched_yet_is_no_pull_out() -> None:
    assert "pulled-out" not in names(transitions_between(None, pod(status=up()), AT + 900, {}))


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (SCHEDULED, waiting("ContainerCreating"), []),
        (SCHEDULED, waiting("ErrImagePull", "not found"), [("waiting", "ErrImagePull", "not found")]),
        (waiting("ErrImagePull"), waiting("ErrImagePull"), []),
        (
            waiting("ErrImagePull"),
            waiting("ImagePullBackOff", "no"),
            [("failed", "ImagePullBackOff", "container main: no")],
        ),
        (
            {},
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
            [("waiting", "Unschedulable", "")],
        ),
    ],
    ids=["as every pod", "one attempt failed", "the same", "failed", "nowhere to run"],
)
def test_what_is_in_the_way_is_reported_when_it_is_new(
    before: Json, after: Json, found: list[tuple[str, str, str]]
) -> None:
    came = transitions_between(pod(status=before), pod(status=after), AT + 800, {})
    assert [(t.name, t.reason, t.message) for t in came] == found


def test_each_crash_is_reported_with_the_start_before_it() -> None:
    end = {"terminated": {"exitCode": 1, "reason": "Error"}}
    first = waiting("CrashLoopBackOff", restarts=1)
    first["containerStatuses"][0]["lastState"] = end
    second = waiting("CrashLoopBackOff", restarts=2)
    second["containerStatuses"][0]["lastState"] = end
    found = story((100, pod(status=SCHEDULED)), (900, pod(status=first)), (4000, pod(status=second)))
    assert [(t.name, t.reason) for t in found[2:]] == [
        ("restarted", "Error"),
        ("failed", "CrashLoopBackOff"),
        ("restarted", "Error"),
        ("failed", "CrashLoopBackOff"),
    ]
    assert len({t.id for t in found}) == len(found)


def test_the_end_is_dated_to_the_order_and_not_to_the_end_of_the_grace_period() -> None:
    living = pod(status=up(gate=CREATED, Ready=CREATED))
    terminating = pod(
        status=up(gate=CREATED, Ready=False),
        deletionTimestamp="2026-01-01T00:00:30Z",
        deletionGracePeriodSeconds=30,
    )
    (found,) = transitions_between(living, terminating, AT + 1500, {})
    assert (found.name, found.at) == ("terminating", AT + 999)


def test_nothing_stands_before_what_was_reported_before_it() -> None:
    """The node's clock is behind."""
    found = transitions_between(pod(), pod(status=SCHEDULED), AT + 5000, {"created": AT + 4000})
    assert [t.at for t in found] == [AT + 4000]


def test_a_pod_without_our_gate_comes_into_traffic_with_its_containers() -> None:
    found = transitions_between(None, pod(status=up(Ready=CREATED), gate=None), AT + 900, {})
    assert names(found) == ["created", "scheduled", "started", "containers-ready", "ready"]
    assert READINESS_GATE not in str(found)


def test_a_pod_that_restarted_long_ago_is_not_reported_as_if_it_had_just_come() -> None:
    end = {"lastState": {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": CREATED}}}
    state = pod(
        status=running(restarts=1, **end) | {"conditions": up(gate=CREATED, Ready=CREATED)["conditions"]}
    )
    five_days = 5 * 24 * 3600 * 1000
    assert transitions_between(None, state, AT + five_days, {}) == []
    assert {t.at for t in transitions_between(None, state, AT + 60_000, {})} == {AT + 999}


def test_a_pod_that_came_back_into_traffic_took_its_time_from_the_loss() -> None:
    day = 24 * 3600 * 1000
    ready = pod(status=up(gate=CREATED, Ready=CREATED))
    lost = {"conditions": conditions(PodScheduled=True, ContainersReady=False, gate=CREATED, Ready=False)}
    down = pod(status=running() | lost)
    back = pod(status=up(gate=CREATED, Ready="2026-01-02T00:00:05Z"))
    (away,) = transitions_between(ready, down, AT + day, {})
    (again,) = transitions_between(down, back, AT + day + 5_100, {away.name: AT + day})
    assert (away.name, again.name, again.at - again.since) == ("unready", "ready", 5_100)


def test_a_long_word_of_a_container_is_cut() -> None:
    (found,) = transitions_between(
        pod(status=SCHEDULED), pod(status=waiting("ErrImagePull", "x" * 4000)), AT + 800, {}
    )
    assert len(found.message) == 400
