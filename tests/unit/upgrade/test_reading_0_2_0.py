"""The planner of today goes on with what version 0.2.0 left in Redis, on Kafka and in `.status`."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from pydantic import BaseModel

from services.planner.decision.apply_facts import Fact, make_flow
from services.planner.decision.decide import decide
from services.planner.model.state import Instance
from services.planner.model.stored_state import dump, encode, load
from services.planner.recovery.rebuild import rebuild
from services.planner.rules.freeze_hold import NO_WINDOWS
from services.planner.runtime.flow_cache import FlowCache
from services.planner.runtime.instance_processor import InstanceProcessor
from shared.domain import messages as m
from shared.domain.deploy_commands import DeployCommand
from shared.domain.json_types import Json
from shared.domain.record import Record
from shared.domain.replies import DeployCommandReply
from shared.domain.topics import DEPLOYFLOW_EVENTS, Key
from shared.messaging.kafka import Kafka
from shared.status_store import StatusStore, Stored
from tests.simulation.cluster import INSTANCE, NAMESPACE
from tests.simulation.world import RESEND_MS

STORED = Path(__file__).parents[2] / "upgrade" / "0.2.0"
_LINES: list[Json] = [
    json.loads(line) for line in gzip.decompress((STORED / "histories.jsonl.gz").read_bytes()).splitlines()
]
HISTORIES: dict[str, list[Json]] = {
    name: list(lines) for name, lines in groupby(_LINES, key=lambda line: cast("str", line["history"]))
}
MESSAGES: list[Json] = [json.loads(line) for line in (STORED / "messages.jsonl").read_text().splitlines()]
KEY = Key(NAMESPACE, INSTANCE)
REQUESTS: dict[str, type[BaseModel]] = {
    "DeployCommand": DeployCommand,
    "DeployCommandReply": DeployCommandReply,
}
TEXTS = {"message", "warnings"}
"""What people read: the words may differ from version to version."""
SETS = {"leaving"}
ADDED_LATER = {
    "rejections",
    "retryAt",
    "rejected",
    "scaledTo",
    "standingBy",
    "rewriteDue",
    "guarded",
    "written",
    "bakingSince",
    "flaps",
    "lastCommand",
    "requestedVia",
    "requestedStrategy",
    "images",
}
"""Keys in Redis that version 0.2.0 does not know."""
DECIDED_AS_THEN = [
    name for name in HISTORIES if name not in {"scaled_by_somebody_else", "create_with_canary"}
]
"""Version 0.2.0 took in the count of somebody else at the next write only, and guarded no canary (decision 0023)."""
FINISHED_LATER = {"finishedAt", "removing"}
"""A batch whose old pods go with the surge of the next one is finished when they are gone, before 0.3.0 at once."""


def without_texts(value: Any) -> Any:
    """Return a JSON value as versions have it in common, its sets sorted."""
    if isinstance(value, dict):
        kept = {
            key: without_texts(item)
            for key, item in value.items()
            if key not in TEXTS | ADDED_LATER | FINISHED_LATER
        }
        if "kind" in kept and isinstance(kept.get("body"), str):
            kept["body"] = as_then(json.loads(kept["body"]))
        if ":warning:" in str(kept.get("id")):
            kept.pop("id")  # made from the text
        return {key: sorted(item) if key in SETS else item for key, item in kept.items()}
    return [without_texts(item) for item in value] if isinstance(value, list) else value


def as_then(command: Json) -> Json:
    """Return the command as version 0.2.0 has it: without the command after which its count was seen, without a count
    in a halt or a cancel, nor the revision that a cancel takes back.

    An observation in the middle of a release tries no template any more (decision 0022).
    """
    command.pop("acceptSequence", None)
    if command.get("type") in {"cancel", "halt"}:
        command.pop("acceptReplicas", None)
        command.pop("revision", None)
    if command.get("type") == "observe" and command["flow"]["batch"]:
        return {key: value for key, value in command.items() if key != "application"}
    return command


def as_json(instance: Instance) -> Any:
    return without_texts(json.loads(encode(instance)))


def stored(line: Json, name: str = "state") -> Instance:
    return load(base64.b64decode(line[name]))


def fact_of(line: Json) -> Fact:
    fact: Fact = m.ADAPTERS[line["topic"]].validate_json(line["fact"])
    return fact


def steps(history: list[Json]) -> Iterator[tuple[Instance, Json]]:
    """Yield the stored state before each fact, and the line of the fact."""
    before = Instance(namespace=NAMESPACE, name=INSTANCE)
    for line in history:
        yield before, line
        before = stored(line)


def _without_ends(events: list[Json]) -> list[Json]:
    return [event for event in events if event["reason"] != "BatchFinished"]


@pytest.mark.parametrize("name", DECIDED_AS_THEN)
def test_a_release_goes_on_from_the_stored_state_at_every_step(name: str) -> None:
    for number, (before, line) in enumerate(steps(HISTORIES[name])):
        decision = decide(before, [fact_of(line)], line["now"], resend_ms=RESEND_MS)
        where = f"{name}, fact {number}: {line['fact'][:60]}"
        commands = [
            [m.TOPIC_OF[type(one)], as_then(json.loads(one.model_dump_json()))] for one in decision.commands
        ]
        known = [[topic, as_then(json.loads(text))] for topic, text in line["commands"]]
        assert commands == known, where
        events = [without_texts(json.loads(one.model_dump_json())) for one in decision.events]
        events_before = [without_texts(json.loads(text)) for text in line["events"]]
        assert _without_ends(events) == _without_ends(events_before), where
        # a key that was added since is one more change of the state
        states = [{**as_json(one), "version": 0} for one in (decision.instance, stored(line))]
        assert states[0] == states[1], where


@pytest.mark.parametrize("name", DECIDED_AS_THEN)
def test_a_release_goes_on_to_its_end_from_the_middle(name: str) -> None:
    history = HISTORIES[name]
    middle = len(history) // 2
    instance = stored(history[middle])
    for line in history[middle + 1 :]:
        # every replica goes on from what Redis keeps
        instance = load(dump(decide(instance, [fact_of(line)], line["now"], resend_ms=RESEND_MS).instance))
    assert as_json(instance) == as_json(stored(history[-1]))
    assert instance.active is None


@pytest.mark.parametrize("name", HISTORIES)
def test_a_state_is_rebuilt_from_a_status_of_that_version(name: str) -> None:
    for line in HISTORIES[name]:
        specs = [m.SpecObserved.model_validate_json(text) for text in line["specs"]]
        rebuilt = rebuild(KEY, specs, make_flow, line["now"])
        # what is rebuilt continues with a version that was never used
        assert rebuilt.version in {0, max(stored(line, "rebuilt").version, line["now"])}
        states = [{**as_json(one), "version": 0} for one in (rebuilt, stored(line, "rebuilt"))]
        assert states[0] == states[1], line["fact"][:60]


@pytest.mark.parametrize("line", MESSAGES, ids=lambda line: line["type"])
def test_a_message_of_every_type_is_read_and_written_as_it_was(line: Json) -> None:
    text = json.dumps(line["payload"])
    read: BaseModel
    if (kind := REQUESTS.get(line["type"])) is not None:
        read = kind.model_validate_json(text)
    else:
        (topic,) = line["topics"]
        read = m.ADAPTERS[topic.removeprefix("triton.")].validate_json(text)
    assert json.loads(read.model_dump_json(exclude_unset=True)) == line["payload"]


class _Parts:
    """Stands for Redis with a state and an outbox of that version, for Kafka and for the DeployFlows."""

    def __init__(self, history: list[Json], at: int) -> None:
        line = history[at]
        self.specs = [m.SpecObserved.model_validate_json(text) for text in line["specs"]]
        outbox = [*line["commands"], *([DEPLOYFLOW_EVENTS, text] for text in line["events"])]
        state = base64.b64decode(line["state"])
        self.outbox = outbox
        self.redis = Stored(load(state).version, state, json.dumps(outbox).encode() if outbox else b"")
        self.sent: list[tuple[str, str, bytes]] = []

    async def load(self, _: Key) -> Stored:
        return self.redis

    async def published(self, *_: object) -> None:
        self.redis = self.redis._replace(outbox=b"")

    async def commit(self, _: Key, **fields: Any) -> bool:
        assert fields["expected"] == self.redis.version
        self.redis = Stored(fields["version"], fields["state"], fields["outbox"])
        return True

    async def send(self, records: list[tuple[str, str, bytes]]) -> None:
        self.sent += records

    def manages(self, _: str) -> bool:
        return True

    def get(self, *_: object) -> None:
        return None

    def of_instance(self, _: Key) -> list[m.SpecObserved]:
        return self.specs

    async def application(self, _: str, name: str) -> Json:
        found: Json = next(spec.spec["application"] for spec in self.specs if spec.flow.name == name)
        return found


async def test_a_planner_publishes_the_outbox_it_finds_and_goes_on_with_the_next_fact() -> None:
    history = HISTORIES["update_10_in_5"]
    at = next(
        number for number, line in enumerate(history) if line["commands"] and number > len(history) // 2
    )
    parts: Any = _Parts(history, at)
    processor = InstanceProcessor(
        cast("StatusStore", parts),
        cast("Kafka", parts),
        cast("FlowCache", parts),
        lambda _: None,
        lambda _: NO_WINDOWS,
        lambda _: False,
        AsyncMock(),
        resend_seconds=10,
        finished_ttl_seconds=60,
    )
    following = history[at + 1]
    record = Record(following["topic"], str(KEY), following["fact"].encode(), {}, 0, 0, 0)
    await processor.handle(str(KEY), [record])
    left = [(topic, str(KEY), text.encode()) for topic, text in parts.outbox]
    assert parts.sent[: len(left)] == left
    assert load(parts.redis.state).version == stored(following).version
