"""Freeze windows: times in which new releases are held back. Pure: from windows and a time to what is in force.

A window opens by cron in a time zone and lasts for a duration on that zone's clocks: 62 hours from Friday 18:00 are
over on Monday 08:00, also where the clocks are changed in between.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import ConfigDict, StringConstraints, ValidationError, field_validator

from shared.domain import deployflow as df
from shared.domain.object_bounds import TooDeep, json_in

HELD_BACK: Final = frozenset({df.Action.CREATE, df.Action.UPDATE})
"""The actions that bring new code. All others begin at any time."""
_CLOCK_CHANGE: Final = timedelta(hours=3)
"""No zone sets its clocks farther than this."""
_MINUTE: Final = timedelta(minutes=1)
_LONGEST: Final = timedelta(days=366)
_JOINED: Final = 100
"""So many windows that follow each other without a gap count as one; after that its end is looked for again."""
MOST_WINDOWS: Final = 100
"""The most windows of one text: each is looked up for each release that waits."""
_LOOKUPS: Final = 200
"""The most steps from window to window, in all: a step of one takes up to 10 ms on the day of a clock change."""
_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes"}
_MINUTE_MS: Final = 60_000


class FreezeWindow(df.Wire):
    """`applications`: names of applications or instances; none are all, and so it is with `namespaces`."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    cron: str
    time_zone: str = "UTC"
    duration: str
    reason: str = ""
    namespaces: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, cron: str) -> str:
        if len(cron.split()) != 5:
            msg = "needs five fields (minute, hour, day of month, month, day of week)"
            raise ValueError(msg)
        try:
            next(CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ValueError(str(error)) from error
        except StopIteration:
            msg = "never comes"
            raise ValueError(msg) from None
        return cron

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            msg = "no time zone has this name; give one like Europe/Berlin"
            raise ValueError(msg) from error
        return name

    @field_validator("duration")
    @classmethod
    def _fits(cls, text: str) -> str:
        if not re.fullmatch(r"([0-9]{1,6}[wdhm]){1,4}", text) or not timedelta() < _length(text) <= _LONGEST:
            msg = "needs weeks, days, hours and minutes like 62h or 1d12h, at most 366d"
            raise ValueError(msg)
        return text

    def holds(self, namespace: str, names: Collection[str]) -> bool:
        """Return whether the window applies to an application of these names in the namespace."""
        return (not self.namespaces or namespace in self.namespaces) and (
            not self.applications or any(name in self.applications for name in names)
        )


class Frozen(NamedTuple):
    """The freeze that holds releases back: the windows in force, by name and reason, and their last end (ms)."""

    windows: str
    until: int

    def __str__(self) -> str:
        until = datetime.fromtimestamp(self.until / 1000, UTC).isoformat().replace("+00:00", "Z")
        return f"freeze window {self.windows} until {until}"


class Read(NamedTuple):
    """The windows that a text defines; `problems` names each window that can't be read, and why."""

    windows: tuple[FreezeWindow, ...]
    problems: tuple[str, ...]


def read(text: str, *, of_namespace: bool = False) -> Read:
    """Return the windows of a JSON list. Those of a Namespace's annotation name no `namespaces`."""
    try:
        listed = json_in(text or "[]")
    except TooDeep:
        return Read((), ("is nested too deeply: a window has texts and lists of names alone",))
    except ValueError as error:
        return Read((), (f"is not JSON: {error}",))
    if not isinstance(listed, list):
        return Read((), ("is no list of windows: put [ and ] around it",))
    windows, problems = [], []
    if len(listed) > MOST_WINDOWS:
        problems.append(
            f"has {len(listed)} windows, and only the first {MOST_WINDOWS} are read: join some of them"
        )
    for number, item in enumerate(listed[:MOST_WINDOWS], 1):
        name = item.get("name") if isinstance(item, dict) else None
        where = f"window {number}" + (f" ({name})" if name else "")
        try:
            window = FreezeWindow.model_validate(item)
        except ValidationError as error:
            problems.append(f"{where}: {df.problems(error)}")
            continue
        if of_namespace and window.namespaces:
            problems.append(f"{where}: namespaces: it holds for this namespace: leave them out")
        else:
            windows.append(window)
    return Read(tuple(windows), tuple(problems))


def in_force(
    windows: Iterable[FreezeWindow], namespace: str, names: Collection[str], now: int
) -> Frozen | None:
    """Return what holds back an application of these names at `now` (ms since 1970); windows that meet are one."""
    here = [window for window in windows if window.holds(namespace, names)]
    ends = {window: end for window in here if (end := _end(window, now // _MINUTE_MS)) is not None}
    if not ends:
        return None
    until = max(ends.values())
    for _ in range(min(_JOINED, _LOOKUPS // len(here))):
        later = [end for window in here if (end := _end(window, until)) is not None]
        if not later:
            break
        until = max(later)
    labels = [f"{window.name} ({window.reason})" if window.reason else window.name for window in ends]
    return Frozen(" and ".join(dict.fromkeys(labels)), until * _MINUTE_MS)


@lru_cache(maxsize=4096)
def _end(window: FreezeWindow, minute: int) -> int | None:
    """Return the minute (since 1970) in which a window that is open in this one ends; None if it is not open.

    Windows begin and end with a minute, so that all of a minute has one answer.
    """
    zone, length = ZoneInfo(window.time_zone), _length(window.duration)
    at = datetime.fromtimestamp(minute * 60, UTC)
    # by the clock on the wall a start that is past may be ahead: hours come twice
    ahead = _CLOCK_CHANGE if _clocks_change(zone, at) else _MINUTE
    for start in CronSim(window.cron, (at + ahead).astimezone(zone), reverse=True):
        begun = start.astimezone(UTC)
        if begun + length + _CLOCK_CHANGE <= at:
            return None
        end = start.replace(tzinfo=None) + length
        # a time that comes twice is meant the second time, one that the clocks leave out comes as late after the change
        closes = max(end.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if begun <= at < closes:
            return int(closes.timestamp()) // 60
    return None


def _clocks_change(zone: ZoneInfo, at: datetime) -> bool:
    """Return whether the clocks are changed within hours of this time."""
    near = 2 * _CLOCK_CHANGE
    offsets = {
        (at + step).astimezone(zone).utcoffset() for step in (-near, -near / 2, timedelta(), near / 2, near)
    }
    return len(offsets) > 1


def _length(duration: str) -> timedelta:
    parts: dict[str, Any] = {}
    for number, unit in re.findall(r"([0-9]+)([wdhm])", duration):
        parts[_UNITS[unit]] = parts.get(_UNITS[unit], 0) + int(number)
    return timedelta(**parts)
