"""What a release has come to, for people who wait for it and scripts that ask. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from statistics import mean
from typing import Final

from cli.exits import FAILED, RUNNING, WAITING
from cli.output import parse_time
from shared.domain.deployflow import FailureReason, FlowPhase, OnFailure
from shared.domain.json_types import Json


class Outcome(StrEnum):
    """`failed` is also a release that stands at a failed batch until somebody decides what comes next."""

    SUCCESS = "success"
    FAILED = "failed"
    WAITING = "waiting"
    RUNNING = "running"


EXIT_CODES: Final = {
    Outcome.SUCCESS: 0,
    Outcome.FAILED: FAILED,
    Outcome.WAITING: WAITING,
    Outcome.RUNNING: RUNNING,
}
FAILED_PHASES: Final = ("SmokeFailed", "BakeFailed")


def outcome_of(flow: Json) -> Outcome:
    """Return what the release has come to; it waits where a person has to do something."""
    status = flow.get("status") or {}
    if status.get("finished"):
        return Outcome.SUCCESS if status.get("phase") == FlowPhase.SUCCESS else Outcome.FAILED
    if is_stopped(flow):
        return Outcome.FAILED
    if status.get("reason") == "WaitingForNext" or status.get("paused"):
        return Outcome.WAITING
    return Outcome.RUNNING


def is_stopped(flow: Json) -> bool:
    """Return whether an unfinished release failed, and does not end by itself as its `onFailure` says."""
    status = flow.get("status") or {}
    strategy = flow["spec"].get("updateStrategy") or flow["spec"].get("nonUpdateStrategy") or {}
    if status.get("finished") or strategy.get("onFailure", OnFailure.PAUSE) != OnFailure.PAUSE:
        return False
    conditions = status.get("conditions") or []
    if conditions and conditions[-1]["phase"] in FAILED_PHASES:
        return True
    return bool(status.get("paused")) and status.get("reason") == FailureReason.PROGRESS_DEADLINE_EXCEEDED


def seconds_left(flow: Json, now: datetime) -> float | None:
    """Estimate how long the rest takes, without the time that a person takes; None where nothing is known yet.

    From the batches that have finished; a canary says nothing, since a person decides about it.
    """
    status = flow.get("status") or {}
    strategy = flow["spec"].get("updateStrategy") or flow["spec"].get("nonUpdateStrategy") or {}
    conditions = status.get("conditions") or []
    taken = [
        (end - start).total_seconds()
        for one in conditions
        if not one.get("canary")
        and (start := parse_time(one.get("startedAt"))) is not None
        and (end := parse_time(one.get("finishedAt"))) is not None
    ]
    if not taken or status.get("finished"):
        return None
    left = max(status.get("batches", 0), len(conditions)) - status.get("finishedBatches", 0)
    each = float(mean(taken))
    whole = each * left + float(strategy.get("batchIntervalSeconds") or 0) * max(left - 1, 0)
    began = parse_time(conditions[-1].get("startedAt"))
    under_way = began is not None and not conditions[-1].get("finishedAt")
    passed = (now - began).total_seconds() if began is not None and under_way else 0.0
    return max(float(whole) - min(passed, each), 0.0)
