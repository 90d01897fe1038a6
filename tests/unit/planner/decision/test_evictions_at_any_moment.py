"""Pods are evicted at any moment between two messages, as by the drain of a node: a healthy release goes on at once."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.planner.model.state import Step
from services.planner.views.status import explain
from shared.domain.json_types import Json
from tests.simulation.cluster import OLD
from tests.simulation.counts import CountsOfOthers
from tests.simulation.surroundings import TOPICS
from tests.simulation.world import World

NEW = "r1"
"""The release, and the revision of its pods."""
LONG: Json = {"startupTimeoutSeconds": 36_000, "pullInTimeoutSeconds": 36_000}
"""A batch that waits for its time-out does not end in this test."""
ACTIONS: dict[str, tuple[str, int]] = {
    "create": ("create", 5),
    "update": ("update", 4),
    "update up": ("update", 6),
    "update down": ("update", 2),
    "restart": ("restart", 4),
    "scale_out": ("scale_out", 7),
    "scale_in": ("scale_in", 1),
    "stop": ("stop", 4),
}


@pytest.mark.parametrize("action", ["update", "restart"])
def test_an_old_pod_that_is_replaced_before_the_write_that_removes_it_keeps_no_place_of_the_next_batch(
    action: str,
) -> None:
    """One write removes old pods and begins the next batch; the replacement made its count, and the batch had no pod."""
    world = World(3)
    world.apply(NEW, {**LONG, "mode": "auto", "batchSize": 2, "pullOutSeconds": 5}, action=action)
    old = {pod.name for pod in world.pods if pod.name.startswith(f"{OLD}-") and len(pod.name) == 5}
    assert world.flow(NEW).step == Step.PULL_OUT
    world.vanish(world.cluster.named(world.flow(NEW).victims)[0])
    world.wait(5_000)
    assert world.where(NEW) == "BatchStarted 2 Baked"
    assert world.cluster.serving() >= 3
    world.wait(5_000)
    assert world.status(NEW)["phase"] == "Success"
    assert not old & {pod.name for pod in world.pods}
    assert world.cluster.serving() == len(world.pods) == 3


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
def test_whatever_pods_go_and_when_the_release_goes_on_at_once(action: str, data: st.DataObject) -> None:
    kind, wanted = ACTIONS[action]
    strategy: Json = {
        **LONG,
        "mode": data.draw(st.sampled_from(["auto", "manual"]), "mode"),
        "batchSize": data.draw(st.sampled_from([1, 2, None]), "batch size"),
        "pullOutSeconds": data.draw(st.sampled_from([0, 5]), "pull out"),
        "bakeSeconds": data.draw(st.sampled_from([0, 5]), "bake"),
    }
    if kind in {"create", "update"}:
        strategy["canary"] = data.draw(st.sampled_from([0, 0, 1]), "canary")
    around = CountsOfOthers(4)
    if kind == "create":
        around.cluster.body, around.cluster.pods = None, []
    around.apply(strategy, wanted, kind)
    acts = [
        *("evict", "evict", "executor", "executor", "answer", "answer", "kruise", "kruise"),
        *("pods go", "readiness", "start", *TOPICS, *TOPICS, "all", "next", "wait", "moves"),
    ]
    for act in data.draw(st.lists(st.sampled_from(acts), min_size=8, max_size=60), "acts"):
        if around.began and around.flow.phase.finished:
            break
        _act(around, act, data)
        around.goes_well()
    for _ in range(20):
        around.settles()
        around.time_passes(6_000)
        around.settles()
        around.goes_well()
        if around.flow.phase.finished:
            break
        around.advance()
    flow = around.flow
    assert flow.phase == "Success", (flow.step, flow.open_batch, explain(around.instance, flow))
    assert len(around.cluster.live) == (0 if kind == "stop" else wanted)
    if kind == "update":
        assert not around.of(OLD)
    if kind == "restart":
        assert not [pod for pod in around.cluster.live if pod.name.removeprefix(f"{OLD}-") in set("0123")]
    assert all(pod.ready for pod in around.cluster.live)


def _act(around: CountsOfOthers, act: str, data: st.DataObject) -> None:
    match act:
        case "evict":
            if around.cluster.live:
                around.vanish(data.draw(st.sampled_from(around.cluster.live), "pod"))
        case "wait":
            around.time_passes(data.draw(st.sampled_from([1_000, 6_000]), "for"))
        case "moves":
            around.ownership_moves(data.draw(st.integers(0, 3), "uncommitted"))
        case _:
            around.does(act)
