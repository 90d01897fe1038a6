"""What Triton 0.1.x began goes on: every place of its road, from its status and what there is."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from services.planner.decision.apply_facts import make_flow
from services.planner.recovery.rebuild import rebuild
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from shared.domain.json_types import Json
from shared.domain.topics import Key
from tests.simulation.cluster import INSTANCE, NAMESPACE, OLD, SimulatedPod, application
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, message, press_next, reason, revisions, sizes

KEY = Key(NAMESPACE, INSTANCE)
UID = f"uid-{NEW}"


class Legacy:
    """An instance of `wanted` pods in the middle of what 0.1.x began on it, as that one's code leaves it."""

    def __init__(
        self, wanted: int = 6, *, action: str = "update", replicas: int | None = None, **strategy: Any
    ) -> None:
        self.world = World(0 if action == "create" else wanted)
        self.wanted = wanted
        self.conditions: list[Json] = []
        self.phase = "BatchStarted"
        self.paused = False
        self.target = OLD if action == "restart" else NEW
        field = "updateStrategy" if action in {"create", "update", "rollback"} else "nonUpdateStrategy"
        meta = {"name": NEW, "namespace": NAMESPACE, "generation": 1, "resourceVersion": "1"}
        self.world.flows[NEW] = {
            "metadata": {**meta, "creationTimestamp": self.world.now},
            "spec": {
                "action": action,
                "application": application(self.target, wanted),
                field: {"mode": "auto", "batchSize": 2, **strategy},
            },
        }
        self.cloneset(wanted if replicas is None else replicas, 0 if action == "create" else wanted)
        if action != "restart":
            # the template as that one wrote it: not as ours would be
            self.body["spec"]["template"]["spec"]["containers"][0]["image"] = f"web:{NEW}"
            self.body["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "registry"}]

    @property
    def body(self) -> Json:
        assert self.world.cluster.body is not None
        return self.world.cluster.body

    def cloneset(self, replicas: int, partition: int, *, paused: bool = False) -> None:
        owner = {
            "apiVersion": "apps.triton.io/v1alpha1",
            "kind": "DeployFlow",
            "name": NEW,
            "uid": UID,
            "controller": True,
        }
        strategy = {"maxSurge": "60%", "maxUnavailable": 0, "partition": partition, "paused": paused}
        self.body["metadata"]["ownerReferences"] = [owner]
        self.body["spec"] |= {"replicas": replicas, "updateStrategy": strategy}

    def pods(self, *names: str, ready: bool = True, opened: bool = False) -> list[SimulatedPod]:
        made = [
            SimulatedPod(name, self.target, containers_ready=ready, open=opened, created_at=self.world.now)
            for name in names
        ]
        self.world.cluster.pods += made
        return made

    def condition(self, size: int, phase: str, *pods: str, canary: bool = False, **more: Any) -> None:
        named = [{"name": pod, "ip": "", "port": 80, "phase": "Ready", "pullInStatus": ""} for pod in pods]
        self.conditions.append(
            {
                "batch": len(self.conditions) + 1,
                "batchSize": size,
                "canary": canary,
                "phase": phase,
                "failedReplicas": 0,
                "pods": named or None,
                "startedAt": None if phase == "Pending" else "1970-01-01T00:16:30Z",
                "pulledInAt": None,
                "finishedAt": "1970-01-01T00:16:35Z" if phase == "Baked" else None,
                **more,
            }
        )

    def status(self) -> Json:
        baked = [c for c in self.conditions if c["phase"] == "Baked"]
        return {
            "phase": self.phase,
            "paused": self.paused,
            "finished": False,
            "conditions": self.conditions or None,
            "pods": None,
            "batches": 3,
            "finishedBatches": len(baked),
            "finishedReplicas": sum(c["batchSize"] for c in baked),
            "replicasToProcess": self.wanted,
            "updateRevision": "" if self.phase == "Initializing" else self.target,
            "startedAt": "1970-01-01T00:16:30Z",
            "updatedAt": None,
            "finishedAt": None,
        }

    def start(self) -> World:
        """0.1.x is gone; the planner comes up and finds what it left."""
        world = self.world
        target = self.body["spec"]["template"]["spec"]["containers"][0]["image"].removeprefix("web:")
        self.body["status"] = {"observedGeneration": 1, "updateRevision": target}
        world.cluster._before, world.cluster._target = OLD, target
        world.cluster.open_unclaimed()
        world.cluster.everything()
        world.instance = rebuild(KEY, [world.observed(NEW, self.status())], make_flow, world.now)
        least: list[int] = []
        world.after_each = lambda: least.append(world.cluster.serving())
        serving = world.cluster.serving()
        world.wait(1)
        world.handle(world.cluster.everything())
        assert min(least) >= min(serving, self.wanted)
        return world


def ends_well(world: World, wanted: int = 6) -> None:
    serving = min(world.cluster.serving(), wanted)

    def watch() -> None:
        assert world.cluster.serving() >= serving, world.history[-1].fact

    world.after_each = watch
    world.run_until(lambda: world.flow(NEW).phase.finished, seconds=100)
    assert world.flow(NEW).phase == "Success", message(world)
    assert revisions(world) == {NEW: wanted}
    assert world.cluster.serving() == wanted
    live = world.cluster.cloneset
    assert live is not None
    assert live.owner == ""
    assert live.spec.update_strategy == {
        "maxSurge": "60%",
        "maxUnavailable": 0,
        "partition": 0,
        "paused": False,
    }
    assert "imagePullSecrets" in live.spec.template["spec"], "writing our own template is another revision"


@pytest.mark.parametrize("phase", ["Smoking", "Smoked", "Baking"])
def test_a_batch_that_was_under_way_is_taken_up(phase: str) -> None:
    legacy = Legacy()
    legacy.cloneset(8, 6)
    made = legacy.pods("a", "b", ready=phase != "Smoking", opened=phase == "Baking")
    legacy.condition(2, phase, "a", "b")
    world = legacy.start()
    world.start(*made)
    ends_well(world)
    assert sizes(world) == [2, 2, 2]
    assert {"a", "b"} <= {pod.name for pod in world.pods}, "nothing of it was made again"


def test_a_batch_of_which_half_the_pods_were_made_is_completed() -> None:
    legacy = Legacy()
    legacy.cloneset(8, 6)
    legacy.pods("a", ready=True)
    legacy.condition(2, "Smoking")
    ends_well(legacy.start())


def test_a_canary_keeps_waiting_without_traffic_and_then_with() -> None:
    legacy = Legacy(canary=1)
    legacy.cloneset(7, 6)
    (canary,) = legacy.pods("a")
    legacy.condition(1, "Smoked", "a", canary=True)
    world = legacy.start()
    world.wait(60_000)
    assert (world.where(NEW), reason(world)) == ("BatchStarted 1 Smoked", "WaitingForNext")
    assert not canary.open
    assert press_next(world) == "BatchStarted 1 Baking"
    assert canary.open
    assert press_next(world) == "BatchFinished 1 Baked"
    assert revisions(world) == {OLD: 5, NEW: 1}
    press_next(world)
    ends_well(world)
    assert sizes(world) == [1, 2, 2, 1]


def test_a_canary_under_observation_keeps_its_traffic_and_waits() -> None:
    legacy = Legacy(canary=1, stage="Baking")
    legacy.cloneset(7, 6)
    legacy.pods("a", opened=True)
    legacy.condition(1, "Baking", "a", canary=True, pulledInAt="1970-01-01T00:16:35Z")
    world = legacy.start()
    world.wait(60_000)
    assert (world.where(NEW), reason(world)) == ("BatchStarted 1 Baking", "WaitingForNext")
    assert revisions(world) == {OLD: 6, NEW: 1}


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    ("replicas", "partition", "old"),
    [pytest.param(6, 4, 4, id="old pods gone"), pytest.param(8, 6, 6, id="old pods all there")],
)
def test_between_batches_it_waits_for_the_same_go_ahead(
    replicas: int, partition: int, old: int, announced: bool
) -> None:
    """The published 0.1.x never removed old pods at all; its own intent was to."""
    legacy = Legacy(mode="manual")
    legacy.cloneset(replicas, partition)
    legacy.world.cluster.pods = legacy.world.cluster.pods[:old]
    legacy.pods("a", "b", opened=True)
    legacy.condition(2, "Baked", "a", "b")
    if announced:
        legacy.condition(2, "Pending")
    world = legacy.start()
    world.wait(60_000)
    assert (world.where(NEW), reason(world)) == ("BatchFinished 1 Baked", "WaitingForNext")
    assert revisions(world) == {OLD: old, NEW: 2}
    assert (world.status(NEW)["batches"], world.status(NEW)["finishedReplicas"]) == (3, 2)
    press_next(world)
    assert revisions(world) == {OLD: 2, NEW: 4}
    press_next(world)
    ends_well(world)


