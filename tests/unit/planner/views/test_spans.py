"""The planner's spans of a release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from msgspec.structs import replace

from services.planner.intake.command_consumer import CommandConsumer
from services.planner.intake.flow_mutations import FlowMutations
from services.planner.model.state import Instance
from services.planner.views import spans
from shared.domain.deploy_commands import CommandType, Refusal
from shared.domain.messages import FlowRef
from shared.domain.record import Record
from shared.domain.topics import DEPLOY_COMMANDS
from shared.errors import Poison
from shared.observability import tracing
from shared.observability.tracing import Place, Span
from tests.simulation.world import World
from tests.unit.events.samples import flow_event
from tests.unit.parts import MemoryKafka
from tests.unit.planner.releases import NEW, create, press_next, starting, update

UID = "8d0f0f4e-5f3a-4c43-9f0e-0d5d3a9a6f10"
SENDER = Place(0xABC, 0xDEF)


def spans_of(world: World) -> list[Span]:
    return [
        span
        for entry in world.history
        for span in spans.spans(entry.decision.instance, entry.decision.events)
    ]


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


@pytest.fixture
def heard() -> Iterator[list[Span]]:
    spans: list[Span] = []
    tracing._exporters.append(spans.append)
    yield spans
    tracing.stop()


def test_a_release_is_recorded_at_its_end_and_each_batch_at_its_own() -> None:
    world = update(4, batchSize=2, bakeSeconds=10, batchIntervalSeconds=30)
    world.run_until(lambda: world.flow(NEW).phase.finished)
    flow, spans = world.flow(NEW), spans_of(world)
    assert [span.name for span in spans] == ["request deploy", "batch", "batch", "update release"]
    request, first, second, root = spans
    assert root.at == tracing.release(flow.uid)
    assert root.parent is None
    assert (root.error, root.attributes["triton.phase"]) == ("", "Success")
    assert [span.parent for span in (request, first, second)] == [root.at] * 3
    assert [span.attributes["triton.batch"] for span in (first, second)] == [1, 2]
    assert root.start <= first.start < first.end < second.start < second.end <= root.end
    assert [name for name, _ in first.events] == ["surged", "smoked", "pulled in", "baked"]
    moments = [at for _, at in first.events]
    assert moments == sorted(moments)
    assert moments[3] - moments[2] == pytest.approx(10_000, abs=1000)


def test_a_person_that_lets_a_canary_go_on_is_seen() -> None:
    world = create(5, batchSize=2, canary=1)
    world.wait(600_000)
    press_next(world)
    (request,) = named(spans_of(world), "request next")
    assert request.start == request.end
    assert request.attributes["triton.batch"] == 1
    assert request.attributes["user.name"]
    world.steer(NEW, CommandType.PROMOTE)
    world.run_until(lambda: world.flow(NEW).phase.finished)
    (canary,) = named(spans_of(world), "canary")
    assert canary.end - canary.start >= 600_000


def test_a_batch_that_failed_is_reported_with_the_end_of_its_release_and_says_why() -> None:
    world = starting(4)
    world.fail()
    assert not named(spans_of(world), "batch")
    world.steer(NEW, CommandType.CANCEL)
    world.run_until(lambda: world.flow(NEW).phase.finished)
    (failed,) = named(spans_of(world), "batch")
    assert "CrashLoopBackOff" in failed.error
    (root,) = named(spans_of(world), "update release")
    assert (root.error, root.attributes["triton.phase"]) == ("", "Canceled")


@pytest.mark.parametrize(
    ("made", "began", "since"),
    [(5000, 5400, 5400), (5000, 9000, 5000), (5000, 0, 5000), (0, 5400, 5400), (0, 0, 7000)],
    ids=["at once", "after it has waited", "never", "made at a time not known", "nothing known"],
)
def test_a_release_that_has_waited_was_there_from_its_making_on(made: int, began: int, since: int) -> None:
    world = update(2)
    world.run_until(lambda: world.flow(NEW).phase.finished)
    flow = replace(world.flow(NEW), created_at=made, started_at=began)
    end = flow_event(at=7000, flow=FlowRef(name=NEW, uid=flow.uid), phase=flow.phase, reason=str(flow.phase))
    (root,) = spans.spans(Instance("shop", "web", finished=(flow,)), [end])
    assert (root.start, root.end) == (since, 7000)


class Made:
    """Takes the place of `Changes`: has made the DeployFlow, or refuses."""

    def __init__(self, refusal: Refusal | None = None) -> None:
        self._refusal = refusal

    async def carry_out(self, command: object, **_: object) -> dict[str, Any]:
        if self._refusal:
            raise self._refusal
        return {"metadata": {"name": "web-1", "uid": UID}}


async def ask(changes: Made, headers: dict[str, str]) -> None:
    command = {"id": "c-1", "type": "next", "namespace": "shop", "deployFlow": "web-1", "requestedBy": "ci"}
    record = Record(DEPLOY_COMMANDS, "shop/web", json.dumps(command).encode(), headers, 0, 0, 0)
    await CommandConsumer(cast("FlowMutations", changes), MemoryKafka().kafka).handle("shop/web", [record])


async def test_a_command_is_reported_in_its_senders_trace_and_in_the_releases(heard: list[Span]) -> None:
    await ask(Made(), {"traceparent": SENDER.traceparent})
    ours, senders = heard
    release = tracing.release(UID)
    assert (ours.name, ours.parent, ours.at.trace, ours.link) == (
        "next command",
        release,
        release.trace,
        SENDER,
    )
    assert (senders.parent, senders.at.trace, senders.link) == (SENDER, SENDER.trace, release)
    assert senders.attributes["triton.deployflow"] == "web-1"
    await ask(Made(), {"traceparent": SENDER.traceparent})
    assert [span.at for span in heard] == [ours.at, senders.at] * 2


async def test_the_command_of_a_sender_without_traces_is_reported_in_the_releases(heard: list[Span]) -> None:
    await ask(Made(), {"traceparent": "nonsense"})
    (ours,) = heard
    assert (ours.parent, ours.link) == (tracing.release(UID), None)


async def test_a_refused_command_is_reported_to_its_sender(heard: list[Span]) -> None:
    with pytest.raises(Poison):
        await ask(Made(Refusal("Finished", "it is over")), {"traceparent": SENDER.traceparent})
    (senders,) = heard
    assert (senders.parent, senders.link, senders.error) == (SENDER, None, "Finished: it is over")
