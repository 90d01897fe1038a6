"""What can't be carried out is refused by name, before anything is changed."""

from __future__ import annotations

import pytest

from shared.domain import messages as m
from shared.domain.json_types import Json
from tests.simulation.cluster import HEAD, application
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, message, reason, revisions, update


def _observe(world: World, spec: Json, name: str = NEW) -> None:
    world.handle(
        m.SpecObserved(
            **HEAD,
            flow=m.FlowRef(name=name, uid=f"uid-{name}"),
            generation=1,
            created_at=world.now,
            spec=spec,
        )
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"updateStrategy": {"batchSize": -1}}, "spec.updateStrategy.batchSize"),
        ({"updateStrategy": {"batchsize": 1}}, "spec.updateStrategy.batchsize"),
        ({"nonUpdateStrategy": {}}, "spec.nonUpdateStrategy"),
        ({"action": "upgrade"}, "spec.action"),
        ({"application": {**application("x", 4), "template": {}}}, "spec.application.template"),
        ({"application": {**application("x", 4), "replicas": -1}}, "spec.application.replicas"),
        (
            {"action": "stop", "nonUpdateStrategy": {"podsToDelete": ["a"]}},
            "spec.nonUpdateStrategy.podsToDelete",
        ),
        (
            {"action": "restart", "nonUpdateStrategy": {"podsToDelete": ["a", "a"]}},
            "spec.nonUpdateStrategy.podsToDelete",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_spec_fails_and_names_the_field(change: Json, field: str) -> None:
    world = World(4)
    _observe(world, {"action": "update", "application": application("x", 4), **change})
    assert (world.where(NEW), reason(world)) == ("Failed", "InvalidSpec")
    assert message(world).startswith(f"{field}: ")
    assert revisions(world) == {"old": 4}


def test_a_refused_release_does_not_disturb_the_one_that_runs() -> None:
    world = update(4, canary=1)
    issued = len(world.commands)
    _observe(world, {"action": "restart", "application": application("x", 4), "updateStrategy": {}}, "second")
    assert world.where("second") == "Failed"
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    assert world.commands[issued:] == []


def test_a_refused_release_does_not_take_over_a_paused_one() -> None:
    world = update(4, canary=1, paused=True)
    _observe(world, {"action": "update", "application": {}}, "second")
    assert world.where(NEW) == "Initializing"


def test_a_change_that_does_not_fit_is_said_and_the_release_goes_on_as_it_was() -> None:
    world = update(4, batchSize=2, mode="manual")
    world.change(NEW, {"batchSize": -1})
    assert world.flow(NEW).strategy.batch_size == 2
    assert "spec.updateStrategy.batchSize" in str(world.flow(NEW).warnings)
    world.change(NEW, {"batchSize": 1, "mode": "auto"})
    assert world.where(NEW) == "Success 3 Baked"
    assert message(world) == ""


def test_a_name_that_is_too_long_today_goes_on_where_the_cluster_has_accepted_it() -> None:
    world = World(4)
    long = {**application("x", 4), "instanceName": "a" * 57}
    world.apply(NEW, {"paused": True}, replicas=4, application=long)
    assert (world.where(NEW), reason(world)) == ("Initializing", "Paused")
    world.change(NEW, {"paused": False, "mode": "auto"})
    assert (world.where(NEW), world.flow(NEW).warnings) == ("Success 1 Baked", ())