def test_a_batch_that_0_1_x_could_not_go_on_with_gets_its_pods() -> None:
    """The published 0.1.x asks for the same replicas again for its second batch, so no pod comes."""
    legacy = Legacy()
    legacy.cloneset(8, 6)
    legacy.pods("a", "b", opened=True)
    legacy.condition(2, "Baked", "a", "b")
    legacy.condition(2, "Smoking")
    world = legacy.start()
    ends_well(world)
    assert sizes(world) == [2, 2, 2]


def test_pods_made_for_a_batch_whose_beginning_was_not_written_down_are_its_own() -> None:
    legacy = Legacy(canary=1)
    legacy.cloneset(7, 6)
    (canary,) = legacy.pods("a")
    legacy.condition(1, "Pending", canary=True)
    world = legacy.start()
    world.wait(60_000)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    assert not canary.open


def test_a_release_that_had_only_written_its_template_begins_its_first_batch() -> None:
    legacy = Legacy(canary=1)
    legacy.phase = "Initializing"
    world = legacy.start()
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    assert revisions(world) == {OLD: 6, NEW: 1}
    assert (world.status(NEW)["replicasToProcess"], world.status(NEW)["batches"]) == (6, 4)


def test_a_create_goes_on_with_the_pods_that_it_has() -> None:
    legacy = Legacy(3, action="create", canary=1, batchSize=1)
    legacy.cloneset(1, 0)
    legacy.pods("a")
    legacy.condition(1, "Smoked", "a", canary=True)
    world = legacy.start()
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    for _ in range(3):
        press_next(world)
    ends_well(world, 3)


