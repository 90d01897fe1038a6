"""Freeze windows: when one is in force, until when, and what is said of one that can't be read."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.domain.deploy_commands import DeployCommand
from shared.domain.freeze_windows import FreezeWindow, Frozen, in_force, read
from shared.settings import Settings, unfit

BERLIN = "Europe/Berlin"
WEEKEND = {"name": "weekend", "cron": "0 18 * * FRI", "timeZone": BERLIN, "duration": "62h"}


def window(**fields: Any) -> FreezeWindow:
    return FreezeWindow.model_validate({**WEEKEND, **fields})


def at(text: str) -> int:
    """A time with its offset, in ms."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def frozen(when: str, *windows: FreezeWindow) -> Frozen | None:
    return in_force(windows, "shop", ("20001-web-10010", "web"), at(when))


def end(when: str, *windows: FreezeWindow) -> int:
    found = frozen(when, *windows)
    assert found is not None
    return found.until


@pytest.mark.parametrize(
    ("when", "until"),
    [
        ("2026-01-09T17:59:59.999+01:00", None),
        ("2026-01-09T18:00+01:00", "2026-01-12T08:00+01:00"),
        ("2026-01-12T07:59:59.999+01:00", "2026-01-12T08:00+01:00"),
        ("2026-01-12T08:00+01:00", None),
        # the clocks go forward in the night to Sunday: an hour less, but by the clock it is Monday 08:00
        ("2026-03-27T17:59+01:00", None),
        ("2026-03-27T18:00+01:00", "2026-03-30T08:00+02:00"),
        ("2026-03-30T07:59+02:00", "2026-03-30T08:00+02:00"),
        ("2026-03-30T08:00+02:00", None),
        # and back: an hour more
        ("2026-10-23T18:00+02:00", "2026-10-26T08:00+01:00"),
        ("2026-10-26T07:59+01:00", "2026-10-26T08:00+01:00"),
        ("2026-10-26T08:00+01:00", None),
    ],
)
def test_a_weekend_ends_on_monday_morning_also_when_the_clocks_change(when: str, until: str | None) -> None:
    found = frozen(when, window())
    assert (found.until if found else None) == (at(until) if until else None)


@pytest.mark.parametrize(
    ("cron", "duration", "when", "until"),
    [
        # 02:30 does not come on that day: the window opens when the clocks have gone forward
        ("30 2 * * *", "1h", "2026-03-29T01:59+01:00", None),
        ("30 2 * * *", "1h", "2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"),
        # nor does its end
        ("45 1 * * *", "45m", "2026-03-29T01:59+01:00", "2026-03-29T03:30+02:00"),
        # 02:45 comes twice: it opens the first time, and its end is meant the second time
        ("45 2 * * *", "30m", "2026-10-25T02:44+02:00", None),
        ("45 2 * * *", "30m", "2026-10-25T02:45+02:00", "2026-10-25T03:15+01:00"),
        ("45 2 * * *", "30m", "2026-10-25T02:10+01:00", "2026-10-25T03:15+01:00"),
        ("45 1 * * *", "1h", "2026-10-25T02:30+01:00", "2026-10-25T02:45+01:00"),
    ],
)
def test_times_that_do_not_come_or_come_twice(cron: str, duration: str, when: str, until: str | None) -> None:
    found = frozen(when, window(cron=cron, duration=duration))
    assert (found.until if found else None) == (at(until) if until else None)


def test_it_says_which_window_why_and_until_when() -> None:
    found = frozen("2026-03-28T12:00+01:00", window(reason="nobody is there"))
    assert str(found) == "freeze window weekend (nobody is there) until 2026-03-30T06:00:00Z"


def test_windows_that_overlap_or_meet_end_together() -> None:
    monday = window(name="monday", cron="0 7 * * MON", duration="3h")
    then = window(name="then", cron="0 10 * * MON", duration="1h")
    later = window(name="later", cron="0 12 * * MON", duration="1h")
    windows = (window(), monday, then, later)
    found = frozen("2026-01-10T12:00+01:00", *windows)
    assert found == Frozen("weekend", at("2026-01-12T11:00+01:00"))
    assert frozen("2026-01-12T07:30+01:00", *windows) == Frozen(
        "weekend and monday", at("2026-01-12T11:00+01:00")
    )
    assert frozen("2026-01-12T11:30+01:00", *windows) is None


