"""When to look at an instance again although nobody has said anything: the next of its deadlines."""

from __future__ import annotations

from collections.abc import Iterator

from services.planner.decision.transitions import live_pods_of
from services.planner.model.batch_plan import Counts, count_remaining
from services.planner.model.state import Flow, Instance, Step
from services.planner.rules import freeze_hold
from services.planner.rules.approvals import may_start
from services.planner.rules.batch_interval import interval_end
from services.planner.rules.failure_detection import time_limits


def next_deadline(instance: Instance, now: int, *, resend_ms: int) -> int | None:
    """Milliseconds since 1970; None when only a message can move the release."""
    flow = instance.active
    times = [
        time
        for time in (*freeze_hold.freeze_ends(instance), *(_deadlines_of(instance, flow) if flow else ()))
        if time > now
    ]
    if flow is not None and instance.pending is not None and not instance.pending.carried_out:
        times.append(instance.pending.sent_at + resend_ms)
    return min(times, default=None)


def _deadlines_of(instance: Instance, flow: Flow) -> Iterator[int]:
    s = flow.strategy
    batch = flow.open_batch
    if flow.paused:
        return
    if flow.step == Step.BETWEEN and may_start(flow, len(flow.batches) + 1):
        if count_remaining(flow.wanted, Counts(flow.updated, flow.others)):
            yield interval_end(flow)
        return
    if batch is None:
        return
    yield from (limit.ends_at for limit in time_limits(flow))
    if flow.step in {Step.SURGE, Step.SMOKED}:
        limit = s.startup_timeout * 1000
        yield batch.surged_at + limit
        for _, pod in live_pods_of(instance, batch):
            if not pod.containers_ready:
                yield max(pod.created_at, batch.surged_at) + limit
    elif flow.step == Step.PULL_IN:
        if batch.ready_since:
            yield batch.ready_since + s.bake * 1000
        if batch.unready_since:
            yield batch.unready_since + s.pull_in_timeout * 1000
    elif flow.step == Step.PULL_OUT and batch.pulled_out_at:
        yield batch.pulled_out_at + s.pull_out * 1000
