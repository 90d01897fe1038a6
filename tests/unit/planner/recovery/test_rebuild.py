"""Redis has lost an instance: it is rebuilt from `.status` and the CloneSet, and the release goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from services.planner.model.state import Instance
from services.planner.model.stored_state import dump, load
from services.planner.views.bounded_status import LARGEST_OBJECT, bound_status
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType, Target
from shared.domain.json_types import Json
from shared.domain.topics import PHASE_EVENTS
from tests.simulation.cluster import HEAD
from tests.simulation.surroundings import Surroundings
from tests.simulation.world import World
from tests.unit.planner.releases import (
    NEW,
    opening,
    press_next,
    reason,
    revisions,
    sizes,
    starting,
    update,
    without_answer,
)


class Road(NamedTuple):
    """A whole release: how it begins, and what people do until it is over."""

    says: str
    strategy: Json
    there: int = 4
    wanted: int = 4
    action: str = "update"
    cancel: bool = False

    def begin(self) -> World:
        return World(None if self.action == "create" else self.there)

    def drive(self, world: World) -> None:
        world.apply(NEW, self.strategy, replicas=self.wanted, action=self.action)
        for _ in range(100):
            if world.flow(NEW).phase.finished:
                return
            if self.cancel and world.flow(NEW).finished_batches:
                world.steer(NEW, CommandType.CANCEL)
            elif reason(world) == "WaitingForNext":
                press_next(world)
            else:
                world.wait(1000)
        raise AssertionError(f"does not end: {world.instance}")


ROADS = [
    Road("update", {"mode": "auto", "batchSize": 2}),
    Road("update by hand", {"mode": "manual", "batchSize": 3}),
    Road("update with canary", {"mode": "auto", "batchSize": 2, "canary": 1}),
    Road(
        "update that bakes and pulls out",
        {"mode": "auto", "batchSize": 2, "bakeSeconds": 2, "pullOutSeconds": 2},
    ),
    Road("update one by one", {"mode": "auto", "batchSize": 1}, there=5, wanted=5),
    Road("restart", {"mode": "auto", "batchSize": 2}, action="restart"),
    Road("update up", {"mode": "auto", "batchSize": 2}, wanted=7),
    Road("update down", {"mode": "auto", "batchSize": 2}, wanted=2),
    Road("update to none", {"mode": "auto", "batchSize": 2}, wanted=0),
    Road("create", {"mode": "auto", "batchSize": 2}, action="create"),
    Road("create with canary", {"mode": "auto", "batchSize": 2, "canary": 1}, action="create"),
    Road("canceled after a batch", {"mode": "manual", "batchSize": 2}, cancel=True),
]
every_road = pytest.mark.parametrize("road", ROADS, ids=lambda road: road.says.replace(" ", "-"))


class End(NamedTuple):
    where: str
    batches: list[int]
    revisions: dict[str, int]
    serving: int


def _end(world: World) -> End:
    return End(world.where(NEW), sizes(world), revisions(world), world.cluster.serving())


def _straight(road: Road) -> tuple[End, int]:
    world = road.begin()
    road.drive(world)
    return _end(world), len(world.history)


def _with_loss(
    road: Road, after: int, *, behind: bool = False, room: bool = True, written_until: int | None = None
) -> World:
    """The road, Redis lost after so many facts.

    `behind`: `.status` was not written after the last of them. `written_until`: nor after any since that one. `room`:
    it has room for all pods and batches.
    """
    world = road.begin()
    written: list[dict[str, Json]] = []
    lowest = road.wanted if road.action == "create" else min(road.there, road.wanted)

    def lose() -> None:
        if road.action == "update":
            assert world.cluster.serving() >= lowest, f"too few pods serve after fact {len(world.history)}"
        beside = 0 if room else LARGEST_OBJECT
        written.append({name: bound_status(status, beside) for name, status in world.statuses().items()})
        if len(world.history) == after:
            last = -2 if behind and len(written) > 1 else -1
            world.lose_redis(written[last if written_until is None else written_until])

    world.after_each = lose
    road.drive(world)
    return world


@every_road
def test_redis_lost_after_any_fact_changes_nothing_about_the_end(road: Road) -> None:
    straight, facts = _straight(road)
    for after in range(1, facts):
        assert _end(_with_loss(road, after)) == straight, f"lost after fact {after} of {facts}"


@every_road
def test_a_status_that_is_one_fact_behind_is_enough(road: Road) -> None:
    straight, facts = _straight(road)
    for after in range(2, facts):
        end = _end(_with_loss(road, after, behind=True))
        if not road.wanted:
            # no hold shows a batch that only removed: its result is taken for the initial state
            end = end._replace(where=straight.where, batches=straight.batches)
        assert end == straight, f"lost after fact {after} of {facts}"


@every_road
@pytest.mark.parametrize("written_until", [3, 6, 12])
def test_a_status_that_is_batches_behind_costs_no_pod_that_serves(road: Road, written_until: int) -> None:
    straight, facts = _straight(road)
    for after in range(written_until + 1, facts):
        world = _with_loss(road, after, written_until=written_until)
        end = _end(world)
        assert (end.revisions, end.serving) == (straight.revisions, straight.serving), f"lost after {after}"
        numbers = [batch.number for batch in world.flow(NEW).batches]
        assert numbers == list(range(1, len(numbers) + 1)), f"lost after {after}"


@every_road
def test_a_status_without_room_for_pods_and_for_all_batches_is_enough(road: Road) -> None:
    straight, facts = _straight(road)
    for after in range(1, facts):
        assert _end(_with_loss(road, after, room=False)) == straight, f"lost after fact {after} of {facts}"


# --- where it stands stays as it is ----------------------------------------------------------------------


def _lost(world: World) -> None:
    world.lose_redis()
    world.wait(1)


PLACES: list[tuple[str, Callable[[], World]]] = [
    ("BatchStarted 1 Smoking", lambda: starting(4)),
    ("BatchStarted 1 Smoked", lambda: update(4, canary=1)),
    ("BatchStarted 1 Baking", lambda: update(4, canary=1, stage="Baking")),
    ("BatchStarted 1 Baked", lambda: update(4, batchSize=2, pullOutSeconds=30)),
    ("BatchFinished 1 Baked", lambda: update(4, batchSize=2, mode="manual")),
]


@pytest.mark.parametrize(("where", "build"), PLACES, ids=[where for where, _ in PLACES])
def test_a_release_stays_where_it_stands(where: str, build: Callable[[], World]) -> None:
    world = build()
    said = world.status(NEW)
    _lost(world)
    assert world.where(NEW) == where
    now_says = world.status(NEW)
    for field in (
        "phase",
        "reason",
        "batches",
        "finishedBatches",
        "finishedReplicas",
        "pods",
        "updateRevision",
    ):
        assert now_says[field] == said[field], field
    assert now_says["version"] > said["version"]
    assert now_says["sequence"] > said["sequence"]


def test_a_failed_release_stays_failed_and_can_be_canceled() -> None:
    world = starting(4)
    world.fail()
    said = world.status(NEW)
    _lost(world)
    for field in ("phase", "reason", "message", "failedReplicas", "paused"):
        assert world.status(NEW)[field] == said[field], field
    world.steer(NEW, CommandType.CANCEL)
    assert world.where(NEW) == "Canceled 1 SmokeFailed"
    assert revisions(world) == {"old": 4}


def test_a_paused_release_stays_paused() -> None:
    world = update(6, batchSize=2, mode="manual", bakeSeconds=5)
    world.steer(NEW, CommandType.PAUSE)
    _lost(world)
    world.wait(60_000)
    assert (world.where(NEW), reason(world)) == ("BatchStarted 1 Baking", "Paused")
    world.steer(NEW, CommandType.RESUME)
    world.wait(5_000)
    assert world.where(NEW) == "BatchFinished 1 Baked"


def test_the_pull_in_time_begins_again_and_is_kept() -> None:
    world = opening(4, pullInTimeoutSeconds=60)
    world.wait(50_000)
    _lost(world)
    world.wait(59_000)
    assert world.where(NEW) == "BatchStarted 1 Baking"
    world.wait(1_000)
    assert world.where(NEW) == "BatchStarted 1 BakeFailed"


def test_the_startup_time_begins_again_so_that_an_outage_fails_no_batch() -> None:
    world = starting(4, startupTimeoutSeconds=60)
    world.now += 3_600_000  # Redis is away for an hour, and comes back empty
    _lost(world)
    assert world.where(NEW) == "BatchStarted 1 Smoking"


@pytest.mark.parametrize("starts", [True, False], ids=["baking", "smoking"])
def test_an_observation_that_takes_longer_than_a_time_out_fails_no_batch(starts: bool) -> None:
    """Before, a batch whose pods were all Ready failed: "0 of 2 pods of batch 1 are gone"."""
    build = update if starts else starting
    world = build(4, batchSize=2, bakeSeconds=600, startupTimeoutSeconds=100, pullInTimeoutSeconds=100)
    where = world.where(NEW)
    world.silent = {"observe"}
    _lost(world)
    world.wait(120_000)
    world.silent = set()
    world.wait(10_000)
    assert world.where(NEW) == where
    assert not world.flow(NEW).failed


def _behind_its_pull_in(**strategy: Any) -> World:
    """A batch whose pod has traffic and loses its containers; Redis is lost, and `.status` says Smoking."""
    world = World(None)
    world.containers_start = False
    world.apply(
        NEW, {"mode": "auto", "batchSize": 1, "bakeSeconds": 60, **strategy}, replicas=2, action="create"
    )
    behind = world.statuses()
    (pod,) = world.pods
    world.start(pod)
    pod.open, pod.containers_ready = True, False
    world.report_pods()
    world.lose_redis(behind)
    world.wait(0)
    return world


def test_a_pod_that_fails_in_traffic_fails_its_batch_in_time_though_its_pull_in_is_in_no_status() -> None:
    """Before, it was awaited at Smoking for the whole start-up time, without a reason."""
    world = _behind_its_pull_in(pullInTimeoutSeconds=20)
    assert world.where(NEW) == "BatchStarted 1 Baking"
    world.wait(20_000)
    assert world.where(NEW) == "BatchStarted 1 BakeFailed"


def test_a_pod_that_has_traffic_before_a_person_approved_it_is_not_accepted_by_a_loss_of_redis() -> None:
    world = _behind_its_pull_in(batches=1, stage="Smoked")
    assert world.where(NEW) == "BatchStarted 1 Smoking"
    world.start(*world.pods)
    assert (world.where(NEW), reason(world)) == ("BatchStarted 1 Smoked", "WaitingForNext")


def test_a_canary_found_by_its_hold_alone_is_still_a_canary() -> None:
    world = World(4)
    before: list[dict[str, Json]] = []
    world.after_each = lambda: before.append(world.statuses())
    world.apply(NEW, {"mode": "auto", "batchSize": 2, "canary": 1})
    assert before[0][NEW]["conditions"] == []
    world.lose_redis(before[0])
    world.wait(1)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    assert world.flow(NEW).canary
    assert world.status(NEW)["replicasToProcess"] == 4
    assert world.status(NEW)["batches"] == 3


def test_releases_that_wait_go_on_waiting_in_their_order() -> None:
    world = update(4, canary=1)
    world.apply("second", {"mode": "auto"})
    _lost(world)
    assert (world.where(NEW), world.where("second")) == ("BatchStarted 1 Smoked", "Pending")
    assert reason(world, "second") == "WaitingItsTurn"
    world.steer(NEW, CommandType.CONTINUE, target=Target(batches=9))
    assert world.where("second") == "Success 1 Baked"


def test_a_finished_release_is_not_begun_again() -> None:
    world = update(4)
    world.lose_redis()
    assert world.instance == Instance(namespace="default", name="web", version=0)


def test_what_redis_keeps_is_read_back_as_it_was() -> None:
    world = update(4, canary=1)
    world.apply("second", {})
    world.fail()
    assert load(dump(world.instance)) == world.instance


def test_the_look_is_repeated_until_the_clonesets_controller_has_caught_up() -> None:
    world = without_answer("surge", 4)
    world.silent = {"observe"}
    _lost(world)
    observation = world.commands[-1]
    behind = world.facts.model_copy(update={"generation": 9, "observed_generation": 8})
    world.handle(m.Done(**HEAD, sequence=observation.sequence, cloneset=behind, same_template=True))
    assert world.commands[-1] is observation, "the new pods can't be distinguished yet"
    world.wait(10_000)
    assert (world.kinds[-2:], world.commands[-1].sequence) == (["observe", "observe"], observation.sequence)
    world.catch_up()
    world.run_until(lambda: world.flow(NEW).phase.finished)
    assert world.cluster.serving() == 4


def test_a_pod_reported_before_an_older_list_of_pods_came_is_not_forgotten() -> None:
    around = Surroundings(0)
    around.apply({"mode": "auto", "batchSize": 1, "canary": 1}, 2)
    around.settles()
    around.vanish(around.cluster.live[0])
    around.lose_redis(behind=False)
    # the look is answered while there is no pod; the answer comes after the news of the pod that took its place
    around.executor_works()
    around.kruise_works()
    around.start(around.cluster.live[0])
    while around.facts[PHASE_EVENTS]:
        around.takes(PHASE_EVENTS)
    around.ends()
    assert around.cluster.serving() == 2