def test_a_create_that_had_made_all_its_pods_at_once_still_has_a_canary() -> None:
    legacy = Legacy(3, action="create", canary=1, batchSize=1)
    legacy.phase = "Initializing"
    legacy.cloneset(3, 0)
    legacy.pods("a", "b", "c")
    world = legacy.start()
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    assert world.cluster.serving() == 0
    assert revisions(world) == {NEW: 1}


def test_a_rollback_goes_on_as_the_update_that_it_is() -> None:
    legacy = Legacy(action="rollback")
    legacy.cloneset(8, 6)
    legacy.pods("a", "b")
    legacy.condition(2, "Smoked", "a", "b")
    ends_well(legacy.start())


def test_a_paused_release_stays_paused_and_goes_on_when_it_is_resumed() -> None:
    legacy = Legacy(paused=True)
    legacy.paused = True
    legacy.cloneset(8, 6, paused=True)
    legacy.pods("a", ready=True)
    legacy.condition(2, "Smoking", "a")
    legacy.world.containers_start = False
    world = legacy.start()
    world.wait(60_000)
    assert (world.where(NEW), reason(world)) == ("BatchStarted 1 Smoking", "Paused")
    assert revisions(world)[OLD] == 6
    world.steer(NEW, CommandType.RESUME)
    world.catch_up()
    ends_well(world)


