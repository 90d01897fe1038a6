"""The batch plan: how many batches a release has, and how many pods each makes and removes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.planner.model.batch_plan import (
    Counts,
    Current,
    Plan,
    count_batches,
    count_remaining,
    count_retired,
    counts_after,
    plan_release,
    size_canary,
    size_next_batch,
)
from shared.domain.deployflow import DeployFlowSpec


def planned(
    wanted: int, *, there: int = 0, updated: int = 0, action: str = "update", **strategy: Any
) -> Plan:
    """The plan of a release to `wanted` pods where `there` are, `updated` of them with its template."""
    spec = DeployFlowSpec.model_validate(
        {
            "action": action,
            "application": {
                "appID": 1,
                "groupID": 1,
                "appName": "web",
                "instanceName": "web",
                "replicas": wanted,
                "template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}},
            },
            "updateStrategy": strategy,
        }
    )
    return plan_release(spec, Current(exists=bool(there), replicas=there, updated=updated))


class Row(NamedTuple):
    """A release of so many wanted pods where so many are; `batches`: (made, removed) of each."""

    says: str
    wanted: int
    there: int
    batches: list[tuple[int, int]]
    strategy: Mapping[str, Any] = MappingProxyType({})
    updated: int = 0


CREATES = [
    Row("without a batch size all pods come at once", 10, 0, [(10, 0)]),
    Row("an even division", 10, 0, [(5, 0), (5, 0)], {"batchSize": 5}),
    Row("the last batch takes the uneven rest", 10, 0, [(4, 0), (4, 0), (2, 0)], {"batchSize": 4}),
    Row("one pod after the other", 3, 0, [(1, 0)] * 3, {"batchSize": 1}),
    Row("a size beyond the replicas is all of them", 3, 0, [(3, 0)], {"batchSize": 50}),
    Row("a percentage of the wanted pods", 10, 0, [(5, 0), (5, 0)], {"batchSize": "50%"}),
    Row("a percentage rounds up", 10, 0, [(4, 0), (4, 0), (2, 0)], {"batchSize": "33%"}),
    Row("one percent is still a pod", 3, 0, [(1, 0)] * 3, {"batchSize": "1%"}),
    Row("a hundred percent is all", 7, 0, [(7, 0)], {"batchSize": "100%"}),
    Row("the canary comes first", 10, 0, [(1, 0), (5, 0), (4, 0)], {"batchSize": 5, "canary": 1}),
    Row("the rest after a canary in one batch", 10, 0, [(2, 0), (8, 0)], {"canary": 2}),
    Row("a canary larger than the batches", 10, 0, [(4, 0), (3, 0), (3, 0)], {"batchSize": 3, "canary": 4}),
    Row("a canary of all pods has the batch size", 3, 0, [(2, 0), (1, 0)], {"batchSize": 2, "canary": 3}),
    Row("a canary of more than all, in one batch", 3, 0, [(3, 0)], {"canary": 9}),
    Row("one pod", 1, 0, [(1, 0)], {"batchSize": 5}),
    Row("one pod is the canary", 1, 0, [(1, 0)], {"canary": 1}),
    Row("no pods: nothing to do", 0, 0, []),
    Row("no pods by percentage: nothing to do", 0, 0, [], {"batchSize": "50%", "canary": 1}),
]

UPDATES = [
    Row("every batch replaces as many as it makes", 10, 10, [(5, 5), (5, 5)], {"batchSize": 5}),
    Row("all at once", 10, 10, [(10, 10)]),
    Row("the last batch replaces the rest", 10, 10, [(4, 4), (4, 4), (2, 2)], {"batchSize": 4}),
    Row("canary, then the batches", 10, 10, [(1, 1), (4, 4), (4, 4), (1, 1)], {"batchSize": 4, "canary": 1}),
    Row("one pod is made before one goes", 1, 1, [(1, 1)], {"batchSize": 1}),
    Row("what is updated already is left alone", 10, 10, [(2, 2), (2, 2)], {"batchSize": 2}, updated=6),
    Row("all updated already: nothing to do", 4, 4, [], {"batchSize": 2}, updated=4),
    Row(
        "up: pods are made first, old ones go when there are enough",
        10,
        5,
        [(4, 0), (4, 3), (2, 2)],
        {"batchSize": 4},
    ),
    Row("up in one batch", 10, 5, [(10, 5)]),
    Row("up from nothing", 4, 0, [(2, 0), (2, 0)], {"batchSize": 2}),
    Row("up, with the canary", 6, 4, [(1, 0), (3, 2), (2, 2)], {"batchSize": 3, "canary": 1}),
    Row("down: more old pods go than new ones come", 5, 10, [(2, 7), (2, 2), (1, 1)], {"batchSize": 2}),
    Row("down in one batch", 5, 10, [(5, 10)]),
    Row("down to one", 1, 4, [(1, 4)], {"batchSize": 3}),
    Row("down to nothing: pods only go", 0, 5, [(0, 2), (0, 2), (0, 1)], {"batchSize": 2}),
    Row("down to nothing by percentage: of all there are", 0, 3, [(0, 2), (0, 1)], {"batchSize": "50%"}),
    Row("down among updated pods: pods only go", 4, 10, [(0, 3), (0, 3)], {"batchSize": 3}, updated=10),
    Row("only going, there is no canary", 2, 4, [(0, 2)], {"canary": 1}, updated=4),
]


@pytest.mark.parametrize("row", CREATES, ids=lambda row: row.says)
def test_a_create_makes(row: Row) -> None:
    made = planned(row.wanted, action="create", **row.strategy)
    assert [(batch.surge, batch.retire) for batch in made.batches] == row.batches


@pytest.mark.parametrize("row", UPDATES, ids=lambda row: row.says)
def test_an_update_makes_and_removes(row: Row) -> None:
    made = planned(row.wanted, there=row.there, updated=row.updated, **row.strategy)
    assert [(batch.surge, batch.retire) for batch in made.batches] == row.batches


def test_the_pods_to_process_are_those_that_will_be_made() -> None:
    assert planned(10, there=10, batchSize=3).to_process == 10
    assert planned(10, there=10, updated=4, batchSize=3).to_process == 6
    assert planned(0, there=5, batchSize=3).to_process == 5


def test_batches_are_numbered_from_one_and_only_the_first_is_a_canary() -> None:
    made = planned(7, there=7, batchSize=3, canary=1)
    assert [(batch.number, batch.canary) for batch in made.batches] == [(1, True), (2, False), (3, False)]


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("more", [0, 6])
@pytest.mark.parametrize("action", ["create", "update", "rollback"])
def test_a_canary_that_covers_the_release_is_a_canary(action: str, more: int, replicas: int) -> None:
    there = 0 if action == "create" else replicas
    made = planned(replicas, there=there, action=action, canary=replicas + more, mode="auto")
    assert [(batch.surge, batch.canary) for batch in made.batches] == [(replicas, True)]
    assert made.batches[0].gates == ("Smoked", "Baking")
    assert made.warnings == ()


def test_where_pods_are_only_removed_there_is_no_canary() -> None:
    made = planned(2, there=4, updated=4, canary=1)
    assert [(batch.retire, batch.canary, batch.gates) for batch in made.batches] == [(2, False, ())]


@pytest.mark.parametrize(
    ("strategy", "gates"),
    [
        ({"mode": "auto"}, [(), (), ()]),
        ({"mode": "manual"}, [(), ("Start",), ("Start",)]),
        ({"mode": "auto", "canary": 2}, [("Smoked", "Baking"), ("Start",), ()]),
        ({"mode": "manual", "canary": 2}, [("Smoked", "Baking"), ("Start",), ("Start",)]),
        ({"mode": "auto", "canary": 9}, [("Smoked", "Baking"), ("Start",), ()]),
    ],
    ids=[
        "auto",
        "manual",
        "auto with canary",
        "manual with canary",
        "auto with a canary that covers the release",
    ],
)
def test_the_plan_shows_where_approval_is_needed(strategy: dict[str, Any], gates: list[Any]) -> None:
    made = planned(6, there=6, batchSize=2, **strategy)
    assert [batch.gates for batch in made.batches] == gates


@pytest.mark.parametrize(
    ("to_process", "canary", "size", "count"),
    [(0, 0, 5, 0), (1, 0, 5, 1), (5, 0, 5, 1), (6, 0, 5, 2), (10, 1, 5, 3), (11, 1, 5, 3), (12, 1, 5, 4)],
)
def test_the_count_of_batches(to_process: int, canary: int, size: int, count: int) -> None:
    assert count_batches(to_process, canary, size) == count


@pytest.mark.parametrize(
    ("requested", "to_make", "canary"),
    [(0, 5, 0), (1, 5, 1), (4, 5, 4), (5, 5, 2), (9, 5, 2), (1, 1, 1), (1, 0, 0), (1, -2, 0)],
)
def test_a_canary_that_covers_all_has_the_batch_size(requested: int, to_make: int, canary: int) -> None:
    assert size_canary(requested, to_make, size=2) == canary


def test_no_old_pod_goes_while_there_are_fewer_than_wanted() -> None:
    assert count_retired(10, Counts(updated=0, others=5), surge=4) == 0
    assert count_retired(10, Counts(updated=4, others=5), surge=4) == 3
    assert count_retired(2, Counts(updated=0, others=1), surge=9) == 1  # never more than there are


COUNTS = st.integers(min_value=0, max_value=60)


@given(wanted=COUNTS, updated=COUNTS, others=COUNTS, size=st.integers(min_value=1, max_value=70))
@settings(derandomize=True, deadline=None, database=None, max_examples=300)
def test_every_plan_arrives_and_never_has_too_few_pods(
    wanted: int, updated: int, others: int, size: int
) -> None:
    counts = Counts(updated, others)
    enough = min(wanted, sum(counts))
    expected = count_batches(count_remaining(wanted, counts), 0, size)
    steps = 0
    while count_remaining(wanted, counts):
        surge, retire = size_next_batch(wanted, counts, size)
        assert surge + retire > 0
        assert surge <= size
        counts = counts_after(counts, surge, retire)
        assert min(counts) >= 0
        assert sum(counts) >= enough
        steps += 1
        assert steps <= expected
    assert counts == Counts(updated=wanted, others=0)
    assert steps == expected
