"""Facts of a release that come again when only its `.status` says that it is finished; losses of Redis and Kafka."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast
from unittest.mock import AsyncMock

import msgspec
import pytest

from services.planner.model.stored_state import load
from services.planner.rules.freeze_hold import NO_WINDOWS
from services.planner.runtime.flow_cache import DeployFlow, observed
from services.planner.runtime.instance_processor import InstanceProcessor
from shared.domain.json_types import Json
from shared.domain.messages import TOPIC_OF, CloneSetFacts, Done, Due, Message
from shared.domain.record import Record
from shared.domain.topics import DEPLOYFLOW_EVENTS, Key
from shared.errors import Fault, Unavailable, Unpublishable
from shared.kube.clonesets import facts_of
from shared.status_store import Stored
from tests.system.releases import deployflow


class Parts:
    """A store that has lost everything, and a cache with one DeployFlow; what is written is counted."""

    def __init__(self, flow: DeployFlow, *managed: str) -> None:
        self._flow = flow
        self._managed = managed
        self.commits = 0
        self.refuses = ""
        """A word; messages that have it are too large for Kafka."""
        self.sent: list[tuple[str, bytes]] = []
        self.latest: Any = None

    async def load(self, key: object) -> None:
        return None

    async def commit(self, key: object, **fields: Any) -> bool:
        self.commits += 1
        self.latest = load(fields["state"])
        return True

    async def published(self, key: object, version: int) -> None:
        return None

    async def send(self, records: Sequence[tuple[str, str, bytes]]) -> None:
        refused = [place for place, (_, _, value) in enumerate(records) if self.refuses.encode() in value]
        refused = refused if self.refuses else []
        self.sent += [
            (topic, value) for place, (topic, _, value) in enumerate(records) if place not in refused
        ]
        if refused:
            raise Unpublishable(dict.fromkeys(refused, Fault("TooLarge", "its message has 9 bytes of 8")))

    def manages(self, namespace: str) -> bool:
        return not self._managed or namespace in self._managed

    def get(self, namespace: str, name: str) -> DeployFlow:
        return self._flow

    def of_instance(self, key: object) -> list[Any]:
        return [observed(self._flow)]

    def predecessors(self, key: object) -> list[Any]:
        return []

    async def application(self, namespace: str, name: str) -> dict[str, Any]:
        return cast("dict[str, Any]", self._flow.spec["application"])


def _flow(**status: Any) -> DeployFlow:
    meta = {"namespace": "default", "uid": "1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    body = deployflow("web-1", "web", action="create")
    return msgspec.convert({**body, "metadata": {**body["metadata"], **meta}, "status": status}, DeployFlow)


@pytest.mark.parametrize(("status", "begins"), [({}, True), ({"finished": True, "version": 9}, False)])
async def test_a_release_that_is_finished_does_not_begin_again(status: dict[str, Any], begins: bool) -> None:
    parts: Any = Parts(_flow(**status))
    await _observe(parts)
    assert bool(parts.commits) is begins


async def test_nothing_is_decided_in_a_namespace_that_this_triton_does_not_manage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts: Any = Parts(_flow(), "pay", "ship")
    await _observe(parts)
    assert parts.commits == 0
    assert "NotLookedAfter" in caplog.text


async def test_a_command_that_kafka_refuses_fails_its_release_and_says_why() -> None:
    parts: Any = Parts(_flow())
    parts.refuses = '"type":"observe"'
    await _observe(parts)
    (ended,) = parts.latest.finished
    assert (ended.phase, ended.reason) == ("Failed", "TooLarge")
    assert "its message has 9 bytes of 8" in ended.message
    assert parts.sent
    assert {topic for topic, _ in parts.sent} == {DEPLOYFLOW_EVENTS}


class Redis:
    """The status store, of one instance."""

    def __init__(self) -> None:
        self.stored: Stored | None = None

    async def load(self, key: object) -> Stored | None:
        return self.stored

    async def commit(self, key: object, *, expected: int, version: int, **fields: Any) -> bool:
        if (self.stored.version if self.stored else 0) != expected:
            return False
        self.stored = Stored(version, fields["state"], fields["outbox"])
        return True

    async def published(self, key: object, version: int) -> None:
        assert self.stored is not None
        self.stored = self.stored._replace(outbox=b"")


class Broker:
    """Kafka, which may be away."""

    def __init__(self) -> None:
        self.away = False
        self.sent: list[Json] = []

    async def send(self, records: Sequence[tuple[str, str, bytes]]) -> None:
        if self.away:
            raise Unavailable("Kafka is away")
        self.sent += [json.loads(value) for _, _, value in records]

    @property
    def commands(self) -> list[tuple[int, str]]:
        return [(one["sequence"], one["type"]) for one in self.sent if "sequence" in one]


@pytest.mark.parametrize("left", ["nothing", "an older copy"])
async def test_a_release_goes_on_where_it_was_when_redis_loses_it(left: str) -> None:
    redis, kafka = Redis(), Broker()
    instances = _instances(cast("Any", Parts(_flow())), redis, kafka)
    await _handle(instances, observed(_flow()))
    older = redis.stored
    await _handle(instances, _done(kafka, facts_of(None)))
    before = redis.stored
    assert older is not None and before is not None and before.version > older.version
    redis.stored = older if left == "an older copy" else None
    instances.doubt([Key("default", "web")])
    await _handle(instances, Due(namespace="default", instance="web"))
    assert redis.stored is not None and redis.stored.version >= before.version
    assert load(redis.stored.state).active == load(before.state).active
    assert [kind for _, kind in kafka.commands] == ["observe", "surge"]


async def test_what_kafka_did_not_take_is_published_though_nothing_changes_any_more() -> None:
    redis, kafka = Redis(), Broker()
    instances = _instances(cast("Any", Parts(_flow())), redis, kafka)
    kafka.away = True
    with pytest.raises(Unavailable):
        await _handle(instances, observed(_flow()))
    kafka.away = False
    await _handle(instances, observed(_flow()))
    assert [kind for _, kind in kafka.commands] == ["observe"]


def _done(kafka: Broker, cloneset: CloneSetFacts) -> Done:
    sequence, _ = kafka.commands[-1]
    return Done(namespace="default", instance="web", sequence=sequence, cloneset=cloneset)


async def _observe(parts: Any) -> None:
    """Process the DeployFlow as the watch has observed it."""
    await _handle(_instances(parts, parts, parts), observed(_flow()))


async def _handle(instances: InstanceProcessor, fact: Message) -> None:
    value = fact.model_dump_json().encode()
    topic = TOPIC_OF[type(fact)]
    await instances.handle("default/web", [Record(topic, "default/web", value, {}, 0, 0, 0)])


def _instances(parts: Any, redis: Any, kafka: Any) -> InstanceProcessor:
    return InstanceProcessor(
        redis,
        kafka,
        parts,
        lambda _: None,
        lambda _: NO_WINDOWS,
        lambda _: False,
        AsyncMock(),
        resend_seconds=10,
        finished_ttl_seconds=60,
    )