def test_a_batch_that_failed_has_failed_if_its_pods_still_do() -> None:
    legacy = Legacy()
    legacy.paused = True
    legacy.cloneset(8, 6, paused=True)
    bad, _ = legacy.pods("a", "b", ready=False)
    bad.crash()
    legacy.condition(2, "Smoking", "a", "b", failedReplicas=1)
    world = legacy.start()
    assert (world.where(NEW), reason(world)) == ("BatchStarted 1 SmokeFailed", "SmokeFailed")
    world.steer(NEW, CommandType.CANCEL)
    assert world.flow(NEW).phase == "Canceled"
    assert revisions(world) == {OLD: 6}
    assert world.facts.owner == ""
    world.vanish(world.pods[0])
    assert revisions(world) == {OLD: 6}, "no template was known to go back to, yet old pods come back as old"


def test_a_batch_whose_pods_recovered_goes_on() -> None:
    legacy = Legacy()
    legacy.paused = True
    legacy.cloneset(8, 6, paused=True)
    legacy.pods("a", "b")
    legacy.condition(2, "Smoking", "a", "b", failedReplicas=1)
    ends_well(legacy.start())


def test_a_release_that_was_canceled_meanwhile_ends_and_keeps_every_pod_that_served() -> None:
    legacy = Legacy(canceled=True)
    legacy.cloneset(8, 6)
    legacy.world.cluster.pods[0].created_at = 1
    legacy.pods("a", "b")
    legacy.condition(2, "Smoked", "a", "b")
    world = legacy.start()
    assert world.flow(NEW).phase == "Canceled"
    assert revisions(world) == {OLD: 6}
    assert world.cluster.serving() == 6


def test_a_release_canceled_before_its_first_batch_leaves_no_claim() -> None:
    legacy = Legacy(canceled=True)
    legacy.phase = "Initializing"
    world = legacy.start()
    assert world.flow(NEW).phase == "Canceled"
    assert world.facts.owner == ""
    assert (revisions(world), world.cluster.serving()) == ({OLD: 6}, 6)


def test_what_this_version_cannot_carry_on_is_said_and_left_as_it_stands() -> None:
    legacy = Legacy(3, action="restart")
    legacy.cloneset(4, 0)
    (fresh,) = legacy.pods("a")
    legacy.condition(1, "Smoking", "a")
    world = legacy.start()
    assert world.where(NEW).startswith("Failed")
    assert reason(world) == "NotSupported"
    assert "keep serving" in message(world)
    assert "update" in message(world)
    assert world.cluster.serving() == 4
    assert fresh.open, "nobody claims it any more"
    assert world.facts.owner == ""
    world.flows.pop(NEW)
    world.apply("next", {"mode": "auto"}, replicas=3)
    assert revisions(world) == {"next": 3}


def test_a_release_whose_template_somebody_replaced_is_finished() -> None:
    legacy = Legacy()
    legacy.cloneset(8, 6)
    legacy.condition(2, "Baked")
    legacy.body["spec"]["template"]["spec"]["containers"][0]["image"] = "web:other"
    legacy.target = NEW
    world = legacy.start()
    assert world.where(NEW).startswith("Aborted")
    assert reason(world) == "Replaced"
    assert world.cluster.serving() >= 6


def test_of_two_that_0_1_x_left_unfinished_the_last_goes_on() -> None:
    legacy = Legacy(mode="manual")
    legacy.cloneset(6, 4)
    legacy.world.cluster.pods = legacy.world.cluster.pods[:4]
    legacy.pods("a", "b", opened=True)
    legacy.condition(2, "Baked", "a", "b")
    world = legacy.world
    flow = world.flows[NEW]
    stuck = {**flow, "metadata": {**flow["metadata"], "name": "stuck", "creationTimestamp": 1}}
    world.flows = {"stuck": stuck, NEW: flow}
    legacy.start()
    specs = [world.observed("stuck", legacy.status()), world.observed(NEW, legacy.status())]
    world.instance = rebuild(KEY, specs, make_flow, world.now)
    world.wait(1)
    assert world.where("stuck") == "Aborted"
    assert world.where(NEW) == "BatchFinished 1 Baked"


