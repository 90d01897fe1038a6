"""What this version can't carry out is refused by name, before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest

from shared import messages as m
from tests.simulation.cluster import HEAD, application
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, message, reason, revisions, update

Json = dict[str, Any]

NOT_SUPPORTED = [
    ({"failureThreshold": 1}, "spec.updateStrategy.failureThreshold"),
    ({"failureThreshold": "10%"}, "spec.updateStrategy.failureThreshold"),
    ({"onFailure": "rollback"}, "spec.updateStrategy.onFailure"),
    ({"progressDeadlineSeconds": 60}, "spec.updateStrategy.progressDeadlineSeconds"),
]


def _told(world: World, spec: Json, name: str = NEW) -> None:
    world.tell(
        m.SpecObserved(
            **HEAD,
            flow=m.FlowRef(name=name, uid=f"uid-{name}"),
            generation=1,
            created_at=world.now,
            spec=spec,
        )
    )


@pytest.mark.parametrize(("strategy", "field"), NOT_SUPPORTED, ids=[str(row[0]) for row in NOT_SUPPORTED])
def test_a_strategy_that_is_not_carried_out_is_refused_by_its_field(strategy: Json, field: str) -> None:
    world = update(4, **strategy)
    assert (world.where(NEW), reason(world)) == ("Failed", "NotSupported")
    assert message(world).startswith(f"{field}: ")
    assert world.given == []


@pytest.mark.parametrize("none", [0, "0%"])
def test_a_failure_threshold_of_none_is_what_is_done_anyway(none: int | str) -> None:
    assert update(4, failureThreshold=none).where(NEW) == "Success 1 Baked"


@pytest.mark.parametrize("action", ["restart", "scale_in", "scale_out", "start", "stop", "delete"])
def test_an_action_that_is_not_carried_out_is_refused_by_its_name(action: str) -> None:
    world = World(4)
    _told(world, {"action": action, "application": application("x", 4)})
    assert (world.where(NEW), reason(world)) == ("Failed", "NotSupported")
    assert message(world).startswith(f"spec.action: {action} is not carried out")
    assert world.given == []


def test_a_rollback_is_refused_by_its_name() -> None:
    world = World(4)
    _told(world, {"action": "rollback", "application": application("x", 4)})
    assert message(world).startswith("spec.action: rollback is not carried out")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"updateStrategy": {"batchSize": 0}}, "spec.updateStrategy.batchSize"),
        ({"updateStrategy": {"batchsize": 1}}, "spec.updateStrategy.batchsize"),
        ({"nonUpdateStrategy": {}}, "spec.nonUpdateStrategy"),
        ({"action": "upgrade"}, "spec.action"),
        ({"application": {**application("x", 4), "template": {}}}, "spec.application.template"),
        ({"application": {**application("x", 4), "replicas": -1}}, "spec.application.replicas"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_spec_fails_and_names_the_field(change: Json, field: str) -> None:
    world = World(4)
    _told(world, {"action": "update", "application": application("x", 4), **change})
    assert (world.where(NEW), reason(world)) == ("Failed", "InvalidSpec")
    assert message(world).startswith(f"{field}: ")
    assert revisions(world) == {"old": 4}


def test_a_refused_release_does_not_disturb_the_one_that_runs() -> None:
    world = update(4, canary=1)
    given = len(world.given)
    _told(world, {"action": "restart", "application": application("x", 4)}, "second")
    assert world.where("second") == "Failed"
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    assert world.given[given:] == []


def test_a_refused_release_does_not_take_over_a_paused_one() -> None:
    world = update(4, canary=1, paused=True)
    _told(world, {"action": "update", "application": {}}, "second")
    assert world.where(NEW) == "Initializing"


def test_a_change_that_does_not_fit_is_said_and_the_release_goes_on_as_it_was() -> None:
    world = update(4, batchSize=2, mode="manual")
    world.change(NEW, {"batchSize": 0})
    assert world.flow(NEW).strategy.batch_size == 2
    assert "spec.updateStrategy.batchSize" in str(world.flow(NEW).warnings)
    world.change(NEW, {"batchSize": 1, "mode": "auto"})
    assert world.where(NEW) == "Success 3 Baked"
    assert message(world) == ""
