"""Targets of a watch: whether a release has reached a place. Pure; a DeployFlow is as `FlowQueries` has it."""

from __future__ import annotations

from services.planner.api.grpc_messages import STAGES, Place
from services.planner.api.v1_views import strategy_of
from shared.domain.deploy_commands import cursor
from shared.domain.deployflow import BatchPhase, Mode
from shared.domain.json_types import Json


def current_batch_number(flow: Json) -> int:
    """Return the number of the batch in progress; before the first, the first."""
    conditions = flow["status"].get("conditions") or []
    return int(conditions[-1]["batch"]) if conditions else 1


def has_reached(flow: Json, place: Place | None) -> bool:
    """Decide whether a release is at a place or past it. None: its end, which is also the end of its last batch.

    A batch is at Baked when it is finished, with its old pods gone: only then `next` approves the one after it, which
    is Pending from then on.
    """
    status = flow["status"]
    conditions = status.get("conditions") or []
    if status["finished"] or place is None or not conditions:
        return bool(status["finished"])
    at = conditions[-1]
    stage = place.stage or (BatchPhase.SMOKED if at.get("canary") else BatchPhase.BAKED)
    if stage == BatchPhase.BAKED and place.batch >= (status.get("batches") or 0):
        return False
    number, phase = at["batch"], at["phase"]
    if (status.get("finishedBatches") or 0) >= number:
        number, phase = number + 1, BatchPhase.PENDING
    if number != place.batch or stage == BatchPhase.BAKED:
        return bool(number > place.batch)
    # a failed batch is at no stage: somebody may retry it
    return phase in STAGES and STAGES.index(phase) >= STAGES.index(stage)


def approved_place(flow: Json) -> Place | None:
    """Return how far its strategy approves it by `batches` and `stage`; None: to its end.

    Mode auto goes on by itself, but only past a `next` it counts as approved to the end: clients of Triton 0.1.x
    watch a release of mode auto to the end of its first batch.
    """
    strategy = strategy_of(flow)
    conditions = flow["status"].get("conditions") or []
    canary = bool(conditions[0].get("canary") if conditions else strategy.get("canary"))
    stage = strategy.get("stage") or None
    batches, stage = cursor(strategy.get("batches") or 1, BatchPhase(stage) if stage else None, canary=canary)
    if stage is None and batches > 1 and strategy.get("mode") == Mode.AUTO:
        return None
    return Place(batches, stage or BatchPhase.BAKED)


def runs_past_approval(flow: Json) -> bool:
    """Decide whether a release of mode auto has gone on by itself, past the batch that was approved last."""
    place = approved_place(flow)
    auto = strategy_of(flow).get("mode") == Mode.AUTO
    return auto and place is not None and current_batch_number(flow) > place.batch
