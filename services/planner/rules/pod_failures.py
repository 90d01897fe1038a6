"""Describe the pods that fail a batch: why, since when and, for the first of them, their last log lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from services.planner.model.state import Batch, Pod
from shared.domain.deployflow import BatchPhase, FailureReason, PodPhase, PodStatus, keys_of
from shared.domain.json_types import Json
from shared.domain.messages import PodFact

_POD: Final = keys_of(PodStatus)
NAMED: Final = 5
"""The number of pods that a failure names and `.status` has details of; the events have all."""


def describe_failure(pod: Pod) -> str:
    """Return `CrashLoopBackOff: container main: … (exit code 1, Error), since 12:00:03Z`."""
    return _reason_text(pod) + format_since(pod.since)


def describe_delay(text: str, pod: Pod, begun: int) -> str:
    """Return `not Ready within 60 s (ContainersNotReady: …), since 12:00:03Z`.

    `begun`: the time to name where the pod has none, ms since 1970.
    """
    return f"{text} ({_reason_text(pod)}){format_since(pod.since or begun)}"


def describe_flaps(pod: Pod) -> str:
    """Return `lost Ready 4 times`."""
    return "lost Ready once" if pod.flaps == 1 else f"lost Ready {pod.flaps} times"


def _reason_text(pod: Pod) -> str:
    return f"{pod.reason}: {pod.message}" if pod.message else pod.reason or pod.phase


def format_since(at: int) -> str:
    return f", since {datetime.fromtimestamp(at / 1000, UTC):%H:%M:%SZ}" if at else ""


def read_trouble(seen: PodFact, known: Pod | None) -> Json:
    """Return the fields of a pod's fact that say what is wrong with it, merged with those known before.

    Two facts that say less than the one before replace nothing: that of a replica of readiness that has not read the
    details yet, and that of a pod that was not Ready in time and has lost its traffic for it.
    """
    new = {name: getattr(seen, name) for name in ("reason", "message", "event", "log", "since")}
    if known is None or not known.since or seen.ready:
        return new
    pulled_out = known.pull_in_sequence and seen.gate == "closed"
    if not seen.since and not pulled_out:
        return new
    kept = {name: value or getattr(known, name) for name, value in new.items()}
    return kept | {"message": seen.message} if seen.reason else kept


def failure_details(batch: Batch, pods: Iterable[tuple[str, Pod]]) -> dict[str, Json]:
    """Return the details that `.status` has of the first pods that failed the batch, by uid; best known pods first."""
    bad = [(uid, pod) for uid, pod in pods if _has_failed(batch, pod)]
    bad.sort(key=lambda item: (not item[1].log, not item[1].event, item[1].name))
    return {
        uid: {
            _POD.reason: pod.reason,
            _POD.message: pod.message,
            _POD.event: pod.event,
            _POD.log: pod.log,
            _POD.since: datetime.fromtimestamp(pod.since / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            if pod.since
            else None,
        }
        for uid, pod in bad[:NAMED]
    }


def _has_failed(batch: Batch, pod: Pod) -> bool:
    match batch.reason:
        case FailureReason.STARTUP_TIMEOUT:
            return not pod.containers_ready
        case FailureReason.PULL_IN_FAILED:
            return not pod.ready
        case FailureReason.FLAPPING:
            return pod.flaps > 0
        case _:
            return pod.phase == PodPhase.FAILED


def failed_pull_in(batch: Batch, pod: Pod) -> bool:
    """Return whether a pod was pulled in and is not Ready; it may have been pulled out since."""
    return (
        batch.phase == BatchPhase.BAKE_FAILED
        and not pod.ready
        and bool(pod.gate == "open" or pod.pull_in_sequence)
    )
