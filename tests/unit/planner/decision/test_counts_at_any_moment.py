"""Somebody else scales at any moment between two messages, with one planner and with two that take turns."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.planner.model.state import Step
from services.planner.rules.approvals import may_reach
from services.planner.views.status import explain
from shared.domain import messages as m
from shared.domain.deployflow import BatchPhase
from shared.domain.json_types import Json
from tests.simulation.cluster import OLD
from tests.simulation.counts import CountsOfOthers
from tests.simulation.surroundings import TOPICS

NEW = "r1"
"""The release, and the revision of its pods."""
LONG: Json = {"startupTimeoutSeconds": 36_000, "pullInTimeoutSeconds": 36_000}
CANARY: Json = {**LONG, "mode": "auto", "canary": 1, "batchSize": 2}

ACTIONS: dict[str, Json] = {
    "update": {"replicas": 4},
    "update up": {"replicas": 7},
    "update down": {"replicas": 2},
    "restart": {"replicas": 4, "action": "restart"},
    "scale_out": {"replicas": 8, "action": "scale_out"},
    "scale_in": {"replicas": 1, "action": "scale_in"},
    "start": {"replicas": 6, "action": "start"},
    "stop": {"replicas": 4, "action": "stop"},
}
PLANNERS = {"one planner": 1, "two planners": 2}


def _counts(around: CountsOfOthers) -> dict[str, int]:
    return {revision: len(pods) for revision in (OLD, NEW) if (pods := around.of(revision))}


def _waits_for_a_person(around: CountsOfOthers) -> bool:
    flow = around.flow
    batch = flow.open_batch
    waits = flow.step == Step.SMOKED and batch is not None and batch.canary
    return waits and batch is not None and not may_reach(flow, batch.number, BatchPhase.BAKING)


def _surge_written(there: int = 4) -> CountsOfOthers:
    """A canary whose surge is written, before OpenKruise and the planner know of it."""
    around = CountsOfOthers(there)
    around.apply(CANARY, there)
    for _ in range(20):
        for topic in TOPICS:
            around.takes(topic)
        around.executor_works()
        if around.cluster.facts.hold is not None:
            return around
        around.executor_answers()
    raise AssertionError("no surge")


def _proven(around: CountsOfOthers, count: int) -> None:
    """Assert that the canary is one pod, and that as many old ones serve as somebody wants."""
    assert around.flow.step == Step.SMOKED
    assert _counts(around) == {OLD: count, NEW: 1}
    assert all(pod.ready for pod in around.of(OLD))
    assert not any(pod.open for pod in around.of(NEW))
    reason, message = explain(around.instance, around.flow)
    assert reason == "WaitingForNext"
    assert message.endswith(f"scaled to {count} by somebody else")


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7, 8])
def test_a_count_written_before_openkruise_has_seen_the_surge(count: int) -> None:
    around = _surge_written()
    around.scale_to(count)
    around.kruise_works()
    around.calms()
    _proven(around, count)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7, 8])
def test_pods_made_for_a_count_that_are_reported_after_the_answer_to_it(count: int) -> None:
    """The planner takes the count, observes and writes before any of the pods that were made for it exist."""
    around = _surge_written()
    around.settles()
    assert around.flow.step == Step.SMOKED
    for _ in range(2):
        around.scale_to(count + 1)
        around.time_passes(20_000)
        # the next command finds the count; OpenKruise is slower than the planner
        around.change(NEW, {"paused": True})
        around.change(NEW, {"paused": False})
        around.kruise_works()
        around.scale_to(count)
        for topic in TOPICS[:2]:
            around.takes(topic)
        around.executor_works()
        around.executor_answers()
    around.calms()
    _proven(around, count)


def test_a_count_is_kept_though_a_command_that_was_decided_on_it_is_delivered_again() -> None:
    """The executor is killed after it has rejected the command; two HPAs write in turns."""
    around = CountsOfOthers(3)
    around.apply(CANARY, 3)
    for _ in range(20):
        for topic in TOPICS:
            around.takes(topic)
        if around.executor and isinstance(around.executor[0], m.Surge):
            break
        around.executor_works()
        around.executor_answers()
    around.scale_to(1)
    around.executor_works()
    around.executor_answers()
    for topic in TOPICS:
        around.takes(topic)
    around.executor_works()
    around.executor_answers()
    around.scale_to(3)
    around.executor_starts_again(2)
    around.executor_works()
    around.calms()
    _proven(around, 3)


def _works_until(around: CountsOfOthers, kind: type[m.Command]) -> None:
    """Let planner and executor work until a command of this kind waits for the executor; OpenKruise makes no pod."""
    for _ in range(20):
        for topic in TOPICS:
            around.takes(topic)
        if around.executor and isinstance(around.executor[0], kind):
            return
        around.executor_works()
        around.executor_answers()
    raise AssertionError(f"no {kind.__name__}")


def test_a_count_that_was_written_before_is_kept_though_its_release_prepares_for_0() -> None:
    """Somebody scales to 0 and back before the command for the 0 is carried out: it finds Triton's own last count."""
    around = CountsOfOthers(3)
    around.apply({**LONG, "mode": "manual", "batchSize": 1}, 3)
    around.calms()
    around.advance()
    around.calms()
    assert around.flow.step == Step.BETWEEN
    around.scale_to(0)
    around.kruise_works()
    _works_until(around, m.Cancel)
    around.scale_to(3)
    around.calms()
    assert around.cluster.facts.replicas == 3
    for _ in range(10):
        around.advance()
        around.calms()
    assert around.flow.phase == "Success"
    assert _counts(around) == {NEW: 3}


