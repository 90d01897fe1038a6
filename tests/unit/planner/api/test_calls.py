"""What a call comes to, whatever the protocol."""

from __future__ import annotations

from typing import Any

import pytest

from services.planner.api.access import Caller
from services.planner.api.calls import Request, etag
from services.planner.api.problem import Kind, Problem
from services.planner.state import Flow, Instance, Strategy, dump
from shared.commands import CommandType
from shared.deployflow import DeployFlowSpec, FlowPhase
from shared.errors import Unavailable
from shared.kubernetes import DEPLOYFLOWS
from tests.unit.planner.api.surroundings import World

ANN = Caller("ann")
RUNS = {"phase": "BatchStarted", "finished": False, "startedAt": "2026-01-02T03:04:05Z"}
SPEC = DeployFlowSpec.model_validate(
    {
        "action": "update",
        "application": {
            "appID": 1,
            "groupID": 2,
            "appName": "hello",
            "instanceName": "web",
            "template": {"spec": {"containers": [{"name": "main", "image": "web:2"}]}},
        },
    }
)


async def refused(call: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        await call
    return caught.value


async def test_a_namespace_that_nobody_looks_after_is_refused_by_name() -> None:
    calls = World(namespaces=["pay", "ship"]).calls
    problem = await refused(calls.deploy(Request(ANN), "shop", SPEC))
    assert (problem.kind, problem.reason) == (Kind.NOT_FOUND, "NotLookedAfter")
    assert "this Triton looks after pay, ship" in str(problem)


async def test_a_second_release_is_a_conflict_unless_it_may_wait_or_takes_over() -> None:
    world = World()
    world.flow("web-one", status=RUNS)
    problem = await refused(world.calls.deploy(Request(ANN), "shop", SPEC))
    assert problem.kind == Kind.CONFLICT
    assert "web-one is releasing web (BatchStarted)" in str(problem)
    waits = await world.calls.deploy(Request(ANN), "shop", SPEC, queue=True)
    assert waits["status"]["phase"] == "Pending"

    paused = World()
    paused.flow("web-one", status={**RUNS, "paused": True})
    made = await paused.calls.deploy(Request(ANN), "shop", SPEC)
    assert made["metadata"]["annotations"]["apps.triton.io/requested-by"] == "ann"


async def test_the_same_request_again_is_done_once_and_others_are_others() -> None:
    world = World()
    first = await world.calls.deploy(Request(ANN, "tuesday"), "shop", SPEC)
    again = await world.calls.deploy(Request(ANN, "tuesday"), "shop", SPEC)
    assert first["metadata"]["name"] == again["metadata"]["name"]
    other = await world.calls.deploy(Request(Caller("bob"), "tuesday"), "shop", SPEC, queue=True)
    assert other["metadata"]["name"] != first["metadata"]["name"]


async def test_who_has_seen_another_state_changes_nothing() -> None:
    world = World()
    world.flow("web-one", status=RUNS)
    seen = etag(await world.calls.flow(ANN, "shop", "web-one"))
    await world.calls.command(Request(ANN, match=seen), "shop", "web-one", CommandType.PAUSE)
    problem = await refused(
        world.calls.command(Request(ANN, match=seen), "shop", "web-one", CommandType.CANCEL)
    )
    assert problem.kind == Kind.CHANGED
    strategy = world.cluster.objects[DEPLOYFLOWS, "shop", "web-one"]["spec"]["updateStrategy"]
    assert strategy["paused"]
    assert not strategy.get("canceled")


class States:
    """Redis, with one instance, until it goes away."""

    def __init__(self, state: bytes) -> None:
        self._state = state
        self.away = False

    async def states(self, keys: list[Any]) -> list[bytes | None]:
        if self.away:
            msg = "Redis does not answer"
            raise Unavailable(msg)
        return [self._state for _ in keys]


async def test_what_redis_has_is_shown_and_without_redis_what_the_resource_says() -> None:
    uid = World().flow("web-one")["metadata"]["uid"]
    flow = Flow("web-one", uid, "update", 1, 2, "hello", 3, Strategy(), phase=FlowPhase.BATCH_FINISHED)
    store = States(dump(Instance("shop", "web", version=7, active=flow)))
    world = World(store=store)
    world.flow("web-one", status={**RUNS, "version": 6})
    assert (await world.calls.flow(ANN, "shop", "web-one"))["status"]["phase"] == "BatchFinished"
    store.away = True
    assert (await world.calls.flow(ANN, "shop", "web-one"))["status"]["phase"] == "BatchStarted"
