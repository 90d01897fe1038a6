"""What must hold when everything around an instance has come to rest. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from bench.campaigns.expectation import Rest
from bench.campaigns.observed import Flow, Snapshot, image_of, stays_well
from bench.campaigns.running_checks import Violation
from shared.domain.deployflow import FINALIZER
from shared.domain.json_types import Json
from shared.domain.messages import Gate
from shared.kube.clonesets import OWNER_STRATEGY, RELEASE, STABLE_CLAIMS, STABLE_TEMPLATE

UNFINISHED: Final = "unfinished"
COUNT: Final = "count"
PODS: Final = "pods-differ-from-count"
REVISIONS: Final = "revisions"
NOT_READY: Final = "not-ready"
HOLD: Final = "hold"
STRATEGY: Final = "strategy-not-restored"
FINALIZERS: Final = "finalizer"
LOG: Final = "log"
_LEFT: Final = (RELEASE, OWNER_STRATEGY, STABLE_TEMPLATE, STABLE_CLAIMS)
_ENDS: Final = ("Success", "Failed", "Canceled", "Aborted")


def at_rest(seen: Snapshot, expected: Rest) -> list[Violation]:
    """Return what is not as it should be."""
    return [*_releases(seen), *_cloneset(seen), *_pods(seen, expected)]


def _releases(seen: Snapshot) -> Iterator[Violation]:
    for flow in seen.flows.values():
        if not flow.finished:
            yield Violation(UNFINISHED, f"{flow.name} is {flow.phase} ({flow.reason}: {flow.message})")
        elif FINALIZER in flow.metadata.finalizers:
            yield Violation(FINALIZERS, f"{flow.name} has finished ({flow.phase}) and has Triton's finalizer")


def _cloneset(seen: Snapshot) -> Iterator[Violation]:
    cloneset = seen.cloneset
    if cloneset is None:
        return
    if cloneset.deleting:
        yield Violation(COUNT, "the CloneSet is being deleted")
    if cloneset.hold is not None:
        yield Violation(HOLD, f"the CloneSet has a hold: {cloneset.hold}")
    if named := cloneset.spec.scale_strategy.get("podsToDelete"):
        yield Violation(STRATEGY, f"pods are still named to be deleted: {named}")
    left = [name for name in _LEFT if name in cloneset.metadata.annotations]
    strategy = cloneset.spec.update_strategy
    if any(pod.revision != cloneset.status.update_revision for pod in seen.live):
        # a canceled release left them: with its own strategy OpenKruise would replace them
        left = [name for name in left if name != OWNER_STRATEGY]
    elif strategy.get("paused") or strategy.get("partition"):
        yield Violation(STRATEGY, f"the CloneSet's updateStrategy is {strategy}")
    if left:
        yield Violation(STRATEGY, f"the CloneSet still has the annotations {', '.join(left)}")


def _pods(seen: Snapshot, expected: Rest) -> Iterator[Violation]:
    live = seen.live
    wanted = seen.cloneset.spec.replicas if seen.cloneset else 0
    if expected.counts is not None and wanted not in expected.counts:
        right = " or ".join(map(str, sorted(expected.counts)))
        yield Violation(COUNT, f"the CloneSet has replicas {wanted}, the last wanted count is {right}")
    if len(live) != wanted or len(seen.pods) != len(live):
        going = f", {len(seen.pods) - len(live)} are being deleted" if len(seen.pods) != len(live) else ""
        yield Violation(PODS, f"{len(live)} pods exist, the CloneSet has replicas {wanted}{going}")
    images = Counter(map(image_of, live))
    if strange := set(images) - expected.images:
        right = ", ".join(sorted(expected.images)) or "none"
        yield Violation(REVISIONS, f"pods have {', '.join(sorted(strange))}, right would be {right}")
    revisions = {pod.revision for pod in live}
    if len(revisions) > max(len(expected.images), 1):
        yield Violation(REVISIONS, f"pods have the revisions {', '.join(sorted(revisions))}")
    unwell = [pod.metadata.name for pod in live if stays_well(image_of(pod)) and not pod.ready]
    if unwell:
        closed = sum(pod.gate != Gate.OPEN for pod in live)
        yield Violation(NOT_READY, f"not Ready: {', '.join(sorted(unwell))} ({closed} gates are closed)")


def in_log(flow: Flow, entries: Sequence[Json]) -> list[Violation]:
    """Return what the log lacks of a finished release, or has twice."""
    ids = Counter(entry["event"]["id"] for entry in entries)
    facts = Counter((entry["triton"].get("batch") or 0, entry["event"]["reason"]) for entry in entries)
    found = [f"has {name} {count} times" for name, count in ids.items() if count > 1]
    ends = {reason: facts[0, reason] for reason in _ENDS if facts[0, reason]}
    # that of an end has the batch in which it came
    for (batch, reason), count in facts.items():
        if reason in _ENDS and batch:
            ends[reason] = ends.get(reason, 0) + count
    if ends != {flow.phase: 1}:
        found.append(f"has the ends {ends or 'none'}, it is {flow.phase}")
    for condition in flow.conditions:
        number = condition["batch"]
        expected = {
            "BatchStarted": condition["phase"] != "Pending",
            "BatchFinished": condition.get("finishedAt"),
        }
        for reason, happened in expected.items():
            if facts[number, reason] != bool(happened):
                found.append(f"has {reason} of batch {number} {facts[number, reason]} times")
    return [Violation(LOG, f"the log of {flow.name} {text}") for text in found]
