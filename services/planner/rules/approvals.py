"""Decide how far a release is approved by a person, or by `mode: auto`.

The approval is (`batches`, `stage`): batches below `batches` may finish, batch `batches` may go to `stage`
(unset: to its end). A canary starts at (1, Smoked). In auto, an approval without a stage extends to all batches,
but the batch after a canary needs a person too.
"""

from __future__ import annotations

from services.planner.model.state import Batch, Flow
from shared.domain.deploy_commands import cursor, rank
from shared.domain.deployflow import BatchPhase, Mode


def _approval(flow: Flow) -> tuple[int, BatchPhase | None]:
    return cursor(flow.strategy.batches, flow.strategy.stage, canary=flow.canary)


def _proceeds_automatically(flow: Flow) -> bool:
    batches, stage = _approval(flow)
    return flow.strategy.mode == Mode.AUTO and stage is None and (not flow.canary or batches > 1)


def may_start(flow: Flow, number: int) -> bool:
    """Return whether batch `number` is approved to begin."""
    return number <= _approval(flow)[0] or _proceeds_automatically(flow) or _follows_a_scale(flow, number)


def _follows_a_scale(flow: Flow, number: int) -> bool:
    """Return whether the batch only removes the pods that somebody else has scaled down: nobody has to approve that."""
    is_next = number == len(flow.batches) + 1
    return flow.scaled_to is not None and not flow.shrinking and is_next and flow.updated >= flow.wanted


def may_reach(flow: Flow, number: int, stage: BatchPhase) -> bool:
    """Return whether batch `number`, which began, is approved to enter `stage`; a lower approval takes nothing back."""
    batches, limit = _approval(flow)
    if number != batches or limit is None:
        return True
    return rank(number, stage) <= rank(batches, limit)


def waits_within(flow: Flow, batch: Batch) -> bool:
    """Return whether a batch that was surged stays as it is for a while: for a person, or for its bake."""
    return flow.paused or bool(flow.strategy.bake) or not may_reach(flow, batch.number, BatchPhase.BAKED)


def explain_scale(flow: Flow) -> tuple[str, ...]:
    """Return the words on a count that somebody else has set during the release; none where nobody has."""
    return () if flow.scaled_to is None else (f"scaled to {flow.scaled_to} by somebody else",)
