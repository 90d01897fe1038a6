"""Old pods that report their connections: they lose their traffic, and go when they have none left."""

from __future__ import annotations

from typing import Any

import pytest

from services.planner.model.state import PRE_EXISTING
from shared.domain import messages as m
from tests.simulation.cluster import SimulatedPod
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, last, message, reason


def draining(there: int = 4, *, connections: int = 2, **strategy: Any) -> World:
    """An update of pods with connections, whose first batch is baked."""
    world = World(there)
    for pod in world.pods:
        pod.connections = connections
    world.apply(NEW, {"mode": "manual", "batchSize": 2, **strategy})
    assert world.where(NEW) == "BatchStarted 1 Baked"
    return world


def out(world: World) -> list[SimulatedPod]:
    """The pods that lost their traffic."""
    return world.cluster.named(last(world, m.PullOut).uids)


def end(world: World, *pods: SimulatedPod) -> None:
    """Their last connections end."""
    for pod in pods:
        pod.connections = 0
    world.report_pods()


def test_old_pods_lose_their_traffic_and_go_when_their_connections_have_ended() -> None:
    world = draining()
    assert [pod.open for pod in out(world)] == [False, False]
    world.wait(3_600_000)
    assert "retire" not in world.kinds
    first, second = out(world)
    end(world, first)
    assert "retire" not in world.kinds
    end(world, second)
    assert last(world, m.Retire).retire == last(world, m.PullOut).uids
    assert world.where(NEW) == "BatchFinished 1 Baked"


def test_the_pull_out_wait_comes_first_even_where_no_connections_are_left() -> None:
    world = draining(pullOutSeconds=10)
    assert last(world, m.PullOut).drain_after == 10
    end(world, *out(world))
    world.wait(9_999)
    assert "retire" not in world.kinds
    world.wait(1)
    assert "retire" in world.kinds


def test_connections_hold_after_the_pull_out_wait() -> None:
    world = draining(pullOutSeconds=10)
    world.wait(60_000)
    assert "retire" not in world.kinds
    end(world, *out(world))
    assert "retire" in world.kinds


def test_the_status_says_how_many_pods_have_connections_left() -> None:
    world = draining()
    assert reason(world) == "Draining"
    assert message(world).startswith("2 of 2 pods that batch 1 replaces have connections left")
    end(world, out(world)[0])
    assert message(world).startswith("1 of 2 pods")
    end(world, *out(world))
    assert reason(world) != "Draining"


def test_a_pod_that_goes_by_itself_is_waited_for_no_longer() -> None:
    world = draining()
    first, second = out(world)
    end(world, first)
    world.vanish(second)
    assert "retire" in world.kinds


def test_pods_without_traffic_and_connections_go_at_once() -> None:
    world = World(2)
    for pod in world.pods:
        pod.connections, pod.open, pod.pulled_out = 0, False, True
    world.report_pods()
    world.apply(NEW, {"mode": "auto"})
    assert world.where(NEW) == "Success 1 Baked"
    assert "pull_out" not in world.kinds


def test_a_paused_release_deletes_nothing_when_the_connections_end() -> None:
    world = draining()
    world.change(NEW, {"paused": True})
    end(world, *out(world))
    assert "retire" not in world.kinds
    world.change(NEW, {"paused": False})
    assert "retire" in world.kinds


def test_a_cancel_waits_for_no_connections() -> None:
    world = draining()
    victims = last(world, m.PullOut).uids
    world.change(NEW, {"canceled": True})
    assert last(world, m.Cancel).drop == victims
    assert world.where(NEW) == "Canceled 1 Baked"


@pytest.mark.parametrize("wait", [0, 5])
def test_connections_are_waited_for_when_redis_was_lost(wait: int) -> None:
    world = draining(pullOutSeconds=wait)
    victims = last(world, m.PullOut).uids
    world.lose_redis()
    world.wait(0)
    world.wait(60_000)
    assert "retire" not in world.kinds
    assert all(pod.batch == PRE_EXISTING for uid, pod in world.instance.pods.items() if uid in victims)
    end(world, *world.cluster.named(victims))
    assert sorted(last(world, m.Retire).retire) == sorted(victims)
