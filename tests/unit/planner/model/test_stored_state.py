"""States in Redis: written by the code before, read and gone on with; written so that this code can read them.

`stored_states.json` was recorded with Triton as it was before the states of a release excluded each other: a state
of a release under way, the next message, and the commands that were issued. It must never be recorded again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.planner.decision.decide import decide
from services.planner.model.state import Flow, Instance, Resync, StepCommand, Strategy
from services.planner.model.stored_state import dump, encode, load
from shared.domain import messages as m
from shared.domain.json_types import Json

STORED: list[Json] = json.loads((Path(__file__).parent / "stored_states.json").read_text())
TOPIC_OF = {kind.model_fields["type"].default: topic for kind, topic in m.TOPIC_OF.items()}


def _state(stored: Json) -> bytes:
    return json.dumps(stored["state"]).encode()


def _as_before(command: m.Command) -> Json:
    """Return the command as the code before has it, which leaves out after which command a count was seen, the count
    of a halt and a cancel, and what a cancel takes back.
    """
    later = {"accept_sequence", "revision"}
    if not isinstance(command, m.Scale):
        later.add("accept_replicas")
    return command.model_dump(mode="json", exclude=later)


def _flow(**fields: Any) -> Flow:
    return Flow("new", "uid-new", "update", 1, 1, "web", 2, Strategy(), **fields)


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored["state"]["active"]["step"])
def test_a_release_that_the_code_before_began_goes_on(stored: Json) -> None:
    fact = m.ADAPTERS[TOPIC_OF[stored["fact"]["type"]]].validate_python(stored["fact"])
    decision = decide(load(_state(stored)), [fact], stored["now"], resend_ms=stored["resendMs"])
    assert [_as_before(command) for command in decision.commands] == stored["commands"]


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored["state"]["active"]["step"])
def test_the_keys_in_redis_stay(stored: Json) -> None:
    """So the code before reads what this code writes: an upgrade can be taken back."""
    expected = json.loads(_state(stored))
    if expected["active"].get("issued"):
        # a release that had been halted and then ends: only the command that ends it counts
        expected["active"].pop("halted", None)
    if expected["active"]["strategy"].get("onFailure") == "pause":
        # the code before wrote this default, and reads it where it is left out
        expected["active"]["strategy"].pop("onFailure")
    assert json.loads(encode(load(_state(stored)))) == expected


@pytest.mark.parametrize("resync", Resync)
@pytest.mark.parametrize("step_command", StepCommand)
def test_every_state_survives_redis(step_command: StepCommand, resync: Resync) -> None:
    flow = _flow(step_command=step_command, resync=resync)
    instance = Instance("default", "web", active=flow, waiting=(flow,), finished=(flow, flow))
    assert load(dump(instance)) == instance
    assert load(encode(instance)) == instance


def test_a_state_that_says_nothing_writes_nothing() -> None:
    written = json.loads(encode(Instance("default", "web", active=_flow())))
    assert not written["active"].keys() & {"halted", "issued", "resync", "recount", "rebuilt", "stepCommand"}
