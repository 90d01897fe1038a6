"""The go-ahead: how far a person, or `mode: auto`, lets a release go.

The cursor is (`batches`, `stage`): batches below `batches` may finish, batch `batches` may go to `stage`
(unset: all the way). A canary starts at (1, Smoked). In auto, a cursor without a stage goes on by itself,
but the batch after a canary waits for a person too.
"""

from __future__ import annotations

from services.planner.model.state import Flow
from shared.domain.deploy_commands import cursor, rank
from shared.domain.deployflow import BatchPhase, Mode


def _approval(flow: Flow) -> tuple[int, BatchPhase | None]:
    return cursor(flow.strategy.batches, flow.strategy.stage, canary=flow.canary)


def _proceeds_automatically(flow: Flow) -> bool:
    batches, stage = _approval(flow)
    return flow.strategy.mode == Mode.AUTO and stage is None and (not flow.canary or batches > 1)


def may_start(flow: Flow, number: int) -> bool:
    """Whether batch `number` may begin, as far as the go-ahead is concerned."""
    return number <= _approval(flow)[0] or _proceeds_automatically(flow)


def may_reach(flow: Flow, number: int, stage: BatchPhase) -> bool:
    """Whether batch `number`, which began, may enter `stage`; a lower cursor takes nothing back."""
    batches, limit = _approval(flow)
    if number != batches or limit is None:
        return True
    return rank(number, stage) <= rank(batches, limit)
