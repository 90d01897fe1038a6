"""The images that a release changes: in `.status`, in the events and the release log, also after Redis was lost."""

from __future__ import annotations

from services.events.flow_documents import flow_fact
from shared.domain.json_types import Json
from tests.simulation.world import World
from tests.unit.planner.releases import NEW, update

CHANGE = {"container": "web", "fromImage": "web:old", "toImage": f"web:{NEW}"}


def images(world: World) -> list[Json]:
    found: list[Json] = world.status(NEW)["images"]
    return found


def test_a_planned_release_shows_its_images_until_its_end() -> None:
    world = update(4, batchSize=2)
    assert images(world) == [CHANGE]
    world.run_until(lambda: world.flow(NEW).phase.finished)
    assert images(world) == [CHANGE]


def test_the_events_have_them_from_the_plan_on() -> None:
    world = update(4, batchSize=2)
    world.run_until(lambda: world.flow(NEW).phase.finished)
    facts = {event.reason: flow_fact(event).fields for event in world.events if event.flow.name == NEW}
    assert facts["Received"]["triton.image_to"] is None
    for reason in ("Planned", "BatchFinished", "Success"):
        found = facts[reason]
        assert (found["triton.image_from"], found["triton.image_to"]) == (["web:old"], [f"web:{NEW}"])
    assert facts["Planned"]["triton.message"] == f"4 pods in 2 batches: web:old → web:{NEW}"


def test_they_survive_the_loss_of_redis() -> None:
    world = update(4, canary=1)
    world.lose_redis()
    world.run_until(lambda: bool(world.instance.active))
    assert images(world) == [CHANGE]