def test_a_count_that_was_written_before_is_kept_though_its_release_is_halted() -> None:
    """The surge for the count in between is not carried out yet."""
    around = _surge_written()
    around.executor_answers()
    for topic in TOPICS:
        around.takes(topic)
    before = around.cluster.facts.replicas
    around.scale_to(2)
    around.kruise_works()
    _works_until(around, m.Surge)
    around.change(NEW, {"paused": True})
    for topic in TOPICS:
        around.takes(topic)
    assert isinstance(around.executor[-1], m.Halt)
    around.scale_to(before)
    for _ in range(2):
        around.executor_works()
    assert around.cluster.facts.replicas == before
    around.calms()
    assert around.cluster.facts.replicas == before + 1


@pytest.mark.parametrize("planners", PLANNERS)
@pytest.mark.parametrize("action", ACTIONS)
@given(data=st.data())
@settings(
    max_examples=30,
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_whatever_comes_in_between_the_last_count_is_the_final_one(
    action: str, planners: str, data: st.DataObject
) -> None:
    """Nothing fails, a canary that waits is as large as planned, and the pods beside it are proven ones and serve."""
    spec = dict(ACTIONS[action])
    kind = spec.pop("action", "update")
    strategy: Json = {
        **LONG,
        "mode": data.draw(st.sampled_from(["auto", "manual"]), "mode"),
        "batchSize": data.draw(st.sampled_from([1, 2, None]), "batch size"),
        "pullOutSeconds": data.draw(st.sampled_from([0, 5]), "pull out"),
        "bakeSeconds": data.draw(st.sampled_from([0, 5]), "bake"),
    }
    if kind == "update":
        strategy["canary"] = data.draw(st.sampled_from([0, 1, 1]), "canary")
    around = CountsOfOthers(4)
    around.apply(strategy, spec["replicas"], kind)
    acts = [
        *("scale", "scale", "executor", "executor", "answer", "answer", "kruise", "kruise"),
        *("pods go", "readiness", "start", *TOPICS, *TOPICS, "all", "next", "wait", "pause", "resume"),
        "executor again",
        *(("moves", "old owner") if PLANNERS[planners] == 2 else ()),
    ]
    for act in data.draw(st.lists(st.sampled_from(acts), min_size=8, max_size=50), "acts"):
        if around.began and around.flow.phase.finished:
            break
        _act(around, act, data)
        around.goes_well()
    around.change(NEW, {"paused": False})
    for _ in range(60):
        around.calms()
        around.goes_well()
        if _waits_for_a_person(around) and around.flow.others:
            _is_as_planned(around)
        if around.flow.phase.finished:
            break
        around.advance()
    flow = around.flow
    if flow.reason == "NotPossible":
        # somebody was there before it began
        return
    assert flow.phase == "Success", explain(around.instance, flow)
    wanted = 0 if kind == "stop" else around.last
    if wanted is not None:
        assert len(around.cluster.live) == wanted
        assert kind != "update" or set(_counts(around)) <= {NEW}
        assert kind == "stop" or f"scaled to {wanted} by somebody else" in flow.message
    assert all(pod.ready for pod in around.cluster.live)


def _act(around: CountsOfOthers, act: str, data: st.DataObject) -> None:
    match act:
        case "scale":
            around.scale_to(data.draw(st.integers(1, 9), "count"))
        case "wait":
            around.time_passes(data.draw(st.sampled_from([1_000, 6_000, 15_000]), "for"))
        case "pause":
            around.change(NEW, {"paused": True})
        case "resume":
            around.change(NEW, {"paused": False})
        case "moves":
            around.ownership_moves(data.draw(st.integers(0, 3), "uncommitted"))
        case "executor again":
            around.executor_starts_again(data.draw(st.integers(1, 4), "uncommitted"))
        case "old owner":
            for topic in TOPICS:
                around.old_owner_takes(topic)
        case _:
            around.does(act)


def _is_as_planned(around: CountsOfOthers) -> None:
    words = f"{around.flow.open_batch} {explain(around.instance, around.flow)}"
    assert len(around.of(NEW)) == 1, words
    assert not any(pod.open for pod in around.of(NEW)), words
    assert around.last is None or len(around.of(OLD)) == around.last, words
    assert all(pod.ready for pod in around.of(OLD)), words
