"""How far behind a consumer group is, by topic."""

from __future__ import annotations

from shared.messaging.consumer_lag import NOTHING, Behind, behind
from shared.messaging.lanes import Offsets

FACTS = "planner-facts"
RESULTS = "batch-results"


def test_what_is_not_taken_and_what_is_not_done_counts() -> None:
    offsets = Offsets()
    for partition, taken in ((0, 3), (1, 1)):
        for offset in range(taken):
            offsets.took((FACTS, partition), offset, 1_000 * (1 + offset + partition))
    ends = {(FACTS, 0): (10, 3), (FACTS, 1): (1, 1), (FACTS, 2): (7, 7)}
    found = behind([FACTS, RESULTS], ends, offsets, 5.0)
    assert found == {FACTS: Behind(11, 4.0), RESULTS: NOTHING}


def test_what_is_done_counts_no_more_whatever_the_order() -> None:
    offsets = Offsets()
    for offset in range(3):
        offsets.took((FACTS, 0), offset, 1_000 * (1 + offset))
    offsets.done((FACTS, 0), 1)
    assert behind([FACTS], {(FACTS, 0): (3, 3)}, offsets, 5.0) == {FACTS: Behind(2, 4.0)}
    offsets.done((FACTS, 0), 0)
    assert behind([FACTS], {(FACTS, 0): (3, 3)}, offsets, 5.0) == {FACTS: Behind(1, 2.0)}
    offsets.done((FACTS, 0), 2)
    assert behind([FACTS], {(FACTS, 0): (3, 3)}, offsets, 5.0) == {FACTS: NOTHING}


def test_a_partition_that_was_revoked_counts_no_more() -> None:
    offsets = Offsets()
    offsets.took((FACTS, 0), 0, 1_000)
    offsets.forget([(FACTS, 0)])
    assert behind([FACTS], {}, offsets, 5.0) == {FACTS: NOTHING}