def test_a_release_that_0_1_x_had_not_begun_is_begun_here() -> None:
    legacy = Legacy()
    legacy.phase = "Pending"
    world = World(6)
    world.flows = legacy.world.flows
    world.handle(world.observed(NEW, legacy.status()))
    world.run_until(lambda: world.flow(NEW).phase.finished)
    assert revisions(world) == {NEW: 6}


def test_a_release_that_is_found_while_others_are_remembered_is_taken_up_too() -> None:
    legacy = Legacy(canary=1)
    legacy.cloneset(7, 6)
    legacy.pods("a")
    legacy.condition(1, "Smoked", "a", canary=True)
    world = legacy.start()
    world.instance = replace(
        world.instance, active=None, pending=None, recorded_uids=("uid-earlier",), sequence=0
    )
    legacy.cloneset(7, 6)
    legacy.body["metadata"]["annotations"] = {}
    world.handle(world.observed(NEW, legacy.status()))
    assert world.where(NEW) == "BatchStarted 1 Smoked"


@pytest.mark.parametrize("phase", ["Success", "Failed", "Canceled", "Aborted"])
def test_what_0_1_x_finished_is_never_begun_again(phase: str) -> None:
    legacy = Legacy()
    finished = {**legacy.status(), "phase": phase, "finished": True}
    instance = rebuild(KEY, [legacy.world.observed(NEW, {"finished": finished["finished"]})], make_flow, 1)
    assert not instance.flows


def test_redis_lost_before_the_first_write_finds_the_same_place() -> None:
    legacy = Legacy(canary=1)
    legacy.cloneset(7, 6)
    legacy.pods("a")
    legacy.condition(1, "Smoked", "a", canary=True)
    legacy.world.silent = {"surge"}
    world = legacy.start()
    assert world.facts.owner == UID
    world.lose_redis()
    world.wait(1)
    world.catch_up()
    world.wait(20_000)
    assert (world.where(NEW), reason(world)) == ("BatchStarted 1 Smoked", "WaitingForNext")
    for _ in range(3):
        press_next(world)
    ends_well(world)


def test_redis_lost_after_the_take_over_keeps_the_template_as_it_was_found() -> None:
    legacy = Legacy(mode="manual")
    legacy.cloneset(8, 6)
    legacy.pods("a", "b", opened=True)
    legacy.condition(2, "Baked", "a", "b")
    world = legacy.start()
    world.lose_redis()
    world.wait(1)
    press_next(world)
    press_next(world)
    ends_well(world)


def test_somebody_who_scales_before_the_first_write_is_heeded() -> None:
    legacy = Legacy()
    legacy.cloneset(8, 6)
    legacy.pods("a", "b")
    legacy.condition(2, "Smoked", "a", "b")
    legacy.world.silent = {"surge"}
    world = legacy.start()
    world.cluster.disturbed = True
    world.cluster.scale(1)
    world.cluster.reconcile()
    world.cluster.pods[-1].containers_ready = True
    world.catch_up()
    world.wait(20_000)
    ends_well(world, 9)


def test_the_claim_of_0_1_x_becomes_a_hold_in_one_write_that_makes_and_deletes_nothing() -> None:
    legacy = Legacy(canary=1)
    legacy.cloneset(7, 6)
    legacy.pods("a")
    legacy.condition(1, "Smoked", "a", canary=True)
    world = legacy.start()
    assert world.kinds[:2] == ["observe", "surge"]
    claim = world.commands[1]
    assert isinstance(claim, m.Surge)
    assert (claim.replicas, claim.partition, claim.application, claim.retire) == (7, 6, None, [])
    assert claim.hold == m.Hold(flow=UID, batch=1, surge=1, updated=0, others=6)
