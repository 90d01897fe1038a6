"""Somebody deletes the CloneSet in the middle of a release."""

from __future__ import annotations

import pytest

from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from tests.simulation.cluster import HEAD
from tests.simulation.world import World
from tests.unit.planner.releases import message, reason


def test_a_release_that_waits_for_a_person_ends_at_once_and_says_so() -> None:
    world = World(4)
    world.apply("new", {"mode": "auto", "canary": 1})
    assert world.where("new") == "BatchStarted 1 Smoked"
    world.delete_cloneset()
    assert (world.where("new"), reason(world, "new")) == ("Failed 1 Smoked", "NotFound")
    assert message(world, "new") == "CloneSet default/web does not exist"


@pytest.mark.parametrize("action", ["restart", "scale_in", "stop"])
def test_other_actions_end_too(action: str) -> None:
    world = World(4)
    world.apply("run", {"batchSize": 1}, replicas=2, action=action)
    world.delete_cloneset()
    assert (world.flow("run").phase, reason(world, "run")) == ("Failed", "NotFound")


def test_a_create_ends_once_it_was_made() -> None:
    world = World(None)
    world.apply("new", {"canary": 1}, replicas=2, action="create")
    assert world.where("new") == "BatchStarted 1 Smoked"
    world.delete_cloneset()
    assert world.flow("new").phase == "Failed"
    world.apply("again", {"mode": "auto"}, replicas=2, action="create")
    assert (world.where("again"), world.cluster.serving()) == ("Success 1 Baked", 2)


def test_the_word_of_a_watch_that_is_behind_ends_nothing() -> None:
    world = World(4)
    world.apply("new", {"mode": "auto", "canary": 1})
    gone = m.CloneSetFacts(exists=False)
    world.handle(m.CloneSetSeen(**HEAD, sequence=world.facts.sequence, cloneset=gone))
    assert world.where("new") == "BatchStarted 1 Smoked"
    world.steer("new", CommandType.PROMOTE)
    assert (world.where("new"), world.cluster.serving()) == ("Success 2 Baked", 4)
