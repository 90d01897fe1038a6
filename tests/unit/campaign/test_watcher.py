"""A release that says again what it waits for has not moved: else no limit for standing still would ever be reached."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench.campaigns.observed import Flow
from bench.campaigns.watcher import Sight
from tests.unit.campaign.samples import flow


def _with(seen: Flow, **status: Any) -> Flow:
    return msgspec.structs.replace(seen, status={**seen.status, **status})


@pytest.mark.parametrize(
    ("status", "moves"),
    [
        ({"sequence": 39, "message": "next attempt at 12:00"}, 0),
        ({"reason": "Retrying"}, 1),
        ({"phase": "x"}, 1),
    ],
)
def test_a_release_moves_with_its_phase_or_reason(status: dict[str, Any], moves: int) -> None:
    sight, waiting = Sight(), flow(phase="BatchStarted")
    sight.changed(Flow, None, waiting)
    before = sight.changes
    sight.changed(Flow, waiting, _with(waiting, **status))
    assert sight.changes - before == moves


def test_pods_that_a_successful_release_did_not_have_may_serve_later() -> None:
    sight, done = Sight(), flow("release-1", phase="Success", batches=0)
    sight.gates.waiting["app1:good"] = "release-1"
    sight.changed(Flow, None, done)
    assert not sight.gates.waiting
