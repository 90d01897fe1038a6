"""Events of Kubernetes are written beside the releases: late, once, few, and never at their cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.planner.runtime import event_recorder
from services.planner.runtime.event_recorder import MOST_WAITING, EventRecorder
from shared.domain.json_types import Json
from shared.domain.messages import FlowRef
from shared.errors import Unavailable
from shared.kube.client import EVENTS, ApiError, Resource
from tests.unit.planner.views.test_kubernetes_events import flow_event

FORBIDDEN = ApiError(
    403, "Forbidden", 'User "planner" cannot create resource "events" in the namespace "shop"'
)
TERMINATING = ApiError(
    403, "Forbidden", "unable to create new content in namespace shop because it is being terminated"
)
EXISTS = ApiError(409, "AlreadyExists", "events exists already")


class Server:
    """Answers with `answers`, one after the other, then accepts."""

    def __init__(self) -> None:
        self.answers: list[Exception] = []
        self.requests = 0
        self.made: dict[str, Json] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        assert (resource, namespace) == (EVENTS, "shop")
        await self.gate.wait()
        self.requests += 1
        if self.answers:
            raise self.answers.pop(0)
        name = body["metadata"]["name"]
        if name in self.made:
            raise EXISTS
        self.made[name] = body
        return body

    @property
    def reasons(self) -> list[str]:
        return [body["reason"] for body in self.made.values()]


@pytest.fixture
def server() -> Server:
    return Server()


@asynccontextmanager
async def running(server: Any, step_seconds: float = 60) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(server, step_seconds=step_seconds)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def count(result: str) -> float:
    return REGISTRY.get_sample_value("triton_kubernetes_events_total", {"result": result}) or 0.0


async def test_steps_are_left_out_where_the_release_ends_at_once(server: Server) -> None:
    async with running(server) as recorder:
        for reason in ("Received", "Planned", "BatchStarted", "BatchFinished", "Success"):
            recorder.note(flow_event(reason, reason))
        await until(lambda: bool(server.made))
    assert server.reasons == ["Deployed"]
    assert server.requests == 1


async def test_a_step_is_written_before_a_person_is_awaited(server: Server) -> None:
    async with running(server) as recorder:
        for reason in ("Planned", "BatchFinished", "WaitingForNext", "GoAhead", "BatchSmokeFailed"):
            recorder.note(flow_event(reason, reason))
        await until(lambda: len(server.made) == 4)
    assert server.reasons == ["BatchFinished", "WaitingForNext", "GoAhead", "Unhealthy"]


async def test_a_step_is_written_when_nothing_follows_it(server: Server) -> None:
    async with running(server, step_seconds=0.05) as recorder:
        recorder.note(flow_event("Planned", "plan"))
        await until(lambda: bool(server.made))
        recorder.note(flow_event("BatchFinished", "batch:1:finished"))
        await until(lambda: len(server.made) == 2)
    assert server.reasons == ["Planned", "BatchFinished"]


async def test_an_event_that_is_published_twice_exists_once(server: Server) -> None:
    written, dropped = count("written"), count("dropped")
    for _ in range(2):
        # as by two planners, one after the other
        async with running(server) as recorder:
            recorder.note(flow_event())
            await until(lambda: not recorder._queue)
            await until(lambda: server.requests > 0)
    await until(lambda: count("written") == written + 2)
    assert (server.reasons, count("dropped")) == (["Deployed"], dropped)


@pytest.mark.parametrize("refusal", [TERMINATING, ApiError(404, "NotFound", "no such namespace")])
async def test_a_namespace_that_goes_takes_none_and_nobody_is_troubled(
    server: Server, refusal: ApiError, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [refusal]
    async with running(server) as recorder:
        recorder.note(flow_event())
        recorder.note(flow_event("Failed", "phase:Failed"))
        await until(lambda: bool(server.made))
    assert (server.reasons, server.requests, caplog.text) == (["Failed"], 2, "")


async def test_without_the_right_it_says_so_once_and_does_not_ask_again_at_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [FORBIDDEN] * 3
    dropped = count("dropped")
    async with running(server) as recorder:
        for number in range(3):
            recorder.note(flow_event(key=str(number)))
        await until(lambda: count("dropped") == dropped + 3)
    assert server.requests == 1
    assert caplog.text.count("give the planner the rights of deploy/rbac") == 1


async def test_a_server_that_does_not_answer_is_asked_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_recorder, "wait_after", lambda _: 0.0)
    server.answers = [Unavailable("no answer")] * 2
    async with running(server) as recorder:
        recorder.note(flow_event())
        await until(lambda: bool(server.made))
    assert server.requests == 3


async def test_a_slow_server_costs_the_oldest_events_and_no_memory(server: Server) -> None:
    server.gate.clear()
    dropped = count("dropped")
    async with running(server) as recorder:
        for number in range(MOST_WAITING + 100):
            recorder.note(flow_event(key=str(number)))
        assert len(recorder._queue) == MOST_WAITING
        assert count("dropped") == dropped + 100


async def test_a_release_that_changes_all_the_time_takes_no_event_from_others(server: Server) -> None:
    server.gate.clear()
    other = flow_event("BatchSmokeFailed", "other")
    other = other.model_copy(update={"flow": FlowRef(name="other", uid="uid-2")})
    async with running(server) as recorder:
        recorder.note(flow_event("SpecChanged", "first"))
        recorder.note(other)
        for number in range(MOST_WAITING + 100):
            recorder.note(flow_event("SpecChanged", str(number)))
        server.gate.set()
        await until(lambda: "Unhealthy" in server.reasons)


async def test_what_waits_is_written_when_the_planner_stops(server: Server) -> None:
    recorder: Any = EventRecorder(server)  # type: ignore[arg-type]
    recorder.note(flow_event("Planned", "plan"))
    await recorder.stop()
    assert server.reasons == ["Planned"]
    server.gate.clear()
    recorder.note(flow_event())
    async with asyncio.timeout(event_recorder.STOP_SECONDS + 2):
        await recorder.stop()
