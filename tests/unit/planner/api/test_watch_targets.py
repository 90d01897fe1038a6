"""How far a release has come for those who watch it up to somewhere."""

from __future__ import annotations

from typing import Any

import pytest

from services.planner.api.grpc_messages import Place
from services.planner.api.watch_targets import (
    approved_place,
    current_batch_number,
    has_reached,
    runs_past_approval,
)
from shared.domain.deployflow import BatchPhase
from tests.unit.planner.api.surroundings import batch

CANARY = batch(1, "Smoked", canary=True)


def flow(
    *conditions: Any, action: str = "update", finished: bool = False, batches_done: int = 0, **strategy: Any
) -> Any:
    field = "updateStrategy" if action == "update" else "nonUpdateStrategy"
    status = {"batches": 3, "conditions": list(conditions), "finished": finished}
    return {
        "spec": {"action": action, field: strategy},
        "status": {**status, "finishedBatches": batches_done},
    }


@pytest.mark.parametrize(
    ("conditions", "place", "there"),
    [
        ([], Place(1, BatchPhase.SMOKED), False),
        ([batch(1, "Smoking")], Place(1, BatchPhase.SMOKED), False),
        ([batch(1, "Smoking")], Place(1, BatchPhase.SMOKING), True),
        ([batch(1, "Baking")], Place(1, BatchPhase.SMOKED), True),
        ([batch(1, "SmokeFailed")], Place(1, BatchPhase.SMOKED), False),
        ([batch(1, "BakeFailed")], Place(1, BatchPhase.SMOKED), False),
        ([batch(2, "Pending")], Place(1, BatchPhase.BAKED), True),
        ([batch(2, "Baked")], Place(3, BatchPhase.SMOKED), False),
        # a stage that is not said
        ([CANARY], Place(1, None), True),
        ([batch(1, "Smoked")], Place(1, None), False),
        ([batch(1, "Baked")], Place(1, BatchPhase.BAKING), True),
        # Baked, and old pods are on their way out: nobody can go on yet
        ([batch(1, "Baked")], Place(1, BatchPhase.BAKED), False),
        ([batch(1, "Baked")], Place(1, None), False),
        ([batch(1, "Baked")], Place(2, BatchPhase.PENDING), False),
        # to be done with the last batch is to be at the end
        ([batch(3, "Baking")], Place(3, BatchPhase.BAKING), True),
        ([batch(3, "Baked")], Place(3, BatchPhase.BAKED), False),
        ([batch(3, "Baked")], Place(3, None), False),
        ([batch(3, "Baked")], Place(4, BatchPhase.SMOKED), False),
        ([batch(3, "Baked")], None, False),
    ],
)
def test_a_place_is_reached(conditions: list[Any], place: Place | None, there: bool) -> None:
    assert has_reached(flow(*conditions), place) is there
    assert has_reached(flow(*conditions, finished=True), place)


@pytest.mark.parametrize(
    ("place", "there"),
    [
        (Place(1, None), True),
        (Place(1, BatchPhase.BAKED), True),
        (Place(2, BatchPhase.PENDING), True),
        (Place(2, BatchPhase.SMOKING), False),
        (Place(2, None), False),
        (Place(3, BatchPhase.PENDING), False),
    ],
)
def test_a_finished_batch_is_behind_and_the_next_one_pending(place: Place, there: bool) -> None:
    assert has_reached(flow(batch(1, "Baked"), batches_done=1), place) is there
    assert has_reached(flow(CANARY | {"phase": "Baked"}, batches_done=1), place) is there


@pytest.mark.parametrize(
    ("strategy_fields", "place"),
    [
        (flow(), Place(1, BatchPhase.BAKED)),
        (flow(batches=2), Place(2, BatchPhase.BAKED)),
        (flow(batches=2, stage="Smoked", mode="auto"), Place(2, BatchPhase.SMOKED)),
        (flow(mode="auto"), Place(1, BatchPhase.BAKED)),
        (flow(mode="auto", batches=2), None),
        (flow(batches=0, stage=""), Place(1, BatchPhase.BAKED)),
        (flow(canary=1, mode="auto"), Place(1, BatchPhase.SMOKED)),
        (flow(canary=1, batches=2, mode="auto"), None),
        # the plan made no canary of it
        (flow(batch(1, "Smoking"), canary=1, mode="auto"), Place(1, BatchPhase.BAKED)),
        (flow(CANARY, canary=1), Place(1, BatchPhase.SMOKED)),
        (flow(action="restart", mode="auto"), Place(1, BatchPhase.BAKED)),
        (flow(action="restart", mode="auto", batches=3), None),
        (flow(action="restart", batches=2), Place(2, BatchPhase.BAKED)),
    ],
)
def test_a_strategy_lets_it_go_so_far(strategy_fields: Any, place: Place | None) -> None:
    assert approved_place(strategy_fields) == place


@pytest.mark.parametrize(
    ("shown", "past"),
    [
        (flow(batch(2, "Smoking"), mode="auto"), True),
        (flow(batch(1, "Smoking"), mode="auto"), False),
        (flow(batch(2, "Smoking"), mode="manual"), False),
        (flow(batch(3, "Smoking"), mode="auto", batches=2), False),
    ],
)
def test_what_goes_on_by_itself_is_past_its_approval(shown: Any, past: bool) -> None:
    assert runs_past_approval(shown) is past


def test_the_batch_that_it_is_at() -> None:
    assert current_batch_number(flow()) == 1
    assert current_batch_number(flow(CANARY, batch(2, "Smoking"))) == 2
