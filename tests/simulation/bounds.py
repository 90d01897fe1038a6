"""Whether a release that does not move has a future deadline, or says what it waits for."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.decision.deadlines import next_deadline
from services.planner.model.state import Flow, Instance, Step
from services.planner.views.status import explain

NO_WAIT = frozenset({"", "Warning", "BatchInterval", "Retrying", "PodsNotReady"})
"""Reasons that name nothing that is waited for, or a time: that has to be a deadline."""


def unbounded(instance: Instance, now: int, *, resend_ms: int) -> list[str]:
    """Return the releases that stand still without a word, with all that `.status` says of them."""
    return [
        f"{flow.name} at {flow.step}, command {flow.step_command}, {explain(instance, flow)}"
        for flow in (*instance.waiting, *((instance.active,) if instance.active else ()))
        if not _is_named(instance, flow) and not (flow is instance.active and _ends(instance, now, resend_ms))
    ]


def _is_named(instance: Instance, flow: Flow) -> bool:
    reason, message = explain(instance, flow)
    if flow.step == Step.CANCEL:
        return message != f"ending: {flow.message}"
    return reason not in NO_WAIT and bool(message)


def _ends(instance: Instance, now: int, resend_ms: int) -> bool:
    """Return whether a deadline is to come: to send a command again is none, once it was sent again."""
    pending = instance.pending
    if pending is not None and pending.late_since:
        instance = replace(instance, pending=None)
    deadline = next_deadline(instance, now, resend_ms=resend_ms)
    return deadline is not None and deadline > now
