"""Decide when each time-out of a release starts, ends and starts again: the single source of all its clocks.

A clock is measured from a time that the batch carries. A time-out that ignores a pause would expire while
the release stands still, and a resumed batch would fail at once. So a new time-out needs a `Clock`, its `Rule`, and
a line in the functions `restart_on_…` for each event of its `restarted_by`; tests hold these, and the table in
docs/deployflow.md, to one another. All times are milliseconds since 1970, 0 where a clock has not started.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec.structs import replace

from services.planner.model.state import Batch, Flow, Pod, Step
from shared.domain.deployflow import BatchPhase


class Clock(StrEnum):
    """A time-out or wait, by the fields of the strategy that limit it."""

    STARTUP = "startupTimeoutSeconds"
    PULL_IN = "pullInTimeoutSeconds"
    BAKE = "bakeSeconds"
    PULL_OUT = "pullOutSeconds"
    INTERVAL = "batchIntervalSeconds"
    PROGRESS = "progressDeadlineSeconds"
    FLAPPING = "2 × bakeSeconds + pullInTimeoutSeconds"
    """A batch whose pods lose Ready again and again begins its bake anew each time."""


class Restart(StrEnum):
    """The event that makes a clock of the open batch start again, or wait for its start again."""

    RESUME = "resume"
    RETRY = "retry"
    REBUILD = "rebuild"


class Rule(NamedTuple):
    """`limit`: the fields of the strategy whose seconds add up to it, each with its factor; one of None: no limit.

    `starts_from`: the field of the batch with the start, by the step in which the clock runs.
    """

    limit: Mapping[str, int]
    starts_from: Mapping[Step, str]
    restarted_by: frozenset[Restart]
    runs_while_paused: bool


_EVERY: Final = frozenset(Restart)

RULES: Final[Mapping[Clock, Rule]] = {
    Clock.STARTUP: Rule(
        {"startup_timeout": 1},
        # at Smoked it runs while a pod is missing, or has lost its containers
        {Step.SURGE: "surged_at", Step.SMOKED: "unready_since"},
        _EVERY,
        runs_while_paused=False,
    ),
    Clock.PULL_IN: Rule(
        {"pull_in_timeout": 1}, {Step.PULL_IN: "unready_since"}, _EVERY, runs_while_paused=False
    ),
    Clock.BAKE: Rule(
        {"bake": 1},
        {Step.PULL_IN: "ready_since"},
        frozenset({Restart.RETRY, Restart.REBUILD}),
        runs_while_paused=True,
    ),
    Clock.PULL_OUT: Rule(
        {"pull_out": 1},
        {Step.PULL_OUT: "pulled_out_at"},
        frozenset({Restart.REBUILD}),
        runs_while_paused=True,
    ),
    Clock.INTERVAL: Rule({"interval": 1}, {Step.BETWEEN: "finished_at"}, frozenset(), runs_while_paused=True),
    Clock.PROGRESS: Rule(
        {"progress_deadline": 1},
        {
            Step.SURGE: "surged_at",
            Step.SMOKED: "unready_since",
            Step.PULL_IN: "unready_since",
            Step.PULL_OUT: "baked_at",
            Step.RETIRE: "baked_at",
        },
        _EVERY,
        runs_while_paused=False,
    ),
    Clock.FLAPPING: Rule(
        {"bake": 2, "pull_in_timeout": 1},
        {Step.PULL_IN: "baking_since"},
        _EVERY,
        runs_while_paused=False,
    ),
}


def end_of(clock: Clock, flow: Flow) -> int | None:
    """Return when the clock expires; None while it does not run."""
    rule = RULES[clock]
    field = rule.starts_from.get(flow.step)
    seconds = limit_seconds(clock, flow)
    if field is None or seconds is None or (not rule.runs_while_paused and flow.paused):
        return None
    if flow.scaled_to_zero:
        return None
    batch = flow.batch if clock is Clock.INTERVAL else flow.open_batch
    if batch is None:
        return None
    start: int = getattr(batch, field)
    if flow.step == Step.SURGE and len(flow.batches) > 1:
        # OpenKruise makes its pods once the old ones of the batch before are gone
        start = max(start, flow.batches[-2].finished_at)
        if flow.unfinished_before and clock is Clock.STARTUP:
            return None
    if clock is Clock.PROGRESS and flow.step in {Step.PULL_OUT, Step.RETIRE}:
        # the wait without traffic is part of the plan, not a lack of progress
        start = max(start, batch.pulled_out_at)
        start += flow.strategy.pull_out * 1000 if start else 0
    end = start + seconds * 1000 if start else None
    bake_end = end_of(Clock.BAKE, flow) if clock is Clock.FLAPPING else None
    # a bake that ends in time needs no limit, however long a person takes to accept the batch
    return None if bake_end and end and bake_end <= end else end


def has_expired(clock: Clock, flow: Flow, now: int) -> bool:
    end = end_of(clock, flow)
    return end is not None and now >= end


def pod_startup_start(batch: Batch, pod: Pod) -> int:
    """Return the start of a pod's own start-up time: one that is made late, or starts again, has its full time too."""
    return max(pod.created_at, batch.surged_at, batch.unready_since)


def pod_startup_end(flow: Flow, batch: Batch, pod: Pod) -> int:
    return pod_startup_start(batch, pod) + flow.strategy.startup_timeout * 1000


def interval_end(flow: Flow) -> int:
    """Return when the next batch may start by `batchIntervalSeconds`, 0 for at once; a canary has no wait after it."""
    last = flow.batch
    return 0 if last is None or last.canary else end_of(Clock.INTERVAL, flow) or 0


def restart_on_resume(flow: Flow, now: int) -> Flow:
    batch = flow.open_batch
    if batch is None:
        return flow
    retiring = flow.step in {Step.PULL_OUT, Step.RETIRE} and flow.strategy.progress_deadline is not None
    batch = replace(
        batch,
        surged_at=now,
        unready_since=now if batch.unready_since else 0,
        baking_since=now if batch.baking_since else 0,
        baked_at=now if retiring and batch.baked_at else batch.baked_at,
    )
    return replace(flow, batches=(*flow.batches[:-1], batch))


def restart_on_retry(batch: Batch, now: int) -> Batch:
    """Return the failed batch as it starts again: at its surge or, where it is baked, with the removal of old pods."""
    if batch.baked:
        return replace(batch, baked_at=now)
    return replace(
        batch, surged_at=now, smoked_at=0, pulled_in_at=0, ready_since=0, unready_since=0, baking_since=0
    )


def restart_on_rebuild(batch: Batch, now: int) -> Batch:
    """Return an open batch that comes from `.status`; what is not restarted here starts when its step is reached."""
    unready = now if batch.phase == BatchPhase.BAKING else 0
    return replace(
        batch,
        surged_at=now,
        unready_since=unready,
        ready_since=0,
        baking_since=0,
        baked_at=0,
        pulled_out_at=0,
    )


def limit_seconds(clock: Clock, flow: Flow) -> int | None:
    """Return the limit as the strategy has it; None where it sets none."""
    total = 0
    for field, factor in RULES[clock].limit.items():
        seconds: int | None = getattr(flow.strategy, field)
        if seconds is None:
            return None
        total += factor * seconds
    return total
