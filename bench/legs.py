"""Where a release's time goes: each pod's way, as a watch tells it, cut into legs that add up to the whole.

A batch is always the same road: pods are made, start, get their gate opened and turn Ready; then the next
batch's pods are made, or, in the last batch, the old pods go and the end is told. Cut at these points, which
both sides pass, the time of Triton and that of the floor can be laid side by side. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final

LEGS: Final = {
    "first": "from submitting to the first batch's pods",
    "start": "pods start (their own time)",
    "gate": "from started to Ready: the gate",
    "turn": "from Ready to the next batch's pods",
    "old": "last batch: from Ready to old pods gone",
    "end": "from old pods gone to finished",
}


@dataclass
class PodTimes:
    """When a watcher first saw each step of one pod, in seconds; 0.0 for what it has not seen."""

    application: str
    new: bool
    made: float = 0.0
    started: float = 0.0
    ready: float = 0.0
    gone: float = 0.0


def ends(pods: Sequence[PodTimes], finished: Mapping[str, float]) -> dict[str, float]:
    """When each application was done: told so, and its old pods gone. One side may tell it a little sooner."""
    done = dict(finished)
    for pod in pods:
        if not pod.new and pod.application in done:
            done[pod.application] = max(done[pod.application], pod.gone)
    return done


def legs_of(
    pods: Sequence[PodTimes], finished: Mapping[str, float], submitted: float, batch_size: int
) -> dict[str, float]:
    """Seconds in each leg, the mean over the applications; they add up to the mean time of a release."""
    each = []
    for application, end in finished.items():
        own = [pod for pod in pods if pod.application == application]
        each.append(_of_one(own, submitted, end, batch_size))
    return {leg: mean(legs[leg] for legs in each) for leg in LEGS}


def _of_one(pods: list[PodTimes], submitted: float, end: float, batch_size: int) -> dict[str, float]:
    new = sorted((pod for pod in pods if pod.new), key=lambda pod: pod.made)
    batches = [new[start : start + batch_size] for start in range(0, len(new), batch_size)]
    legs = dict.fromkeys(LEGS, 0.0)
    before = submitted
    for number, batch in enumerate(batches):
        made = max(pod.made for pod in batch)
        started = max(made, *(pod.started for pod in batch))
        ready = max(started, *(pod.ready for pod in batch))
        legs["turn" if number else "first"] += made - before
        legs["start"] += started - made
        legs["gate"] += ready - started
        before = ready
    gone = max((pod.gone for pod in pods if not pod.new), default=before)
    legs["old"] = max(gone, before) - before
    legs["end"] = end - max(gone, before)
    return legs
