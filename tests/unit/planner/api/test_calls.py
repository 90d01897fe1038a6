"""What a call comes to, whatever the protocol."""

from __future__ import annotations

from typing import Any

import pytest

from services.planner.api.access import Caller
from services.planner.api.change_calls import ChangeRequest, etag
from services.planner.api.problem import Kind, Problem
from services.planner.model.state import Batch, Flow, Instance, Strategy
from services.planner.model.stored_state import dump
from shared.domain.deploy_commands import CommandType
from shared.domain.deployflow import BatchPhase, DeployFlowSpec, FlowPhase
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS
from shared.releases.specs import Wish
from tests.unit.planner.api.surroundings import World

DEPLOYER = Caller("deployer")
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
    problem = await refused(calls.releases.deploy(ChangeRequest(DEPLOYER), "shop", SPEC))
    assert (problem.kind, problem.reason) == (Kind.NOT_FOUND, "NotLookedAfter")
    assert "this Triton manages pay, ship" in str(problem)


async def test_a_second_release_is_a_conflict_unless_it_may_wait_or_takes_over() -> None:
    world = World()
    world.flow("web-one", status=RUNS)
    problem = await refused(world.calls.releases.deploy(ChangeRequest(DEPLOYER), "shop", SPEC))
    assert problem.kind == Kind.CONFLICT
    assert "web-one is releasing web (BatchStarted)" in str(problem)
    waits = await world.calls.releases.deploy(ChangeRequest(DEPLOYER), "shop", SPEC, queue=True)
    assert waits["status"]["phase"] == "Pending"

    paused = World()
    paused.flow("web-one", status={**RUNS, "paused": True})
    made = await paused.calls.releases.deploy(ChangeRequest(DEPLOYER), "shop", SPEC)
    assert made["metadata"]["annotations"]["apps.triton.io/requested-by"] == "deployer"


async def test_a_create_waits_for_the_deletion_of_the_instance() -> None:
    world = World()
    world.cloneset()
    world.flow("web-gone", action="delete", status=RUNS)
    application = SPEC.application.model_dump(mode="json", by_alias=True, exclude_unset=True)
    made = await world.calls.releases.release(ChangeRequest(DEPLOYER), "shop", application, None)
    assert (made["spec"]["action"], made["status"]["phase"]) == ("create", "Pending")
    world.says(made["metadata"]["name"], **RUNS)
    # the create runs now: another one does not wait for it
    problem = await refused(world.calls.releases.release(ChangeRequest(DEPLOYER), "shop", application, None))
    assert problem.kind == Kind.CONFLICT


async def test_what_needs_the_instance_does_not_wait_for_its_deletion() -> None:
    world = World()
    world.cloneset()
    world.flow("web-gone", action="delete", status=RUNS)
    for action in ("update", "restart"):
        spec = {"action": action, "application": SPEC.application.model_dump(exclude_unset=True)}
        wanted = DeployFlowSpec.model_validate(spec)
        problem = await refused(world.calls.releases.deploy(ChangeRequest(DEPLOYER), "shop", wanted))
        assert problem.reason == "InProgress"


async def test_the_same_request_again_is_done_once_and_others_are_others() -> None:
    world = World()
    first = await world.calls.releases.deploy(ChangeRequest(DEPLOYER, "tuesday"), "shop", SPEC)
    again = await world.calls.releases.deploy(ChangeRequest(DEPLOYER, "tuesday"), "shop", SPEC)
    assert first["metadata"]["name"] == again["metadata"]["name"]
    other = await world.calls.releases.deploy(
        ChangeRequest(Caller("operator"), "tuesday"), "shop", SPEC, queue=True
    )
    assert other["metadata"]["name"] != first["metadata"]["name"]


