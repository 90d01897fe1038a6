"""Recorded histories: what was decided then is decided now. How to record them again: see `record`."""

from __future__ import annotations

import json

import pytest

from services.planner.decision.apply_facts import Fact
from services.planner.decision.decide import decide
from services.planner.model.state import Instance
from services.planner.model.stored_state import dump, load
from shared.domain import messages as m
from shared.domain.json_types import Json
from shared.domain.topics import BATCH_RESULTS, PHASE_EVENTS, PLANNER_FACTS
from tests.simulation.cluster import INSTANCE, NAMESPACE
from tests.simulation.world import RESEND_MS
from tests.unit.planner.decision.record import GOLDEN, HISTORIES, as_json

NAMES = [history.__name__ for history in HISTORIES]
_TOPIC_OF = {
    kind.model_fields["type"].default: topic
    for kind, topic in m.TOPIC_OF.items()
    if topic in {PLANNER_FACTS, BATCH_RESULTS, PHASE_EVENTS}
}


def _history(name: str) -> list[Json]:
    entry: list[Json] = json.loads((GOLDEN / f"{name}.json").read_text())
    return entry


def _fact(body: Json) -> Fact:
    fact: Fact = m.ADAPTERS[_TOPIC_OF[body["type"]]].validate_python(body)
    return fact


def test_every_history_is_recorded_and_no_other_is_left_over() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_planner_decides_as_it_did(name: str) -> None:
    instance = Instance(namespace=NAMESPACE, name=INSTANCE)
    for number, entry in enumerate(_history(name)):
        decision = decide(instance, [_fact(entry["fact"])], entry["now"], resend_ms=RESEND_MS)
        where = f"{name}, fact {number}: {entry['fact']['type']}"
        assert [as_json(command) for command in decision.commands] == entry["commands"], where
        assert [as_json(event) for event in decision.events] == entry["events"], where
        # every replica goes on from what Redis keeps
        instance = load(dump(decision.instance))
    assert instance.active is None
    assert instance.waiting == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_history_handled_at_once_has_the_same_result(name: str) -> None:
    """Several facts that were waiting are decided on one after another."""
    instance = Instance(namespace=NAMESPACE, name=INSTANCE)
    history = _history(name)
    together: dict[int, list[Json]] = {}
    for entry in history:
        together.setdefault(entry["now"], []).append(entry)
    commands: list[Json] = []
    for now, batch in together.items():
        decision = decide(instance, [_fact(entry["fact"]) for entry in batch], now, resend_ms=RESEND_MS)
        instance = decision.instance
        commands += [as_json(command) for command in decision.commands]
    assert commands == [command for entry in history for command in entry["commands"]]
