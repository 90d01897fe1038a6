"""A create of an instance that exists: refused where a release was good, else in batches with their gates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.planner.model.batch_plan import Current, plan_release
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from shared.domain.json_types import Json
from shared.kube.clonesets import FIRST_RELEASE
from tests.simulation.cluster import HEAD
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, create, message, press_next, reason, revisions, sizes

AGAIN = "again"
AUTO = {"mode": "auto"}


def updated_since() -> World:
    world = create(4)
    world.apply("second", AUTO, replicas=4)
    assert revisions(world) == {"second": 4}
    return world


def clean_away(world: World) -> None:
    """Delete the DeployFlows of all finished releases."""
    for name in list(world.flows):
        del world.flows[name]
        world.handle(m.SpecGone(**HEAD, flow=m.FlowRef(name=name, uid=f"uid-{name}")))


def create_again(world: World, revision: str, replicas: int = 4, **strategy: object) -> None:
    world.apply(AGAIN, {**AUTO, **strategy}, replicas=replicas, action="create", revision=revision)


def test_a_create_that_is_applied_again_after_an_update_changes_nothing() -> None:
    world = updated_since()
    issued = len(world.commands)
    create_again(world, NEW)
    assert (world.where(AGAIN), reason(world, AGAIN)) == ("Failed", "AlreadyExists")
    assert "make an update" in message(world, AGAIN)
    assert revisions(world) == {"second": 4}
    assert {type(command) for command in world.commands[issued:]} == {m.Observe}


def test_one_that_asks_for_another_count_is_refused_too() -> None:
    world = updated_since()
    create_again(world, "second", replicas=1)
    assert (world.where(AGAIN), reason(world, AGAIN)) == ("Failed", "AlreadyExists")
    assert revisions(world) == {"second": 4}


def test_one_that_asks_for_what_is_there_is_successful() -> None:
    world = updated_since()
    pods = {pod.uid for pod in world.pods}
    create_again(world, "second")
    assert world.where(AGAIN) == "Success"
    assert {pod.uid for pod in world.pods} == pods


def test_the_second_of_two_creates_in_a_row_is_refused_unless_it_is_the_same() -> None:
    world = create(4, canary=1)
    create_again(world, "other")
    assert world.where(AGAIN) == "Pending"
    for _ in range(3):
        press_next(world)
    assert (world.flow(NEW).phase, reason(world, AGAIN)) == ("Success", "AlreadyExists")
    assert revisions(world) == {NEW: 4}


@pytest.mark.parametrize("annotated", [True, False], ids=["", "by a version that did not say so"])
def test_after_a_create_that_was_canceled_the_next_one_goes_on(annotated: bool) -> None:
    world = create(4, canary=1)
    world.steer(NEW, CommandType.CANCEL)
    if not annotated:
        assert world.cluster.body is not None
        del world.cluster.body["metadata"]["annotations"][FIRST_RELEASE]
    create_again(world, "fixed")
    assert world.where(AGAIN) == "Success 1 Baked"
    assert revisions(world) == {"fixed": 4}


def test_a_create_takes_over_a_paused_one() -> None:
    world = create(4, canary=1)
    world.change(NEW, {"paused": True})
    create_again(world, "fixed")
    assert (world.flow(NEW).phase, world.flow(AGAIN).phase) == ("Aborted", "Success")


def test_an_instance_whose_releases_were_cleaned_away_is_changed_in_batches() -> None:
    world = updated_since()
    clean_away(world)
    create_again(world, "third", mode="manual")
    assert world.where(AGAIN) == "BatchFinished 1 Baked"
    assert revisions(world) == {"second": 3, "third": 1}
    for _ in range(3):
        press_next(world, AGAIN)
    assert (world.flow(AGAIN).phase, sizes(world, AGAIN)) == ("Success", [1, 1, 1, 1])


def test_a_release_that_only_waits_is_none_that_is_known() -> None:
    world = World(4)
    world.silent.add("observe")
    create_again(world, "third")
    world.apply("later", AUTO, replicas=4)
    world.catch_up()
    assert world.flow(AGAIN).phase == "Success"


def test_a_canary_of_such_an_instance_waits_and_is_taken_back() -> None:
    world = World(4)
    create_again(world, "third", canary=1)
    assert world.where(AGAIN) == "BatchStarted 1 Smoked"
    world.lose_redis()
    world.wait(60_000)
    world.steer(AGAIN, CommandType.CANCEL)
    assert revisions(world) == {"old": 4}


def test_a_canceled_create_of_a_stopped_instance_brings_its_template_back() -> None:
    world = World(3)
    world.apply("stop", AUTO, action="stop")
    clean_away(world)
    create_again(world, "third", replicas=3, canary=1)
    world.steer(AGAIN, CommandType.CANCEL)
    assert revisions(world) == {}
    world.apply("start", AUTO, replicas=3, action="start")
    assert revisions(world) == {"old": 3}


@settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given(
    there=st.integers(2, 12),
    wanted=st.integers(2, 12),
    size=st.sampled_from([None, 1, 3, 12, 50, "10%", "60%", "100%"]),
    canary=st.integers(0, 3),
    loses_redis=st.booleans(),
)
def test_never_are_all_pods_changed_at_once(
    there: int, wanted: int, size: int | str | None, canary: int, loses_redis: bool
) -> None:
    world = World(there)
    strategy: Json = {} if size is None else {"batchSize": size}
    create_again(world, "third", replicas=wanted, canary=canary, mode="manual", **strategy)
    fewest = min(there, wanted)
    for _ in range(60):
        if world.flow(AGAIN).phase.finished:
            break
        assert world.cluster.serving() >= fewest
        if loses_redis:
            world.lose_redis()
            world.wait(1000)
        press_next(world, AGAIN)
    assert (world.flow(AGAIN).phase, revisions(world)) == ("Success", {"third": wanted})
    assert max(sizes(world, AGAIN)) < wanted


@pytest.mark.parametrize(("there", "size"), [(4, None), (10, None), (10, 3), (10, "100%"), (1, None)])
def test_the_plan_that_is_shown_has_these_batches(there: int, size: int | str | None) -> None:
    world = World(there)
    create_again(world, "third", replicas=there, batchSize=size)
    assert world.flow(AGAIN).phase == "Success"
    plan = plan_release(world.spec(AGAIN), Current(exists=True, replicas=there, updated=0))
    assert [batch.surge for batch in plan.batches] == sizes(world, AGAIN)
