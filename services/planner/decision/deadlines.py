"""When to look at an instance again although nobody has said anything: the next of its deadlines."""

from __future__ import annotations

from collections.abc import Iterator

from services.planner.decision.transitions import mine
from services.planner.model.batch_plan import Counts, remaining
from services.planner.model.state import Flow, Instance, Step
from services.planner.rules import freeze_hold
from services.planner.rules.approvals import may_start
from services.planner.rules.batch_interval import interval_end
from services.planner.rules.failure_detection import step_end


def deadline(i: Instance, now: int, *, resend_ms: int) -> int | None:
    """Milliseconds since 1970; None when only a message can move the release."""
    f = i.active
    times = [time for time in (*freeze_hold.ends(i), *(_times(i, f) if f else ())) if time > now]
    if f is not None and i.given is not None and not (i.given.answered and i.given.seen):
        times.append(i.given.sent_at + resend_ms)
    return min(times, default=None)


def _times(i: Instance, f: Flow) -> Iterator[int]:
    s = f.strategy
    batch = f.open_batch
    if f.paused:
        return
    if f.step == Step.BETWEEN and may_start(f, len(f.batches) + 1):
        if remaining(f.wanted, Counts(f.updated, f.others)):
            yield interval_end(f)
        return
    if batch is None:
        return
    if (end := step_end(f)) is not None:
        yield end
    if f.step in {Step.SURGE, Step.SMOKED}:
        limit = s.startup_timeout * 1000
        yield batch.surged_at + limit
        for _, pod in mine(i, batch):
            if not pod.containers_ready:
                yield max(pod.created_at, batch.surged_at) + limit
    elif f.step == Step.PULL_IN:
        if batch.ready_since:
            yield batch.ready_since + s.bake * 1000
        if batch.unready_since:
            yield batch.unready_since + s.pull_in_timeout * 1000
    elif f.step == Step.PULL_OUT and batch.pulled_out_at:
        yield batch.pulled_out_at + s.pull_out * 1000