def test_a_window_that_opens_while_it_is_open_goes_on() -> None:
    hourly = window(cron="0 9-11 * * *", duration="90m")
    assert end("2026-01-10T09:00+01:00", hourly) == at("2026-01-10T12:30+01:00")


def test_one_that_never_closes_is_in_force_and_looked_at_again() -> None:
    always = window(cron="* * * * *", duration="1h")
    assert end("2026-01-10T09:00+01:00", always) > at("2026-01-10T10:00+01:00")


@pytest.mark.parametrize("when", ["2026-01-10T09:00+01:00", "2026-03-29T01:30+01:00"])
def test_many_windows_of_every_minute_take_no_minute(when: str) -> None:
    windows = [window(name=f"w{number}", cron="* * * * *", duration="366d") for number in range(100)]
    began = time.process_time()
    assert frozen(when, *windows) is not None
    assert time.process_time() - began < 15


def test_more_windows_than_are_read_are_a_problem() -> None:
    found = read(json.dumps([{**WEEKEND, "name": f"w{number}"} for number in range(101)]))
    assert len(found.windows) == 100
    assert found.problems == ("has 101 windows, and only the first 100 are read: join some of them",)


def test_nested_text_is_no_window() -> None:
    (problem,) = read("[" * 100_000).problems
    assert problem == "is nested too deeply: a window has texts and lists of names alone"


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({}, True),
        ({"namespaces": ["shop"]}, True),
        ({"namespaces": ["payments"]}, False),
        ({"applications": ["web"]}, True),
        ({"applications": ["20001-web-10010", "other"]}, True),
        ({"applications": ["we"]}, False),
        ({"namespaces": ["payments"], "applications": ["web"]}, False),
    ],
)
def test_whom_it_holds_back(fields: dict[str, Any], holds: bool) -> None:
    assert (frozen("2026-01-10T12:00+01:00", window(**fields)) is not None) is holds


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"cron": "0 18 * *"}, "cron: needs five fields (minute, hour, day of month, month, day of week)"),
        ({"cron": "99 18 * * FRI"}, "cron: Bad minute (received: '99 18 * * FRI')"),
        ({"cron": "0 0 31 2 *"}, "cron: Bad day-of-month"),
        ({"timeZone": "Europe/Bonn"}, "timeZone: no time zone has this name; give one like Europe/Berlin"),
        ({"timeZone": "../etc"}, "timeZone: no time zone has this name"),
        ({"duration": "62 hours"}, "duration: needs weeks, days, hours and minutes like 62h or 1d12h"),
        ({"duration": "0h"}, "duration: needs"),
        ({"duration": "53w"}, "duration: needs"),
        ({"duration": 62}, "duration: "),
        ({"name": ""}, "name: "),
        ({"aplications": ["web"]}, "aplications: "),
        ({"applications": "web"}, "applications: "),
    ],
)
def test_a_window_that_does_not_fit_is_named_and_the_others_hold(
    fields: dict[str, Any], problem: str
) -> None:
    windows, problems = read(json.dumps([WEEKEND, {**WEEKEND, "name": "bad", **fields}]))
    assert windows == (window(),)
    (said,) = problems
    assert said.startswith("window 2")
    assert problem in said


@pytest.mark.parametrize(
    ("text", "problem"),
    [("[{", "is not JSON"), ('{"name": "weekend"}', "is no list of windows"), ('["weekend"]', "window 1: ")],
)
def test_a_text_that_is_no_list_of_windows(text: str, problem: str) -> None:
    windows, (said,) = read(text)
    assert windows == ()
    assert said.startswith(problem)


def test_nothing_is_no_window() -> None:
    assert read("") == ((), ())


