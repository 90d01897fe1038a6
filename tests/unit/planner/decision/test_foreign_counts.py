"""A count that somebody else writes in the middle of a release: an HPA, KEDA, a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.planner.views.status import explain
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from shared.domain.json_types import Json
from tests.simulation.cluster import OLD
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, message, press_next, reason, revisions, starting, update

CANARY: Json = {"mode": "auto", "canary": 1, "batchSize": 2}


def _smoked(count: int = 4, **strategy: Any) -> World:
    world = update(count, **{**CANARY, **strategy})
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    return world


def _baking(count: int = 4) -> World:
    world = _smoked(count)
    press_next(world)
    assert world.where(NEW) == "BatchStarted 1 Baking"
    return world


def _smoking(count: int = 4) -> World:
    return starting(count, **CANARY)


def _between(count: int = 4) -> World:
    world = _baking(count)
    press_next(world)
    assert world.where(NEW) == "BatchFinished 1 Baked"
    return world


STEPS: dict[str, Callable[[int], World]] = {
    "Smoking": _smoking,
    "Smoked": _smoked,
    "Baking": _baking,
    "between": _between,
}
every_step = pytest.mark.parametrize("step", STEPS)


def _promote(world: World) -> None:
    """Approve whatever is left, until the release has finished."""
    world.catch_up()
    world.wait(60_000)
    world.steer(NEW, CommandType.PROMOTE)
    for _ in range(20):
        if world.flow(NEW).phase.finished:
            return
        world.wait(30_000)
    raise AssertionError(f"never ends: {world.where(NEW)}: {explain(world.instance, world.flow(NEW))}")


@every_step
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12])
def test_the_release_ends_with_the_count_that_was_written(step: str, count: int) -> None:
    world = STEPS[step](4)
    world.scale_to(count)
    _promote(world)
    assert world.flow(NEW).phase == "Success"
    assert revisions(world) == {NEW: count}
    assert world.cluster.serving() == count


def test_a_canary_that_was_taken_for_the_count_is_made_again() -> None:
    world = _smoked()
    world.scale_to(4)
    assert world.facts.replicas == 5
    assert revisions(world) == {OLD: 4, NEW: 1}
    assert (world.where(NEW), reason(world)) == ("BatchStarted 1 Smoked", "WaitingForNext")
    press_next(world)
    assert world.where(NEW) == "BatchStarted 1 Baking"


@pytest.mark.parametrize("step", ["Smoking", "Smoked", "Baking"])
def test_a_canary_that_waits_is_never_taken(step: str) -> None:
    """As an HPA writes: the same canary in the end, and no old pod is replaced either."""
    world = STEPS[step](4)
    if step == "Smoking":
        # its pods exist, their containers start
        assert [pod.containers_ready for pod in world.cluster.of(NEW)] == [False]
    before = {pod.name for pod in world.cluster.live}
    for _ in range(6):
        world.scale_to(4)
        world.wait(15_000)
        assert {pod.name for pod in world.cluster.live} == before
        assert world.facts.replicas == 5
    world.scale_to(6)
    world.scale_to(5 if step == "Smoking" else 4)
    assert [pod.name for pod in world.cluster.of(NEW)] == [name for name in before if OLD not in name]
    _promote(world)
    assert (world.cluster.body or {})["spec"].get("lifecycle") in ({}, None)


def test_a_canary_that_is_evicted_while_it_waits_is_made_again() -> None:
    world = _smoked()
    world.vanish(*world.cluster.of(NEW))
    world.wait(1000)
    assert revisions(world) == {OLD: 4, NEW: 1}
    assert world.cluster.serving() == 4


@pytest.mark.parametrize("step", ["Smoking", "Smoked", "Baking"])
def test_where_the_old_revision_is_forgotten_the_new_pods_are_the_batchs(step: str) -> None:
    """With its last pod OpenKruise forgets a revision: to remove what it makes then would remove pods for ever."""
    world = STEPS[step](4)
    world.vanish(*world.cluster.of(OLD))
    world.wait(60_000)
    before = {pod.name for pod in world.cluster.live}
    assert len(before) == 4
    world.wait(300_000)
    assert {pod.name for pod in world.cluster.live} == before
    _promote(world)
    assert revisions(world) == {NEW: 4}
    assert world.cluster.serving() == 4


def test_an_update_to_no_pods_ends_also_where_new_ones_were_made() -> None:
    world = World(3)
    world.apply(NEW, {"mode": "auto", "batchSize": 1, "bakeSeconds": 5}, replicas=0)
    world.run_until(lambda: len(world.flow(NEW).batches) == 3)
    world.vanish(*world.cluster.of(OLD))
    world.run_until(lambda: world.flow(NEW).phase.finished)
    assert world.flow(NEW).phase == "Success"
    assert world.cluster.live == []


@every_step
def test_nothing_fails_for_a_count_that_is_written_every_15_seconds(step: str) -> None:
    world = STEPS[step](4)
    for _ in range(30):
        world.scale_to(4)
        world.wait(15_000)
    assert not world.flow(NEW).failed
    _promote(world)
    assert revisions(world) == {NEW: 4}


def test_pods_added_at_a_gate_are_of_the_proven_revision_and_serve() -> None:
    world = _smoked()
    world.scale_to(8)
    assert revisions(world) == {OLD: 8, NEW: 1}
    assert world.cluster.serving() == 8


def test_it_says_who_has_scaled() -> None:
    world = _smoked()
    world.scale_to(7)
    assert reason(world) == "WaitingForNext"
    assert message(world).endswith("press next to send it traffic; scaled to 7 by somebody else")
    scaled = [event for event in world.events if event.reason == "Scaled"]
    assert [event.message for event in scaled] == [
        "scaled to 7 by somebody else: the release leads to that count, before to 4"
    ]
    _promote(world)
    assert message(world) == "scaled to 7 by somebody else"


@every_step
def test_scaled_to_0_it_waits_and_says_so(step: str) -> None:
    world = STEPS[step](4)
    world.scale_to(0)
    world.wait(7200_000)
    assert world.cluster.live == []
    assert not world.flow(NEW).failed
    assert reason(world) == "ScaledToZero"


@every_step
def test_scaled_up_again_from_0_unproven_pods_get_no_traffic(step: str) -> None:
    world = STEPS[step](4)
    world.scale_to(0)
    world.scale_to(6)
    assert len(world.cluster.of(OLD)) == 6
    assert not [pod for pod in world.cluster.of(NEW) if pod.open]
    _promote(world)
    assert revisions(world) == {NEW: 6}


def test_canceled_at_0_it_ends_there() -> None:
    world = _smoked()
    world.scale_to(0)
    world.steer(NEW, CommandType.CANCEL)
    assert world.flow(NEW).phase == "Canceled"
    assert world.cluster.live == []
    world.scale_to(3)
    assert revisions(world) == {OLD: 3}


@every_step
@pytest.mark.parametrize("count", [2, 9])
def test_a_cancel_keeps_the_count_that_was_written(step: str, count: int) -> None:
    world = STEPS[step](4)
    world.scale_to(count)
    world.wait(60_000)
    world.steer(NEW, CommandType.CANCEL)
    world.catch_up()
    world.wait(60_000)
    assert world.flow(NEW).phase == "Canceled"
    assert sum(revisions(world).values()) == count


def test_a_count_that_a_cancel_finds_is_kept() -> None:
    """It was written in the moment before the cancel, and no watch has reported it yet."""
    world = _smoked()
    world.cluster.scale_to(7)
    world.steer(NEW, CommandType.CANCEL)
    assert world.flow(NEW).phase == "Canceled"
    assert revisions(world) == {OLD: 7}


def test_a_paused_release_lets_somebody_scale() -> None:
    world = _smoking()
    world.steer(NEW, CommandType.PAUSE)
    world.scale_to(7)
    assert len(world.cluster.of(OLD)) == 7
    world.steer(NEW, CommandType.RESUME)
    _promote(world)
    assert revisions(world) == {NEW: 7}


@every_step
@pytest.mark.parametrize("count", [3, 7])
def test_the_count_survives_the_loss_of_redis(step: str, count: int) -> None:
    world = STEPS[step](4)
    world.scale_to(count)
    world.wait(60_000)
    world.lose_redis()
    world.wait(1)
    _promote(world)
    assert revisions(world) == {NEW: count}


def test_a_fight_with_a_controller_that_writes_at_once_gets_slower() -> None:
    world = _smoked()
    for _ in range(600):
        if world.facts.replicas != 4:
            world.scale_to(4)
        world.wait(100)
    written = [command for command in world.commands if isinstance(command, m.Surge)]
    assert len(written) <= 10


ACTIONS: dict[str, Json] = {
    "create": {"replicas": 6, "action": "create"},
    "update": {"replicas": 4},
    "update up": {"replicas": 7},
    "update down": {"replicas": 2},
    "restart": {"action": "restart"},
    "scale_out": {"action": "scale_out", "replicas": 8},
    "scale_in": {"action": "scale_in", "replicas": 1},
    "start": {"action": "start", "replicas": 6},
    "stop": {"action": "stop"},
}
FINAL_ZERO = {"stop"}


@pytest.mark.parametrize("action", ACTIONS)
@given(data=st.data())
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_whoever_scales_when_and_how_often_the_last_count_is_the_final_one(
    action: str, data: st.DataObject
) -> None:
    """Several counts in a row, up and down, at any moment of any action; nobody loses a pod more than they asked for."""
    spec = dict(ACTIONS[action])
    kind = spec.get("action", "update")
    world = World(None if kind == "create" else 4)
    world.cluster.disturbed = True
    strategy: Json = {
        "mode": data.draw(st.sampled_from(["auto", "manual"]), "mode"),
        "batchSize": data.draw(st.sampled_from([1, 2, None]), "batch size"),
        "pullOutSeconds": data.draw(st.sampled_from([0, 5]), "pull out"),
        "bakeSeconds": data.draw(st.sampled_from([0, 5]), "bake"),
    }
    if kind in {"create", "update"}:
        strategy["canary"] = data.draw(st.sampled_from([0, 1]), "canary")
    world.containers_start = data.draw(st.booleans(), "containers start")
    world.gates_move = data.draw(st.booleans(), "gates move")
    world.apply(NEW, strategy, **spec)
    last: int | None = None
    for _ in range(data.draw(st.integers(1, 5), "changes")):
        flow = world.flow(NEW)
        if flow.phase.finished:
            break
        match data.draw(st.sampled_from(["scale", "scale", "next", "wait", "start", "pause", "resume"])):
            case "scale":
                count = data.draw(st.integers(1, 9), "count")
                if count != world.facts.replicas:
                    # before the first write nobody has reported the count that is written back
                    last = count if world.facts.sequence else None
                    world.scale_to(count)
            case "next" if not flow.failed:
                _advance(world)
            case "wait":
                world.wait(data.draw(st.sampled_from([1_000, 6_000]), "for"))
            case "start":
                world.catch_up()
            case "pause":
                world.change(NEW, {"paused": True})
            case "resume":
                world.change(NEW, {"paused": False})
    world.change(NEW, {"paused": False})
    world.catch_up()
    for _ in range(60):
        if world.flow(NEW).phase.finished:
            break
        world.catch_up()
        world.wait(20_000)
        _advance(world)
    flow = world.flow(NEW)
    assert flow.phase == "Success", (world.where(NEW), explain(world.instance, flow), flow.message)
    wanted = 0 if kind in FINAL_ZERO else last
    if wanted is not None:
        assert len(world.cluster.live) == wanted
        assert kind not in {"create", "update"} or set(revisions(world)) <= {NEW}
    assert all(pod.ready for pod in world.cluster.live)


def _advance(world: World) -> None:
    flow = world.flow(NEW)
    if flow.phase.finished:
        return
    fields: Json = {"batches": len(flow.batches) + 1}
    if flow.updating:
        fields["stage"] = None
    world.change(NEW, fields)


@pytest.mark.parametrize("action", ["scale_out", "update"])
def test_a_count_that_is_written_while_redis_is_lost_is_not_replaced_by_the_one_before(action: str) -> None:
    world = World(4)
    world.containers_start = False
    world.apply("new", {"mode": "auto", "batchSize": 1}, replicas=6, action=action)
    world.scale_to(0)
    assert reason(world) == "ScaledToZero"
    world.silent.add("observe")
    world.lose_redis()
    world.wait(0)
    world.scale_to(6)
    world.catch_up()
    world.run_until(lambda: world.flow("new").phase.finished, seconds=60)
    assert (world.flow("new").phase, world.cluster.serving()) == ("Success", 6)
