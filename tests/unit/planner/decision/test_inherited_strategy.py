"""An update inherits the strategy that the last create or update requested, whatever happened to that release since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.planner.decision.apply_facts import make_flow
from services.planner.model.state import Instance
from services.planner.runtime.flow_cache import DeployFlow, observed
from services.planner.views.status import status_of
from shared.domain import deployflow as df
from shared.domain.deploy_commands import CommandType, DeployCommand, Refusal, Target, change, patch
from shared.domain.deployflow import FlowPhase
from shared.domain.json_types import Json
from shared.releases.history import inherited_strategy
from shared.releases.specs import Known, Wish, rollback, update
from tests.simulation.cluster import INSTANCE, NAMESPACE
from tests.simulation.world import World

ASKED: Json = {"canary": 1, "batchSize": 2, "mode": "manual"}


def created(**strategy: object) -> World:
    """An instance that is being created with gates; its canary waits."""
    world = World(None)
    world.apply("first", {**ASKED, **strategy}, action="create", replicas=8)
    assert world.where("first") == "BatchStarted 1 Smoked"
    return world


def known(world: World) -> Known:
    return Known(INSTANCE, [world.seen(name) for name in world.flows], world.cluster.body)


def inherited(world: World, **strategy: object) -> Json:
    """Return the strategy of an update that only names an image, as all roads build it."""
    spec = update(known(world), Wish("web:crash", strategy=strategy))
    found: Json = spec.model_dump(mode="json", exclude_unset=True)["updateStrategy"]
    return found


def promote(world: World, name: str) -> None:
    world.steer(name, CommandType.PROMOTE)
    world.run_until(lambda: world.flow(name).phase.finished)
    assert world.flow(name).phase == FlowPhase.SUCCESS


def roll_back(world: World, name: str) -> None:
    spec = rollback(known(world), None, {}).spec.model_dump(mode="json", exclude_unset=True)
    world.apply(name, spec["updateStrategy"], action="rollback", replicas=8, application=spec["application"])
    world.run_until(lambda: world.flow(name).phase.finished)


def test_a_promote_belongs_to_its_own_release() -> None:
    world = created()
    promote(world, "first")
    assert world.spec("first").strategy.mode == "auto"
    assert inherited(world) == ASKED


def test_a_rollback_changes_nothing_for_the_update_after_it() -> None:
    world = created()
    promote(world, "first")
    world.apply("second", ASKED)
    promote(world, "second")
    roll_back(world, "back")
    assert world.flow("back").phase == FlowPhase.SUCCESS
    assert world.spec("back").strategy.mode == "auto"
    assert inherited(world) == ASKED


def test_the_last_request_counts_also_where_its_release_was_canceled_or_taken_over() -> None:
    world = created()
    promote(world, "first")
    careful = {"canary": 2, "batchSize": 1, "mode": "manual", "bakeSeconds": 5}
    world.apply("second", careful)
    world.steer("second", CommandType.CANCEL)
    assert world.flow("second").phase == FlowPhase.CANCELED
    assert inherited(world) == careful
    world.apply("third", {**careful, "canary": 3})
    world.steer("third", CommandType.PAUSE)
    roll_back(world, "back")
    assert world.flow("third").phase == FlowPhase.ABORTED
    assert inherited(world) == {**careful, "canary": 3}


def test_what_an_update_asks_for_is_inherited_by_the_next() -> None:
    world = created()
    promote(world, "first")
    world.apply("second", inherited(world, canary=0, mode="auto"))
    world.run_until(lambda: world.flow("second").phase.finished)
    assert inherited(world) == {"canary": 0, "batchSize": 2, "mode": "auto"}


def test_a_create_that_was_refused_counts_for_nothing() -> None:
    world = created()
    promote(world, "first")
    world.apply("again", {"mode": "auto"}, action="create", replicas=9)
    assert (world.flow("again").phase, world.flow("again").reason) == (FlowPhase.FAILED, "AlreadyExists")
    assert inherited(world) == ASKED


def test_the_record_survives_the_loss_of_redis() -> None:
    world = created()
    world.steer("first", CommandType.PROMOTE)
    world.lose_redis()
    world.wait(0)
    world.run_until(lambda: world.flow("first").phase.finished)
    assert world.status("first")["requestedStrategy"] == ASKED
    assert inherited(world) == ASKED


def test_a_release_without_a_record_passes_its_spec_on() -> None:
    """As one that an older version carried out."""
    world = created()
    promote(world, "first")
    releases = [world.seen("first")]
    del releases[0]["status"]["requestedStrategy"]
    assert inherited_strategy(releases, releases[0]) == {**ASKED, "mode": "auto"}


STEPS: list[Callable[[World, str], None]] = [
    lambda world, name: world.steer(name, CommandType.NEXT),
    lambda world, name: world.steer(name, CommandType.CONTINUE, target=Target(batches=3)),
    lambda world, name: world.steer(name, CommandType.PROMOTE),
    lambda world, name: world.steer(name, CommandType.PAUSE),
    lambda world, name: world.steer(name, CommandType.RESUME),
    lambda world, name: world.steer(name, CommandType.RETRY),
    lambda world, name: world.change(name, {"mode": "auto", "batchSize": "100%", "canary": 0}),
    lambda world, name: world.fail(),
    lambda world, name: world.lose_redis(),
    lambda world, name: world.wait(60_000),
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=6), st.booleans())
def test_whatever_is_done_to_a_release_the_next_update_inherits_what_was_requested(
    steps: list[Callable[[World, str], None]], back: bool
) -> None:
    world = created()
    promote(world, "first")
    asked = {"canary": 2, "batchSize": 3, "mode": "manual", "batchIntervalSeconds": 1}
    world.apply("second", asked)
    for step in steps:
        if world.flow("second").phase.finished:
            break
        try:
            step(world, "second")
        except Refusal:
            continue
    if back:
        roll_back(world, "back")
    assert inherited(world) == asked


# --- before the planner has seen the release --------------------------------------------------------------


def made(**changes: Any) -> Json:
    """A DeployFlow that no planner has seen."""
    world = created()
    flow = world.flows["first"]
    meta = {"name": "first", "namespace": "shop", "uid": "u", "generation": 1, "resourceVersion": "1"}
    return {**flow, "metadata": {**meta, "creationTimestamp": "2026-01-01T00:00:00Z", **changes}}


def promoted(flow: Json) -> Json:
    command = DeployCommand(id="1", type=CommandType.PROMOTE, namespace="shop", deploy_flow="first")
    fields = change(flow, command)
    assert fields is not None
    body = patch(flow, fields, request_id="1", requested_by="")
    annotations = {**flow["metadata"].get("annotations", {}), **body["metadata"]["annotations"]}
    strategy = {**flow["spec"]["updateStrategy"], **fields}
    meta = {**flow["metadata"], "annotations": annotations, "generation": flow["metadata"]["generation"] + 1}
    return {**flow, "metadata": meta, "spec": {**flow["spec"], "updateStrategy": strategy}}


def record(flow: Json) -> Json | None:
    """Return what the planner writes into `.status` when it sees the release first."""
    seen = make_flow(observed(msgspec.convert(flow, DeployFlow)), 0)
    instance = Instance(namespace=NAMESPACE, name=INSTANCE, waiting=(seen,))
    found: Json | None = status_of(instance, seen)["requestedStrategy"]
    return found


def test_a_promote_before_the_planner_has_seen_the_release_is_no_request() -> None:
    flow = promoted(made())
    assert record(flow) == ASKED
    assert inherited_strategy([flow], flow) == ASKED
    again = patch(flow, {"mode": "manual"}, request_id="2", requested_by="")
    assert df.REQUESTED_STRATEGY not in again["metadata"]["annotations"]


def test_once_it_is_recorded_nobody_writes_an_annotation_and_none_is_believed() -> None:
    seen = {**made(), "status": {"requestedStrategy": ASKED}}
    assert df.REQUESTED_STRATEGY not in promoted(seen)["metadata"]["annotations"]
    seen["metadata"]["annotations"] = {df.REQUESTED_STRATEGY: '{"mode": "auto"}'}
    seen["metadata"]["generation"] = 5
    assert record(seen) == ASKED
    assert inherited_strategy([seen], seen) == ASKED


@pytest.mark.parametrize("text", ["{", "7", '{"mode": "fast"}', '{"mode": "auto"}'])
def test_an_annotation_of_a_spec_that_nobody_has_changed_is_not_read(text: str) -> None:
    flow = made(annotations={df.REQUESTED_STRATEGY: text})
    assert record(flow) == ASKED
    assert inherited_strategy([flow], flow) == ASKED


def test_an_annotation_that_cannot_be_read_is_none() -> None:
    flow = made(annotations={df.REQUESTED_STRATEGY: '{"mode": "fast"}'}, generation=2)
    assert record(flow) == ASKED
    assert inherited_strategy([flow], flow) == ASKED