async def test_who_has_seen_another_state_changes_nothing() -> None:
    world = World()
    world.flow("web-one", status=RUNS)
    seen = etag(await world.calls.queries.flow(DEPLOYER, "shop", "web-one"))
    await world.calls.commands.command(
        ChangeRequest(DEPLOYER, match=seen), "shop", "web-one", CommandType.PAUSE
    )
    problem = await refused(
        world.calls.commands.command(
            ChangeRequest(DEPLOYER, match=seen), "shop", "web-one", CommandType.CANCEL
        )
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
    assert (await world.calls.queries.flow(DEPLOYER, "shop", "web-one"))["status"]["phase"] == "BatchFinished"
    store.away = True
    assert (await world.calls.queries.flow(DEPLOYER, "shop", "web-one"))["status"]["phase"] == "BatchStarted"


async def test_a_release_that_has_just_finished_is_what_an_update_starts_from() -> None:
    """The log has its end, and `.status` is written a moment later."""
    uid = World().flow("web-one")["metadata"]["uid"]
    flow = Flow("web-one", uid, "create", 1, 2, "hello", 3, Strategy(), phase=FlowPhase.SUCCESS)
    world = World(store=States(dump(Instance("shop", "web", version=7, finished=(flow,)))))
    world.cloneset()
    world.flow("web-one", status={**RUNS, "version": 6}, action="create")
    made = await world.calls.releases.update(ChangeRequest(DEPLOYER), "shop", "web", Wish("web:2"))
    assert made["spec"]["application"]["template"]["spec"]["containers"][0]["image"] == "web:2"


async def test_a_name_that_another_request_has_taken_is_not_answered_as_if_it_were_new() -> None:
    world = World()
    world.flow("web-nightly", status={**RUNS, "phase": "Success", "finished": True})
    problem = await refused(
        world.calls.releases.deploy(ChangeRequest(DEPLOYER), "shop", SPEC, name="web-nightly")
    )
    assert (problem.kind, problem.reason) == (Kind.CONFLICT, "AlreadyExists")


async def test_the_same_request_again_is_answered_though_another_release_runs_by_then() -> None:
    world = World()
    first = await world.calls.releases.deploy(ChangeRequest(DEPLOYER, "tuesday"), "shop", SPEC)
    name = first["metadata"]["name"]
    world.says(name, phase="Success", finished=True)
    world.flow("web-two", status=RUNS)
    again = await world.calls.releases.deploy(ChangeRequest(DEPLOYER, "tuesday"), "shop", SPEC)
    assert again["metadata"]["name"] == name


async def test_next_goes_by_what_callers_see_not_by_what_is_written_later() -> None:
    behind = {**RUNS, "version": 6, "conditions": [{"batch": 1, "batchSize": 1, "phase": "Smoking"}]}
    uid = World().flow("web-one")["metadata"]["uid"]
    batch = Batch(number=1, surge=1, canary=True, phase=BatchPhase.SMOKED)
    flow = Flow("web-one", uid, "update", 1, 2, "hello", 3, Strategy(canary=1), batches=(batch,))
    world = World(store=States(dump(Instance("shop", "web", version=7, active=flow))))
    world.flow("web-one", status=behind, canary=1)
    await world.calls.commands.command(ChangeRequest(DEPLOYER), "shop", "web-one", CommandType.NEXT)
    strategy = world.cluster.objects[DEPLOYFLOWS, "shop", "web-one"]["spec"]["updateStrategy"]
    assert (strategy["batches"], strategy["stage"]) == (1, "Baking")


async def test_a_rollback_requested_again_says_again_where_it_goes() -> None:
    world = World()
    world.cloneset()
    world.flow("web-one", status={**RUNS, "phase": "Success", "finished": True})
    other = world.flow("web-two", status={**RUNS, "phase": "Success", "finished": True, "startedAt": "2027"})
    other["spec"]["application"]["template"] = {"spec": {"containers": [{"name": "app", "image": "web:2"}]}}
    world.flows.reflector.put(world.cluster.put(DEPLOYFLOWS, other))
    first = await world.calls.releases.rollback(ChangeRequest(DEPLOYER, "back"), "shop", "web", None, None)
    again = await world.calls.releases.rollback(ChangeRequest(DEPLOYER, "back"), "shop", "web", None, None)
    assert first.back_to == again.back_to == "web-one"
    assert first.flow["metadata"]["annotations"]["apps.triton.io/keeps-replicas"] == "true"
    assert first.flow["metadata"]["name"] == again.flow["metadata"]["name"]
