"""An update that waits takes over what the last successful release has when it begins."""

from __future__ import annotations

import pytest

from shared.domain.deploy_commands import CommandType
from shared.domain.json_types import Json
from shared.releases.specs import Known, Wish, update
from tests.simulation.cluster import INSTANCE, application
from tests.simulation.world import World
from tests.unit.planner.releases import message, reason

QUEUED = "queued"
NEXT = "next"


def with_proxy(revision: str, *more: str) -> Json:
    """Return the application with an environment and containers beside the first."""
    wanted = application(revision, 4)
    containers = wanted["template"]["spec"]["containers"]
    containers[0]["env"] = [{"name": "FOR", "value": revision}]
    containers += [{"name": name, "image": f"{name}:1"} for name in more]
    return wanted


def running(*containers: str, **strategy: object) -> World:
    """An instance with one successful release, and an update that brings more than an image: it waits for `next`."""
    world = World(4)
    world.apply("first", {"mode": "auto", "pullInTimeoutSeconds": 30})
    world.apply(NEXT, {"mode": "auto", "canary": 1, **strategy}, application=with_proxy(NEXT, *containers))
    assert world.where(NEXT) == "BatchStarted 1 Smoked"
    return world


def request(world: World, image: str = "web:9", container: str | None = "web", **strategy: object) -> None:
    """Request an update of one image, as `triton update` and the APIs do."""
    known = Known(INSTANCE, [world.seen(name) for name in world.flows], world.cluster.body)
    spec = update(known, Wish(image, container, strategy=strategy)).model_dump(
        mode="json", exclude_unset=True, exclude_none=True
    )
    said = {key: value for key, value in spec.items() if key not in {"action", "updateStrategy"}}
    world.apply(QUEUED, spec["updateStrategy"], keeps_replicas=True, **said)


def first_container(world: World, name: str = QUEUED) -> Json:
    assert world.cluster.body is not None
    live = world.cluster.body["spec"]["template"]["spec"]["containers"]
    released = world.flows[name]["spec"]["application"]["template"]["spec"]["containers"]
    assert [one["image"] for one in live] == [one["image"] for one in released]
    return dict(live[0])


def test_after_a_success_it_has_what_that_one_brought() -> None:
    world = running("proxy", bakeSeconds=5)
    request(world, mode="auto", canary=0)
    world.steer(NEXT, CommandType.PROMOTE)
    world.run_until(lambda: world.flow(QUEUED).phase.finished)
    assert {str(world.flow(name).phase) for name in (NEXT, QUEUED)} == {"Success"}
    assert first_container(world) == {
        "name": "web",
        "image": "web:9",
        "env": [{"name": "FOR", "value": NEXT}],
    }
    assert world.spec(QUEUED).strategy.bake_seconds == 5
    assert "inherits" not in world.flows[QUEUED]["spec"]


def test_after_a_cancel_it_has_what_there_was_before() -> None:
    world = running("proxy", bakeSeconds=5)
    request(world, canary=0)
    world.steer(NEXT, CommandType.CANCEL)
    world.run_until(lambda: world.flow(QUEUED).phase.finished)
    assert world.flow(QUEUED).phase == "Success"
    assert first_container(world) == {"name": "web", "image": "web:9"}
    # the strategy is the one that was requested last, however that release ended
    strategy = world.spec(QUEUED).strategy
    assert (strategy.bake_seconds, strategy.pull_in_timeout_seconds, strategy.mode) == (5, 60, "auto")


def test_what_was_requested_of_the_strategy_is_kept_also_while_it_waits() -> None:
    world = running("proxy", bakeSeconds=5)
    request(world, batchSize=2, bakeSeconds=1)
    world.change(QUEUED, {"batchSize": 1, "canary": 0})
    world.steer(NEXT, CommandType.PROMOTE)
    world.run_until(lambda: world.flow(QUEUED).phase.finished)
    strategy = world.spec(QUEUED).strategy
    assert (strategy.batch_size, strategy.bake_seconds, strategy.mode) == (1, 1, "auto")
    assert world.flow(QUEUED).strategy.batch_size == 1


def test_a_container_that_is_not_there_ends_it_before_it_begins() -> None:
    world = running("proxy")
    request(world, "proxy:2", "proxy")
    world.steer(NEXT, CommandType.CANCEL)
    assert (world.where(QUEUED), reason(world, QUEUED)) == ("Failed", "NotPossible")
    assert message(world, QUEUED) == "container: there is no proxy, only web"


@pytest.mark.parametrize("ends", [True, False])
def test_the_loss_of_redis_while_it_waits_changes_nothing(ends: bool) -> None:
    world = running("proxy")
    request(world, mode="auto", canary=0)
    world.lose_redis()
    world.wait(60_000)
    world.steer(NEXT, CommandType.PROMOTE if ends else CommandType.CANCEL)
    world.run_until(lambda: world.flow(QUEUED).phase.finished)
    assert world.flow(QUEUED).phase == "Success"
    assert ("env" in first_container(world)) is ends


def test_whoever_requested_it_stays_its_requester() -> None:
    world = running("proxy")
    request(world)
    before = world.flow(QUEUED).requested_by
    world.steer(NEXT, CommandType.CANCEL)
    assert world.flow(QUEUED).requested_by == before
    reported = [event.reason for event in world.events if event.flow.name == QUEUED]
    assert reported[:3] == ["Received", "Pending", "Inherited"]


def test_one_that_depends_on_nothing_is_complete_from_the_start() -> None:
    world = World(4)
    world.apply("first", {"mode": "auto"})
    world.apply(NEXT, {"mode": "auto", "batchSize": 1, "batches": 1, "paused": True})
    request(world)
    assert "inherits" not in world.flows[QUEUED]["spec"]
