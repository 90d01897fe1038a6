"""A scale for which nobody said a direction goes in or out from the count that it finds when it begins."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.deploy_commands import CommandType
from tests.simulation.world import World
from tests.unit.planner.releases import press_next, reason, revisions, update

SCALE = "scale"
AUTO = {"mode": "auto"}


def scale(
    world: World, replicas: int, *, name: str = SCALE, either: bool = True, action: str = "scale_out"
) -> None:
    world.apply(name, AUTO, replicas=replicas, action=action, either_direction=either)


@pytest.mark.parametrize(("first", "second"), [(14, 12), (6, 8), (12, 12), (14, 10)])
def test_a_scale_that_waits_behind_another_goes_to_its_count(first: int, second: int) -> None:
    world = update(10, canary=1)
    scale(world, first, name="before", action="scale_out" if first > 10 else "scale_in")
    # by the count of 10 that there was when it was requested
    scale(world, second, action="scale_out" if second > 10 else "scale_in")
    world.steer("new", CommandType.CANCEL)
    assert {world.flow(name).phase for name in ("before", SCALE)} == {"Success"}
    assert revisions(world) == {"old": second}


def test_a_direction_that_was_said_stays() -> None:
    world = World(4)
    scale(world, 2, either=False)
    assert (world.where(SCALE), reason(world, SCALE)) == ("Failed", "NotPossible")
    assert revisions(world) == {"old": 4}


def test_out_of_a_template_that_was_never_good_it_does_not_go_whichever_its_action() -> None:
    world = World(None)
    world.apply("first", {**AUTO, "canary": 1}, replicas=4, action="create")
    for _ in range(2):
        press_next(world, "first")
    world.steer("first", CommandType.CANCEL)
    assert len(world.pods) == 1
    scale(world, 3, action="scale_in")
    assert (world.where(SCALE), reason(world, SCALE)) == ("Failed", "NoGoodTemplate")
    scale(world, 0, name="in", action="scale_out")
    assert (world.where("in"), revisions(world)) == ("Success 1 Baked", {})


@settings(derandomize=True, deadline=None, database=None, max_examples=80)
@given(
    there=st.integers(0, 8),
    wanted=st.integers(0, 8),
    action=st.sampled_from(["scale_in", "scale_out"]),
    size=st.integers(1, 4),
    lost_after=st.integers(0, 8),
)
def test_it_ends_at_its_count_also_where_redis_is_lost(
    there: int, wanted: int, action: str, size: int, lost_after: int
) -> None:
    world = World(there)
    world.apply(
        SCALE, {"mode": "manual", "batchSize": size}, replicas=wanted, action=action, either_direction=True
    )
    for number in range(20):
        if number == lost_after:
            world.lose_redis()
            world.wait(1000)
        if world.flow(SCALE).phase.finished:
            break
        press_next(world, SCALE)
    assert world.flow(SCALE).phase == "Success"
    assert sum(revisions(world).values()) == wanted
