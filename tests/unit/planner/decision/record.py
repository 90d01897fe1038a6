"""Records the golden histories: whole releases, fact by fact, with what the planner decided.

`python -m tests.unit.planner.decision.record` records `golden/*.json` again; that folder belongs to this module. Do that
only when a change of the planner's decisions is wanted, and read the difference: it is what other systems will see. A
history is replayed from its file alone; the simulated world is needed for recording only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from shared.domain.json_types import Json
from tests.simulation.cluster import OLD
from tests.simulation.world import HandledFact, World
from tests.unit.planner.releases import NEW, create, press_next, starting, update

GOLDEN = Path(__file__).parent / "golden"


def create_with_canary() -> World:
    world = create(5, batchSize=2, canary=1)
    for _ in range(3):
        world.wait(5_000)
        press_next(world)
    return world


def update_10_in_5() -> World:
    return update(10, batchSize=2)


def update_that_bakes_and_pulls_out() -> World:
    world = update(4, batchSize=2, bakeSeconds=10, pullOutSeconds=5, batchIntervalSeconds=30)
    world.run_until(lambda: world.flow(NEW).phase.finished)
    return world


def crash_and_cancel() -> World:
    world = starting(4)
    for pod in world.cluster.of(NEW):
        world.wait(1_000)
        world.crash(pod)
    world.wait(60_000)
    world.steer(NEW, CommandType.CANCEL)
    return world


def pause_and_resume() -> World:
    world = starting(4)
    world.steer(NEW, CommandType.PAUSE)
    world.wait(3_600_000)
    world.steer(NEW, CommandType.RESUME)
    world.catch_up()
    return world


def takeover() -> World:
    world = update(4, batchSize=2, mode="manual")
    world.steer(NEW, CommandType.PAUSE)
    world.apply("second", {"mode": "auto", "batchSize": 3})
    return world


def scaled_by_somebody_else() -> World:
    world = update(4, batchSize=2, mode="manual")
    world.scale(3)
    press_next(world)
    return world


def act(action: str, there: int, **strategy: Any) -> World:
    """An action but create and update, to its end or to where it waits for somebody."""
    replicas = strategy.pop("replicas", None)
    world = World(there)
    world.apply(NEW, {"mode": "auto", **strategy}, replicas=replicas, action=action)
    return world


def restart_of_named_pods() -> World:
    return act("restart", 3, podsToDelete=["old-0", "old-2"], batchSize=1)


def scale_in_of_named_pods() -> World:
    return act("scale_in", 4, replicas=2, podsToDelete=["old-1", "old-3"], batchSize=1)


def scale_out() -> World:
    return act("scale_out", 2, replicas=4, batchSize=1)


def stop_and_start() -> World:
    world = act("stop", 2, batchSize=1)
    world.apply("start", {"mode": "auto"}, action="start")
    return world


def delete() -> World:
    return act("delete", 2)


def rollback_in_the_middle_of_an_update() -> World:
    world = update(3, batchSize=1, mode="manual")
    world.apply("back", {"mode": "auto"}, action="rollback", revision=OLD)
    return world


def retry_after_a_failure() -> World:
    world = starting(2)
    world.fail()
    world.containers_start = True
    world.steer(NEW, CommandType.RETRY)
    return world


def failure_below_the_threshold() -> World:
    world = starting(3, batchSize=3, failureThreshold=1)
    bad, *good = world.cluster.of(NEW)
    world.crash(bad)
    world.containers_start = True
    world.start(*good)
    return world


HISTORIES: tuple[Callable[[], World], ...] = (
    create_with_canary,
    update_10_in_5,
    update_that_bakes_and_pulls_out,
    crash_and_cancel,
    pause_and_resume,
    takeover,
    scaled_by_somebody_else,
    restart_of_named_pods,
    scale_in_of_named_pods,
    scale_out,
    stop_and_start,
    delete,
    rollback_in_the_middle_of_an_update,
    retry_after_a_failure,
    failure_below_the_threshold,
)


def as_json(message: m.Message) -> Json:
    """A message without what every message has by default, but with its type."""
    body: Json = message.model_dump(mode="json", exclude_defaults=True)
    return {"type": message.model_dump(include={"type"})["type"], **body}


def entry_as_json(entry: HandledFact) -> Json:
    return {
        "now": entry.now,
        "fact": as_json(entry.fact),
        "commands": [as_json(command) for command in entry.decision.commands],
        "events": [as_json(event) for event in entry.decision.events],
    }


def text_of(world: World) -> str:
    """A line a fact."""
    lines = [entry_as_json(entry) for entry in world.history]
    return "[\n" + ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n]\n"


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for history in HISTORIES:
        (GOLDEN / f"{history.__name__}.json").write_text(text_of(history()))


if __name__ == "__main__":
    main()