def test_the_annotation_of_a_namespace_names_no_namespaces() -> None:
    text = json.dumps([{**WEEKEND, "namespaces": ["shop"]}])
    assert read(text).windows
    assert read(text, of_namespace=True).problems == (
        "window 1 (weekend): namespaces: it holds for this namespace: leave them out",
    )


def test_a_setting_that_does_not_fit_names_the_setting_and_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_FREEZE_WINDOWS", json.dumps([WEEKEND]))
    assert Settings().freeze_windows == (window(),)
    monkeypatch.setenv("TRITON_FREEZE_WINDOWS", json.dumps([{**WEEKEND, "cron": "never"}]))
    with pytest.raises(ValidationError) as refused:
        Settings()
    said = unfit(refused.value)
    assert said.startswith("TRITON_FREEZE_WINDOWS: ")
    assert "window 1 (weekend): cron: needs five fields" in said


ZONES = st.sampled_from([BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
CRONS = st.sampled_from(
    [
        "0 18 * * FRI",
        "30 2 * * *",
        "*/20 * * * *",
        "*/7 1-3 * * *",
        "45 2 * * SUN",
        "0 */2 * * *",
        "15 0 1 * *",
    ]
)


def between(first: str, last: str) -> st.SearchStrategy[datetime]:
    begin, end = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (first, last))
    seconds = st.integers(0, int((end - begin).total_seconds()))
    return seconds.map(lambda passed: begin + timedelta(seconds=passed))


TIMES = st.one_of(
    between("2026-01-01", "2027-01-01"),
    # the days around changes of the clocks
    between("2026-03-28T20:00", "2026-03-30"),
    between("2026-10-24T20:00", "2026-10-26"),
)
WINDOWS = st.builds(
    lambda cron, zone, minutes: window(cron=cron, timeZone=zone, duration=f"{minutes}m"),
    CRONS,
    ZONES,
    st.integers(1, 400),
)


def spans(one: FreezeWindow, around: datetime) -> list[tuple[datetime, datetime]]:
    """All times from three days before on in which it is open, found out by going forward."""
    zone, length = ZoneInfo(one.time_zone), timedelta(minutes=int(one.duration[:-1]))
    found: list[tuple[datetime, datetime]] = []
    for start in CronSim(one.cron, (around - timedelta(days=3)).astimezone(zone)):
        begun = start.astimezone(UTC)
        if begun > around + timedelta(days=3):
            return found
        end = start.replace(tzinfo=None) + length
        over = max(end.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        assert over > begun
        found.append((begun, over))
    raise AssertionError


@settings(deadline=None)
@given(windows=st.lists(WINDOWS, min_size=1, max_size=3), now=TIMES)
def test_in_force_is_what_going_forward_through_the_calendar_finds(
    windows: list[FreezeWindow], now: datetime
) -> None:
    found = in_force(windows, "shop", ("web",), int(now.timestamp() * 1000))
    every = [span for one in windows for span in spans(one, now)]
    open_now = [over for begun, over in every if begun <= now < over]
    assert (found is not None) is bool(open_now)
    if found is None:
        return
    until = max(open_now)
    while later := [over for begun, over in every if begun <= until < over]:
        until = max(later)
    assert in_force(windows, "shop", ("web",), found.until - 1) is not None
    if until < now + timedelta(days=2):  # farther ahead there is nothing to compare with
        assert found.until == int(until.timestamp() * 1000)
        assert in_force(windows, "shop", ("web",), found.until) is None


def test_a_deploy_command_says_why_and_no_other_does() -> None:
    common = {"id": "1", "namespace": "shop", "deployFlow": "web-2", "freezeOverride": " a leak "}
    spec = {
        "action": "update",
        "application": {
            "appID": 1,
            "groupID": 1,
            "appName": "web",
            "instanceName": "web",
            "template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}},
        },
    }
    command = DeployCommand.model_validate({**common, "type": "deploy", "spec": spec})
    assert command.freeze_override == "a leak"
    with pytest.raises(ValidationError, match="freezeOverride: a next is held back by no freeze window"):
        DeployCommand.model_validate({**common, "type": "next"})
