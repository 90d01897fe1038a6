"""What an instance must look like at rest after a round: a release and all that happened around it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from bench.campaigns.observed import Flow
from shared.domain.deployflow import KEEPS_REPLICAS, UPDATING, Action

SLACK_MS: Final = 2000
"""How exactly the order of a scale and of a release's beginning or end is known."""


@dataclass(frozen=True)
class Rest:
    """`counts`: how many pods are right; None: any number. `images`: those of the pods, one unless a release was
    canceled between. `stopped`: the counts that a start goes back to.
    """

    counts: frozenset[int] | None
    images: frozenset[str]
    stopped: frozenset[int] = frozenset()

    @property
    def least(self) -> int:
        return min(self.counts) if self.counts else 0


class Scale(NamedTuple):
    """Somebody else wrote this count, `at` milliseconds since 1970. `own`: Triton wrote the same last, and cannot tell."""

    at: int
    wanted: int
    own: bool = False


NOTHING: Final = Rest(frozenset({0}), frozenset())


def after(before: Rest, flows: Iterable[Flow], scales: Sequence[Scale]) -> Rest:
    """Return what is right after these releases and scales, in the order in which they began."""
    rest, left = before, sorted(scales)
    began = [flow for flow in flows if flow.started_at]
    for flow in sorted(began, key=lambda flow: flow.started_at):
        earlier = [scale for scale in left if scale.at < flow.started_at]
        left = left[len(earlier) :]
        rest = _scaled(rest, earlier, until=flow.started_at)
        meanwhile = [scale for scale in left if scale.at <= (flow.finished_at or scale.at)]
        left = left[len(meanwhile) :]
        rest = _released(rest, flow, meanwhile)
    return _scaled(rest, left, until=None)


def _scaled(rest: Rest, scales: Sequence[Scale], *, until: int | None) -> Rest:
    """Return it after scales outside of any release; one just before a release may be seen by it."""
    if not scales or rest.counts is None:
        return rest
    last = scales[-1]
    if until is not None and until - last.at < SLACK_MS:
        return replace(rest, counts=rest.counts | {last.wanted})
    return replace(rest, counts=frozenset({last.wanted}))


def _released(rest: Rest, flow: Flow, scales: Sequence[Scale]) -> Rest:
    succeeded = flow.phase == "Success"
    rest = replace(_counted(rest, flow, succeeded=succeeded), images=_images(rest, flow, succeeded=succeeded))
    counts = rest.counts
    if not scales or counts is None:
        return rest
    last = scales[-1]
    if flow.action == Action.STOP:
        # it may have found the count of any of them
        rest = replace(rest, stopped=rest.stopped | {scale.wanted for scale in scales})
    clear = last.at - flow.started_at > SLACK_MS and flow.finished_at - last.at > SLACK_MS
    if clear and not last.own and flow.action not in {Action.STOP, Action.DELETE}:
        return replace(rest, counts=frozenset({last.wanted}))
    written = {scale.wanted for scale in scales} if last.own else {last.wanted}
    low, high = min({*counts, *written}), max({*counts, *written})
    return replace(rest, counts=frozenset(range(low, high + 1)))


def _counted(rest: Rest, flow: Flow, *, succeeded: bool) -> Rest:
    if rest.counts is None:
        return rest
    targets = _targets(rest, flow)
    if not succeeded:
        # whoever takes over and names no count takes that of the release before it
        if not flow.conditions and flow.phase != "Aborted":
            return rest
        both = targets | rest.counts
        return replace(rest, counts=frozenset(range(min(both), max(both) + 1)))
    match flow.action:
        case Action.STOP:
            return replace(rest, counts=targets, stopped=rest.counts)
        case Action.START:
            return replace(rest, counts=targets, stopped=frozenset())
    return replace(rest, counts=targets)


def _targets(rest: Rest, flow: Flow) -> frozenset[int]:
    counts = rest.counts or frozenset()
    keeps = flow.metadata.annotations.get(KEEPS_REPLICAS) == "true"
    match flow.action:
        case Action.STOP | Action.DELETE:
            return frozenset({0})
        case Action.RESTART:
            return counts
        case Action.START:
            # one that runs again since its stop stays as it is
            return (rest.stopped | counts) - {0} or frozenset({flow.replicas})
    if keeps:
        # of an instance without pods, or without a good template, the count before its stop or that of its create
        unsaid = counts == {0} or not rest.images
        return counts | rest.stopped | {flow.replicas} if unsaid else counts
    return frozenset({flow.replicas})


def _images(rest: Rest, flow: Flow, *, succeeded: bool) -> frozenset[str]:
    if flow.action == Action.DELETE and succeeded:
        return frozenset()
    if flow.action not in UPDATING:
        return rest.images
    if succeeded:
        return frozenset({flow.image})
    return rest.images | {flow.image} if flow.finished_batches or flow.baked else rest.images
