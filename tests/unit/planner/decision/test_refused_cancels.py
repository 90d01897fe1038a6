"""A cancel always gets through: refused, it is written again; pods made while it was written are awaited."""

from __future__ import annotations

import pytest

from services.planner.decision.failure_handling import CANCEL_ATTEMPTS
from services.planner.rules.surplus import AWAITED_MS
from shared.domain.deploy_commands import CommandType
from shared.kube.clonesets import OWNER_STRATEGY, RELEASE
from tests.simulation.cluster import OLD
from tests.simulation.world import World
from tests.unit.planner.releases import message, reason


def _waiting_canary() -> World:
    world = World(4)
    world.apply("new", {"mode": "auto", "canary": 1})
    assert world.flow("new").step == "smoked"
    return world


def _left_in(world: World) -> set[str]:
    """Return what a release leaves in its CloneSet that is no longer its own."""
    cloneset = world.cluster.cloneset
    assert cloneset is not None
    left: set[str] = {name for name in (RELEASE, OWNER_STRATEGY) if name in cloneset.metadata.annotations}
    if cloneset.hold is not None:
        left.add("hold")
    if cloneset.spec.update_strategy.get("paused"):
        left.add("paused")
    return left


def _wait(world: World, seconds: int) -> None:
    for _ in range(seconds):
        world.wait(1000)


@pytest.mark.parametrize("kind", ["cancel", "finish"])
@pytest.mark.parametrize("why", ["Invalid", "Forbidden", "InternalError"])
def test_a_cancel_that_is_refused_for_a_while_is_written_again(kind: str, why: str) -> None:
    world = _waiting_canary()
    world.cluster.refusals[kind] = why
    world.steer("new", CommandType.CANCEL)
    _wait(world, 5)
    assert not world.flow("new").phase.finished
    assert "the API server says" in message(world)
    world.cluster.refusals.clear()
    _wait(world, 10)
    assert (world.flow("new").phase, reason(world), message(world)) == ("Canceled", "Canceled", "canceled")
    assert not _left_in(world)
    assert world.cluster.serving() == len(world.cluster.live) == 4


def test_a_cancel_without_the_label_is_written_when_the_label_is_back() -> None:
    world = _waiting_canary()
    world.take_label()
    _wait(world, 20)
    world.apply("back", {"mode": "auto"}, action="rollback", revision=OLD)
    _wait(world, 5)
    assert (world.flow("new").phase.finished, reason(world, "new")) == (False, "LabelsMissing")
    world.put_label_back()
    _wait(world, 10)
    assert [world.flow(name).phase for name in ("new", "back")] == ["Aborted", "Success"]
    assert not _left_in(world)
    assert world.cluster.serving() == len(world.cluster.live) == 4


def test_a_cancel_that_is_refused_for_good_ends_and_says_what_is_left() -> None:
    world = _waiting_canary()
    world.cluster.refusals["cancel"] = "Invalid"
    world.steer("new", CommandType.CANCEL)
    _wait(world, 30)
    assert not world.flow("new").phase.finished
    _wait(world, 60)
    assert (world.flow("new").phase, reason(world)) == ("Canceled", "Canceled")
    assert world.kinds.count("cancel") == CANCEL_ATTEMPTS
    assert "CloneSet default/web keeps what the release has written into it" in message(world)
    assert message(world).endswith("Invalid: the API server says Invalid")


@pytest.mark.parametrize("action", ["rollback", "update"])
def test_the_next_release_cleans_what_a_refused_cancel_has_left(action: str) -> None:
    world = _waiting_canary()
    world.cluster.refusals["cancel"] = "Invalid"
    world.steer("new", CommandType.CANCEL)
    _wait(world, 120)
    assert "hold" in _left_in(world)
    world.cluster.refusals.clear()
    revision = OLD if action == "rollback" else ""
    world.apply("next", {"mode": "auto"}, action=action, revision=revision, keeps_replicas=True)
    _wait(world, 10)
    assert world.flow("next").phase == "Success"
    assert not _left_in(world)
    assert world.cluster.serving() == len(world.cluster.live) == 4


def test_a_rollback_begins_although_the_cancel_of_the_release_before_is_refused() -> None:
    world = _waiting_canary()
    world.cluster.refusals["cancel"] = "Invalid"
    world.apply("back", {"mode": "auto"}, action="rollback", revision=OLD)
    _wait(world, 120)
    assert [world.flow(name).phase for name in ("new", "back")] == ["Aborted", "Success"]
    assert world.cluster.serving() == 4


def test_pods_that_were_made_while_the_cancel_was_written_are_awaited() -> None:
    """A canary is evicted and made again: for a moment the CloneSet seems to be a mixture of two templates."""
    world = World(4)
    world.containers_start = False
    world.silent.add("cancel")
    world.apply("new", {"mode": "auto", "batchSize": 1})
    world.steer("new", CommandType.CANCEL)
    assert world.kinds[-1] == "cancel"
    world.vanish(*world.cluster.of("new"))
    assert len(world.cluster.of("new")) == 1
    world.catch_up()
    assert world.flow("new").phase == "Canceled"
    assert not _left_in(world)
    assert world.cluster.serving() == len(world.cluster.live) == 4


def test_a_pod_that_is_never_deleted_is_not_awaited_for_ever() -> None:
    world = _waiting_canary()
    world.cluster.keeps_surplus = True
    world.silent.add("cancel")
    world.steer("new", CommandType.CANCEL)
    world.vanish(*world.cluster.of("new"))
    world.catch_up()
    assert not world.flow("new").phase.finished
    assert message(world).endswith("waits for the deletion of 1 pods beyond the count")
    world.wait(AWAITED_MS)
    assert world.flow("new").phase == "Canceled"
