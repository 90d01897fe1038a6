"""Freeze windows: what they hold back, what not, when it goes on, and what stays on record of an override."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from services.planner.decision.deadlines import next_deadline
from services.planner.model.stored_state import dump, load
from services.planner.rules.freeze_hold import NO_WINDOWS, Windows
from shared.domain.deploy_commands import CommandType, Refusal
from shared.domain.freeze_windows import FreezeWindow
from tests.simulation.world import RESEND_MS, World
from tests.unit.planner.releases import NEW, message, reason

AUTO = {"mode": "auto", "batchSize": 2}
FRIDAY = int(datetime(2026, 11, 20, 18, tzinfo=UTC).timestamp() * 1000)
MONDAY = int(datetime(2026, 11, 23, 8, tzinfo=UTC).timestamp() * 1000)
WEEKEND = {"name": "weekend", "cron": "0 18 * * FRI", "duration": "62h", "reason": "nobody is there"}
HELD = (
    "held back by freeze window weekend (nobody is there) until 2026-11-23T08:00:00Z: it begins automatically then; "
    "to begin it now, state the reason in its annotation apps.triton.io/freeze-override"
)


def under_way() -> World:
    """An update that has begun a second before the window does; its containers do not start by themselves."""
    world = World(4)
    world.now = FRIDAY - 1000
    world.containers_start = False
    world.apply(NEW, AUTO)
    return world


def windows(*raw_windows: dict[str, Any], unread: str = "") -> Windows:
    return Windows(tuple(FreezeWindow.model_validate(one) for one in raw_windows), unread)


def weekend(world: World | None = None, **fields: Any) -> World:
    world = world or World(4)
    world.now = FRIDAY
    world.windows = windows({**WEEKEND, **fields})
    return world


def next_check_at(world: World) -> int | None:
    return next_deadline(world.instance, world.now, resend_ms=RESEND_MS)


def messages_of(world: World, what: str) -> list[str]:
    return [event.message for event in world.events if event.reason == what]


@pytest.mark.parametrize("action", ["create", "update"])
def test_a_release_is_held_back_with_the_reason_and_the_end(action: str) -> None:
    world = weekend(World(None) if action == "create" else None)
    world.apply(NEW, AUTO, action=action, replicas=4)
    assert (world.where(NEW), reason(world), message(world)) == ("Pending", "Frozen", HELD)
    assert world.commands == []
    assert messages_of(world, "Frozen") == [
        "held back by freeze window weekend (nobody is there) until 2026-11-23T08:00:00Z"
    ]
    assert next_check_at(world) == MONDAY
    # as Redis keeps it
    assert load(dump(world.instance)) == world.instance


def test_it_begins_by_itself_when_the_window_ends() -> None:
    world = weekend()
    world.apply(NEW, AUTO)
    world.wait(MONDAY - world.now - 1)
    assert world.where(NEW) == "Pending"
    world.wait(1)
    assert world.where(NEW) == "Success 2 Baked"
    assert world.status(NEW)["freezeOverride"] == ""
    assert messages_of(world, "FreezeOverridden") == []


def test_it_begins_as_soon_as_the_window_is_taken_away_and_waits_longer_when_it_is_made_longer() -> None:
    world = weekend()
    world.apply(NEW, AUTO)
    world.windows = windows({**WEEKEND, "duration": "63h"})
    world.wait(0)
    assert next_check_at(world) == MONDAY + 3_600_000
    world.windows = NO_WINDOWS
    world.wait(0)
    assert world.where(NEW) == "Success 2 Baked"


def test_one_of_another_application_holds_nothing_back() -> None:
    world = weekend(applications=["somebody-else"])
    world.apply(NEW, AUTO)
    assert world.where(NEW) == "Success 2 Baked"


def test_what_is_under_way_when_the_window_begins_goes_on() -> None:
    world = under_way()
    weekend(world)
    world.catch_up()
    assert world.where(NEW) == "Success 2 Baked"


def test_a_release_that_waits_behind_another_is_held_back_when_its_turn_comes_in_a_window() -> None:
    world = under_way()
    world.apply("second", AUTO)
    assert reason(world, "second") == "WaitingItsTurn"
    weekend(world)
    world.catch_up()
    assert world.where(NEW) == "Success 2 Baked"
    assert (world.where("second"), reason(world, "second")) == ("Pending", "Frozen")


@pytest.mark.parametrize("failed", [False, True])
def test_a_release_that_stands_is_not_taken_over_before_the_window_ends(failed: bool) -> None:
    world = under_way()
    if failed:
        world.fail()
    else:
        world.steer(NEW, CommandType.PAUSE)
    stood = world.where(NEW)
    weekend(world)
    world.apply("second", AUTO)
    assert world.where(NEW) == stood
    assert reason(world, "second") == "Frozen"
    if not failed:
        assert next_check_at(world) == MONDAY
    world.containers_start = True
    world.wait(MONDAY - world.now)
    assert world.where(NEW).startswith("Aborted")
    assert world.where("second") == "Success 2 Baked"


def test_a_paused_release_may_be_resumed_while_a_newer_one_is_held_back() -> None:
    world = under_way()
    world.steer(NEW, CommandType.PAUSE)
    weekend(world)
    world.apply("second", AUTO)
    world.containers_start = True
    world.steer(NEW, CommandType.RESUME)
    world.catch_up()
    assert world.where(NEW) == "Success 2 Baked"


def test_an_overriding_release_takes_over_one_that_stands() -> None:
    world = under_way()
    world.steer(NEW, CommandType.PAUSE)
    world.containers_start = True
    weekend(world)
    world.apply("second", AUTO, override="security fix")
    assert world.where(NEW).startswith("Aborted")
    assert world.where("second") == "Success 2 Baked"


@pytest.mark.parametrize("later", [False, True])
def test_an_override_begins_at_once_and_says_who_and_why(later: bool) -> None:
    world = weekend()
    if later:
        world.apply(NEW, AUTO)
        world.override_freeze(NEW, "security fix")
    else:
        world.apply(NEW, AUTO, override="security fix")
    assert world.where(NEW) == "Success 2 Baked"
    record = "freeze window weekend (nobody is there) until 2026-11-23T08:00:00Z, overridden by kubectl: security fix"
    assert world.status(NEW)["freezeOverride"] == record
    assert messages_of(world, "FreezeOverridden") == [f"begun in {record}"]
    assert len(messages_of(world, "Frozen")) == later


def test_who_overrides_is_who_asked_for_it_not_who_made_the_release() -> None:
    world = weekend()
    world.apply(NEW, AUTO)
    fact = world.observed(NEW)
    world.handle(
        fact.model_copy(update={"request": "1", "requested_by": "deployer", "freeze_override": "fix"})
    )
    assert "overridden by deployer: fix" in world.status(NEW)["freezeOverride"]


def test_an_override_that_is_taken_back_before_its_turn_holds_back() -> None:
    world = under_way()
    weekend(world)
    world.apply("second", AUTO, override="security fix")
    assert reason(world, "second") == "WaitingItsTurn"
    world.override_freeze("second", "")
    assert reason(world, "second") == "Frozen"
    world.catch_up()
    assert world.where("second") == "Pending"


def test_an_override_out_of_a_window_is_no_record() -> None:
    world = World(4)
    world.apply(NEW, AUTO, override="just in case")
    assert world.status(NEW)["freezeOverride"] == ""


def test_an_override_outlives_redis() -> None:
    world = weekend()
    world.containers_start = False
    world.apply(NEW, AUTO, override="security fix")
    record = world.status(NEW)["freezeOverride"]
    world.lose_redis()
    assert record
    assert world.status(NEW)["freezeOverride"] == record


def test_a_held_back_release_outlives_redis() -> None:
    world = weekend()
    world.apply(NEW, AUTO)
    world.lose_redis()
    world.wait(0)
    assert reason(world) == "Frozen"
    assert next_check_at(world) == MONDAY


def test_a_held_back_release_can_be_canceled_and_not_pressed() -> None:
    world = weekend()
    world.apply(NEW, AUTO)
    with pytest.raises(Refusal, match="held back by freeze window weekend"):
        world.steer(NEW, CommandType.NEXT)
    world.steer(NEW, CommandType.CANCEL)
    assert world.where(NEW) == "Canceled"
    assert next_check_at(world) is None


def test_the_newest_that_is_held_back_takes_the_place_of_older_ones_that_are() -> None:
    world = weekend()
    world.apply("second", AUTO)
    world.apply("third", AUTO)
    assert (world.where("second"), reason(world, "second")) == ("Aborted", "Replaced")
    assert reason(world, "third") == "Frozen"


def test_one_that_is_held_back_takes_no_place_of_one_that_is_not() -> None:
    world = under_way()
    weekend(world)
    world.apply("second", AUTO, override="security fix")
    world.apply("third", AUTO)
    assert reason(world, "second") == "WaitingItsTurn"
    world.catch_up()
    assert world.where("second") == "Success 2 Baked"
    assert reason(world, "third") == "Frozen"


def test_one_that_is_not_held_back_passes_one_that_is() -> None:
    world = weekend()
    world.apply("second", AUTO)
    world.apply("third", AUTO, override="security fix")
    assert world.where("third") == "Success 2 Baked"


def test_a_rollback_is_not_held_back() -> None:
    world = under_way()
    weekend(world)
    world.apply("back", AUTO, action="rollback")
    world.apply("third", AUTO)
    world.catch_up()
    assert world.where("back") == "Success 2 Baked"
    assert reason(world, "third") == "Frozen"


def test_windows_that_can_not_be_read_hold_nothing_back_and_are_told_with_the_release() -> None:
    world = under_way()
    world.windows = windows(unread="annotation … can't be read")
    world.apply("second", AUTO)
    assert messages_of(world, "Warning") == ["annotation … can't be read"]
    world.catch_up()
    assert world.where("second").startswith("Success")
    assert message(world, "second") == "annotation … can't be read"
