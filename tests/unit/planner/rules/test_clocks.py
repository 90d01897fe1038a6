"""The clocks of a release: what starts them, what starts them again, and the table in the docs that says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from services.planner.model.state import Batch, Flow, Step, Strategy
from services.planner.rules.clocks import (
    RULES,
    Clock,
    Restart,
    end_of,
    restart_on_rebuild,
    restart_on_resume,
    restart_on_retry,
)
from shared.domain.deployflow import BatchPhase, UpdateStrategy

START, NOW = 1_000, 5_000_000
STEPS = [(clock, step) for clock, rule in RULES.items() for step in rule.starts_from]
PHASES = {
    Step.SURGE: BatchPhase.SMOKING,
    Step.SMOKED: BatchPhase.SMOKED,
    Step.PULL_IN: BatchPhase.BAKING,
    Step.PULL_OUT: BatchPhase.BAKED,
    Step.RETIRE: BatchPhase.BAKED,
    Step.BETWEEN: BatchPhase.BAKED,
}


def _flow(clock: Clock, step: Step, *, paused: bool = False) -> Flow:
    """A release in this step, its clock started."""
    times = {RULES[clock].starts_from[step]: START}
    batch = replace(Batch(1, 1, phase=PHASES[step]), **times)
    strategy = replace(Strategy(paused=paused), **dict.fromkeys(RULES[clock].limit, 1))
    return Flow("new", "uid-new", "update", 1, 1, "web", 2, strategy, step=step, batches=(batch,))


def _restarted(flow: Flow, by: Restart) -> Flow:
    batch = flow.batches[-1]
    match by:
        case Restart.RESUME:
            return restart_on_resume(flow, NOW)
        case Restart.RETRY:
            return replace(flow, batches=(restart_on_retry(batch, NOW),))
        case Restart.REBUILD:
            return replace(flow, batches=(restart_on_rebuild(batch, NOW),))


def test_every_clock_has_a_rule_and_is_a_field_of_the_strategy() -> None:
    assert set(RULES) == set(Clock)
    fields = {field.alias for field in UpdateStrategy.model_fields.values()}
    times = {name for name in fields if name and name.endswith("Seconds")}
    assert {str(clock) for clock in Clock} - {Clock.FLAPPING} == times, (
        "a new time-out needs a clock: what starts it, what restarts it"
    )


@pytest.mark.parametrize(("clock", "step"), STEPS)
def test_a_clock_runs_from_its_start_to_its_limit(clock: Clock, step: Step) -> None:
    assert end_of(clock, _flow(clock, step)) == START + 1_000 * sum(RULES[clock].limit.values())


@pytest.mark.parametrize(("clock", "step"), STEPS)
def test_a_clock_stands_still_while_paused_as_its_rule_says(clock: Clock, step: Step) -> None:
    paused = _flow(clock, step, paused=True)
    assert (end_of(clock, paused) is not None) == RULES[clock].runs_while_paused


@pytest.mark.parametrize("by", Restart)
@pytest.mark.parametrize(("clock", "step"), STEPS)
def test_a_clock_starts_again_where_its_rule_says_so(clock: Clock, step: Step, by: Restart) -> None:
    """It has no old end any more: it ends later, or waits for its start."""
    before = _flow(clock, step)
    if clock is Clock.INTERVAL and by is not Restart.RESUME:
        return  # nothing restarts a finished batch
    end = end_of(clock, _restarted(before, by))
    assert (end is None or end > NOW) == (by in RULES[clock].restarted_by)


@pytest.mark.parametrize("clock", Clock)
def test_a_clock_that_stands_still_while_paused_starts_again_on_resume(clock: Clock) -> None:
    """Otherwise it would have expired when the release is resumed."""
    rule = RULES[clock]
    assert rule.runs_while_paused or Restart.RESUME in rule.restarted_by


def test_the_table_in_the_docs_says_the_same() -> None:
    text = Path("docs/deployflow.md").read_text().split("## Clocks\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    assert [row[0].strip("`") for row in rows] == [str(clock) for clock in Clock]
    for clock, row in zip(Clock, rows, strict=True):
        rule = RULES[clock]
        assert all(f"`{field}`" in row[1] for field in rule.starts_from.values())
        assert row[2] == (", ".join(by for by in Restart if by in rule.restarted_by) or "nothing")
        assert row[3] == ("runs" if rule.runs_while_paused else "stands still")
