"""A namespace is being deleted: every release there ends as it stands, and nothing is written to it any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.world import RESEND_MS, World
from tests.unit.planner.releases import message, reason


def _waiting(world: World) -> None:
    world.apply("new", {"mode": "auto", "canary": 1})


def _smoking(world: World) -> None:
    world.containers_start = False
    world.apply("new", {"mode": "auto"})


def _unanswered(world: World) -> None:
    world.silent.add("surge")
    world.apply("new", {"mode": "auto"})


def _refused(world: World) -> None:
    _waiting(world)
    world.cluster.refusals["observe"] = "Forbidden"
    world.lose_redis()
    world.wait(RESEND_MS)


def _failed(world: World) -> None:
    world.containers_start = False
    world.apply("new", {"mode": "auto"})
    world.fail()


def _canceled(world: World) -> None:
    _waiting(world)
    world.silent.add("cancel")
    world.change("new", {"canceled": True})


def _finishing(world: World) -> None:
    world.silent.add("finish")
    world.apply("new", {"mode": "auto"})


STEPS: list[Callable[[World], None]] = [
    _waiting,
    _smoking,
    _unanswered,
    _refused,
    _failed,
    _canceled,
    _finishing,
]


@pytest.mark.parametrize("begin", STEPS)
def test_a_release_ends_at_once_whatever_it_waits_for(begin: Callable[[World], None]) -> None:
    world = World(4)
    begin(world)
    assert not world.flow("new").phase.finished
    issued = len(world.commands)
    world.delete_namespace()
    assert (world.flow("new").phase, reason(world)) == ("Canceled", "NamespaceTerminating")
    assert message(world) == "namespace default is being deleted"
    assert len(world.commands) == issued


def test_releases_that_wait_their_turn_end_too_and_none_begins() -> None:
    world = World(4)
    _waiting(world)
    world.apply("more", {}, action="scale_out", replicas=6)
    world.delete_namespace()
    assert [world.flow(name).phase for name in ("new", "more")] == ["Canceled", "Canceled"]
    world.apply("late", {})
    assert (world.flow("late").phase, world.status("late")["reason"]) == ("Canceled", "NamespaceTerminating")
    assert [event.reason for event in world.events].count("Canceled") == 3


def test_no_rollback_is_requested_for_a_release_that_ends_with_its_namespace() -> None:
    world = World(4)
    world.apply("new", {"batchSize": 1, "mode": "auto", "onFailure": "rollback", "batchIntervalSeconds": 9})
    world.containers_start = False
    world.wait(9000)
    world.silent |= {"observe", "cancel"}
    world.fail()
    assert world.flow("new").step == "cancel"
    world.delete_namespace()
    assert world.flow("new").phase == "Canceled"
    assert not any(entry.decision.requests for entry in world.history)
