"""The end of a finished DeployFlow: its requester gets a reply, then the finalizer goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest

from services.planner.runtime import write_backoff
from services.planner.runtime.finalizer import Finalizer, terminal_reply
from services.planner.runtime.flow_cache import DeployFlow, FlowCache
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import ApiError, Client
from shared.messaging.kafka import Kafka
from shared.settings import Settings
from tests.unit.parts import MemoryKafka, until

ANNOTATED = {df.REPLY_TO: "paas.replies", df.REPLY_ID: "paas-1"}
ENDED = {
    "finished": True,
    "phase": "Failed",
    "reason": "SmokeFailed",
    "message": "1 of 1 pods of batch 1 failed",
    "finishedAt": "2026-01-01T00:00:09.000Z",
}
NOBODY: Json = {}
REPLY_WANTED = ENDED | {"replyTo": "paas.replies", "replyId": "paas-1"}


def flow(status: Json = ENDED, annotations: Json = NOBODY, *, made: str = "2026-01-01T00:00:00Z") -> Json:
    meta = {"name": "web-1", "namespace": "default", "uid": "u1", "resourceVersion": "1"}
    meta |= {"creationTimestamp": made}
    held = {"annotations": annotations, "finalizers": ["others.example/keep", df.FINALIZER]}
    return {
        "metadata": meta | held,
        "spec": {"application": {"instanceName": "web"}},
        "status": status,
    }


def read(body: Json) -> DeployFlow:
    return msgspec.convert(body, DeployFlow)


def test_the_end_is_answered_as_the_status_says_it() -> None:
    found = terminal_reply(read(flow(REPLY_WANTED)))
    assert found is not None
    assert (found.topic, found.at) == ("paas.replies", ENDED["finishedAt"])
    assert found.reply.model_dump(mode="json") == {
        "id": "paas-1",
        "result": "finished",
        "deployFlow": "web-1",
        "phase": "Failed",
        "reason": "SmokeFailed",
        "message": "1 of 1 pods of batch 1 failed",
    }


@pytest.mark.parametrize(
    "wanted",
    [{}, {"replyTo": "paas.replies"}, {"replyId": "1"}],
    ids=["no reply wanted", "no command", "no topic"],
)
def test_nothing_is_answered_where_nobody_waits(wanted: Json) -> None:
    assert terminal_reply(read(flow(ENDED | wanted))) is None


def test_annotations_get_no_answer_and_change_none() -> None:
    assert terminal_reply(read(flow(ENDED, ANNOTATED))) is None
    others = {df.REPLY_TO: "others.replies", df.REPLY_ID: "others-1"}
    found = terminal_reply(read(flow(REPLY_WANTED, others)))
    assert found is not None
    assert (found.topic, found.reply.id) == ("paas.replies", "paas-1")


class Surroundings:
    """Takes the place of the API server, with one DeployFlow that is over, and of Kafka."""

    def __init__(self, status: Json, annotations: Json = NOBODY, **more: str) -> None:
        self.live = flow(status, annotations, **more)
        self.away = False
        self.refuses: ApiError | None = None
        self.replies: list[tuple[str, str, Json, dict[str, str]]] = []
        self.patches: list[Json] = []
        self.settings = Settings()
        self.flows = FlowCache(cast("Client", self), MemoryKafka().kafka, self.settings)
        self.flows.attach(cast("Any", self))
        self.flows.reflector.put(self.live)

    def owns(self, key: str) -> bool:
        return True

    def cloud_event(self, *values: str) -> dict[str, str]:
        return dict(zip(("ce_id", "ce_type", "ce_subject", "ce_time"), values, strict=True))

    async def reply(self, topic: str, key: str, value: bytes, headers: dict[str, str]) -> None:
        if self.away:
            msg = "Kafka is away"
            raise Unavailable(msg)
        self.replies.append((topic, key, json.loads(value), headers))

    async def get(self, *_: object) -> Json:
        return self.live

    async def patch(self, _resource: object, _namespace: str, _name: str, body: Json) -> Json:
        if self.refuses is not None:
            raise self.refuses
        if body["metadata"]["resourceVersion"] != self.live["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "it has been modified")
        self.patches.append(body)
        self.live = {**self.live, "metadata": {**self.live["metadata"], **body["metadata"]}}
        return self.live

    @property
    def finalizers(self) -> list[str]:
        finalizers: list[str] = self.live["metadata"]["finalizers"]
        return finalizers

    def ends(self) -> Finalizer:
        return Finalizer(cast("Client", self), cast("Kafka", self), self.flows)

    async def until_looked(self, ends: Finalizer, condition: Callable[[], object]) -> None:
        looking = asyncio.create_task(ends.check_forever())
        try:
            await until(condition)
        finally:
            looking.cancel()


async def test_what_an_earlier_planner_left_is_found_and_answered_before_it_is_released() -> None:
    there = Surroundings(REPLY_WANTED)
    await there.until_looked(there.ends(), lambda: there.finalizers == ["others.example/keep"])
    ((topic, key, body, headers),) = there.replies
    assert (topic, key, body["phase"]) == ("paas.replies", "paas-1", "Failed")
    assert headers == {
        "ce_id": "paas-1:finished",
        "ce_type": "reply",
        "ce_subject": "paas-1",
        "ce_time": "2026-01-01T00:00:09.000Z",
        "correlation_id": "paas-1",
    }


async def test_while_kafka_is_away_nothing_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.planner.runtime.finalizer.CHECK_SECONDS", 0.01)
    monkeypatch.setattr(write_backoff, "FIRST_SECONDS", 0.01)
    there = Surroundings(REPLY_WANTED)
    there.away = True
    ends = there.ends()
    ends.begin(read(there.live))
    await ends.stop()
    assert (there.replies, there.patches) == ([], [])
    there.away = False
    await there.until_looked(ends, lambda: there.patches)
    assert len(there.replies) == 1


async def test_a_change_by_somebody_else_meanwhile_is_no_reason_to_answer_twice() -> None:
    there = Surroundings(REPLY_WANTED)
    ends = there.ends()
    ends.begin(read(flow(REPLY_WANTED)))
    there.live["metadata"]["resourceVersion"] = "2"
    await ends.stop()
    assert there.finalizers == ["others.example/keep"]
    assert len(there.replies) == 1


@pytest.mark.parametrize("code", [403, 409], ids=["refused", "conflict"])
async def test_an_end_that_is_refused_for_good_is_tried_again_with_a_growing_wait(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr("services.planner.runtime.finalizer.CHECK_SECONDS", 0.01)
    monkeypatch.setattr(write_backoff, "FIRST_SECONDS", 0.05)
    there = Surroundings(REPLY_WANTED)
    there.refuses = ApiError(code, "Denied", "denied by a policy")
    ends = there.ends()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await ends.check_forever()
    await ends.stop()
    # at 0, 0.05, 0.15, 0.35 and 0.75 s
    assert 2 <= len(there.replies) <= 5
    there.refuses = None
    await there.until_looked(ends, lambda: there.finalizers == ["others.example/keep"])


@pytest.mark.parametrize(
    ("status", "is_released"), [(ENDED, True), (REPLY_WANTED, False)], ids=["nobody", "somebody"]
)
async def test_a_planner_that_stops_leaves_what_somebody_waits_for_to_the_next(
    status: Json, is_released: bool
) -> None:
    there = Surroundings(status)
    ends = there.ends()
    ends.kafka_stopped()
    ends.begin(read(there.live))
    await ends.stop()
    assert (df.FINALIZER not in there.finalizers) == is_released
    assert there.replies == []


async def test_who_is_named_by_annotations_alone_gets_no_answer_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    there = Surroundings(ENDED, {df.REPLY_TO: "_schemas", df.REPLY_ID: "somebody-else-7"})
    await there.until_looked(there.ends(), lambda: there.finalizers == ["others.example/keep"])
    assert there.replies == []
    assert "no answer to 'somebody-else-7', which has finished (Failed): only annotations" in caplog.text


async def test_a_release_that_ends_as_soon_as_it_is_made_waits_for_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.planner.runtime.finalizer.CHECK_SECONDS", 0.01)
    monkeypatch.setattr(write_backoff, "FIRST_SECONDS", 0.01)
    there = Surroundings(ENDED, ANNOTATED, made=datetime.now(UTC).isoformat(timespec="seconds"))
    ends = there.ends()
    ends.begin(read(there.live))
    await ends.stop()
    assert (there.replies, there.patches) == ([], [])
    there.live = {**there.live, "status": REPLY_WANTED}
    there.live["metadata"]["resourceVersion"] = "2"
    there.flows.reflector.put(there.live)
    await there.until_looked(ends, lambda: there.patches)
    assert [(topic, key) for topic, key, *_ in there.replies] == [("paas.replies", "paas-1")]


async def test_an_answer_that_is_not_allowed_any_more_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    there = Surroundings(REPLY_WANTED | {"replyTo": "paas.orders"})
    await there.until_looked(there.ends(), lambda: there.finalizers == ["others.example/keep"])
    assert there.replies == []
    assert "no answer to paas-1: this Triton answers only on *.replies, not on paas.orders" in caplog.text
    assert '"result":"finished","deployFlow":"web-1","phase":"Failed"' in caplog.text
