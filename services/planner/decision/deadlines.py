"""Find when an instance has to be decided on again although no message came: the next of its deadlines."""

from __future__ import annotations

from collections.abc import Iterator

from services.planner.model.batch_plan import Counts, count_remaining
from services.planner.model.state import Flow, Instance, Step
from services.planner.rules import freeze_hold
from services.planner.rules.approvals import may_start
from services.planner.rules.clocks import Clock, end_of, interval_end, pod_startup_end
from services.planner.rules.surplus import surplus_end


def next_deadline(instance: Instance, now: int, *, resend_ms: int) -> int | None:
    """Return the next deadline in ms since 1970; None when only a message can move the release."""
    flow = instance.active
    times = [
        time
        for time in (*freeze_hold.freeze_ends(instance), *(_deadlines_of(instance, flow) if flow else ()))
        if time > now
    ]
    if flow is not None and flow.step == Step.CANCEL and (end := surplus_end(instance)) > now:
        times.append(end)
    if flow is not None and flow.retry_at > now:
        times.append(flow.retry_at)
    if flow is not None and instance.pending is not None and not instance.pending.carried_out:
        times.append(instance.pending.sent_at + resend_ms)
    return min(times, default=None)


def _deadlines_of(instance: Instance, flow: Flow) -> Iterator[int]:
    batch = flow.open_batch
    if flow.paused:
        return
    if flow.step == Step.BETWEEN and may_start(flow, len(flow.batches) + 1):
        if count_remaining(flow.wanted, Counts(flow.updated, flow.others)):
            yield interval_end(flow)
        return
    if batch is None:
        return
    yield from (end for clock in Clock if (end := end_of(clock, flow)) is not None)
    if flow.step in {Step.SURGE, Step.SMOKED}:
        for pod in instance.live_pods_of(batch).values():
            if not pod.containers_ready:
                yield pod_startup_end(flow, batch, pod)
