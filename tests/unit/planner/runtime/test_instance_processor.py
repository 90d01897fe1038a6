"""Facts of a release that come again when only its `.status` says that it is finished."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from unittest.mock import AsyncMock

import msgspec
import pytest

from services.planner.model.stored_state import load
from services.planner.rules.freeze_hold import NO_WINDOWS
from services.planner.runtime.flow_cache import DeployFlow, FlowCache, observed
from services.planner.runtime.instance_processor import InstanceProcessor
from shared.domain.record import Record
from shared.domain.topics import DEPLOYFLOW_EVENTS, PLANNER_FACTS
from shared.errors import Fault, Unpublishable
from shared.messaging.kafka import Kafka
from shared.status_store import StatusStore
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


async def _observe(parts: Any) -> None:
    """Process the DeployFlow as the watch has observed it."""
    instances = InstanceProcessor(
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
    value = observed(_flow()).model_dump_json().encode()
    await instances.handle("default/web", [Record(PLANNER_FACTS, "default/web", value, {}, 0, 0, 0)])
