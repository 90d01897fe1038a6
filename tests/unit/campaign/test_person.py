"""What a person does with a release, from what its status says."""

from __future__ import annotations

import pytest

from bench.campaigns.person import Move, next_move
from shared.domain.json_types import Json
from tests.unit.campaign.samples import flow

FAILED: Json = {"conditions": [{"batch": 1, "phase": "SmokeFailed"}], "paused": True, "reason": "SmokeFailed"}


@pytest.mark.parametrize(
    ("status", "after_failure", "retried", "move"),
    [
        ({"reason": "WaitingForNext"}, "cancel", 0, Move.NEXT),
        ({"reason": "Paused", "paused": True}, "cancel", 0, Move.RESUME),
        ({"reason": ""}, "cancel", 0, None),
        (FAILED, "cancel", 0, Move.CANCEL),
        (FAILED, "update", 0, Move.UPDATE),
        (FAILED, "retry", 0, Move.RETRY),
        (FAILED, "retry", 1, Move.CANCEL),
        ({"paused": True, "reason": "Invalid", "message": "a policy denied it"}, "retry", 0, Move.RETRY),
        ({**FAILED, "message": "ending: canceled"}, "retry", 0, None),
    ],
)
def test_the_move_of_a_person(status: Json, after_failure: str, retried: int, move: Move | None) -> None:
    assert next_move(flow(phase="BatchStarted", **status), after_failure, retried) == move


def test_a_finished_release_needs_nobody() -> None:
    assert next_move(flow(reason="WaitingForNext"), "cancel", 0) is None
