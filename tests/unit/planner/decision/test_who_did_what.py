"""Who requested a release and who sent each request to it are two things, in state, status, messages and log."""

from __future__ import annotations

from typing import Any

import msgspec

from services.events.flow_documents import flow_fact
from services.planner.decision.command_factory import observe
from services.planner.runtime.flow_cache import DeployFlow, observed
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType, DeployCommand, change, manifest, patch
from shared.domain.deployflow import DeployFlowSpec
from shared.domain.json_types import Json
from shared.domain.requesters import Origin, Via, show_requester
from tests.simulation.world import World

CI = Origin(Via.KAFKA, claimed=True)
ONCALL = Origin(Via.REST)
SPEC = DeployFlowSpec.model_validate(
    {
        "action": "update",
        "application": {
            "appID": 1,
            "groupID": 1,
            "appName": "web",
            "instanceName": "web",
            "replicas": 4,
            "template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}},
        },
        "updateStrategy": {"mode": "manual", "batchSize": 1},
    }
)


def made(requested_by: str = "ci", origin: Origin = CI) -> Json:
    body = manifest(
        SPEC, name="new", namespace="default", request_id="r1", requested_by=requested_by, origin=origin
    )
    body["metadata"] |= {
        "uid": "uid-new",
        "generation": 1,
        "creationTimestamp": "2026-11-01T00:00:00Z",
        "resourceVersion": "1",
    }
    return body


def changed(flow: Json, kind: CommandType, requested_by: str, origin: Origin, **fields: Any) -> Json:
    """Return the DeployFlow after a command, as the API server has it."""
    command = DeployCommand(id=f"r-{kind}", type=kind, namespace="default", deploy_flow="new", **fields)
    body = patch(
        flow,
        change(flow, command) or {},
        request_id=command.id,
        requested_by=requested_by,
        command=kind,
        origin=origin,
    )
    meta = flow["metadata"]
    annotations = meta["annotations"] | body["metadata"]["annotations"]
    strategy = flow["spec"]["updateStrategy"] | body["spec"]["updateStrategy"]
    return {
        **flow,
        "metadata": meta | {"annotations": annotations, "generation": meta["generation"] + 1},
        "spec": flow["spec"] | {"updateStrategy": strategy},
    }


def seen(flow: Json) -> m.SpecObserved:
    return observed(msgspec.convert(flow, DeployFlow))


def world_of(*flows: Json) -> World:
    world = World(4)
    for flow in flows:
        world.flows["new"] = {
            "metadata": {"generation": flow["metadata"]["generation"], "creationTimestamp": world.now},
            "spec": flow["spec"],
        }
        world.handle(seen(flow))
    return world


def only(world: World, reason: str) -> m.FlowEvent:
    (event,) = [one for one in world.events if one.reason == reason]
    return event


def test_a_step_does_not_take_the_place_of_who_requested_the_release() -> None:
    paused = changed(made(), CommandType.PAUSE, "oncall", ONCALL)
    world = world_of(made(), paused)
    status = world.status("new")
    by = (status["requestedBy"], status["requestedByClaimed"], status["requestedVia"])
    assert by == ("ci", True, "kafka")
    assert status["lastCommand"] == {
        "command": "pause",
        "requestedBy": "oncall",
        "requestedByClaimed": False,
        "requestedVia": "rest",
    }


def test_the_log_names_both() -> None:
    world = world_of(made(), changed(made(), CommandType.PAUSE, "oncall", ONCALL))
    assert only(world, "Paused").message == "oncall via rest paused the release"
    fields = flow_fact(only(world, "Paused")).fields
    assert (fields["user.name"], fields["triton.requested_via"]) == ("oncall", "rest")
    assert (fields["triton.release_requested_by"], fields["triton.release_requested_via"]) == ("ci", "kafka")
    received = flow_fact(only(world, "Received")).fields
    assert (received["user.name"], received["triton.release_requested_by"]) == ("ci", "ci")


def test_a_step_before_the_planner_sees_the_release_is_no_request_of_the_release() -> None:
    world = world_of(changed(made(), CommandType.PAUSE, "oncall", ONCALL))
    assert world.status("new")["requestedBy"] == "ci"
    assert world.status("new")["lastCommand"]["requestedBy"] == "oncall"
    assert only(world, "Received").requested_by == "ci"


def test_the_pods_of_a_step_know_who_approved_it_and_who_requested_the_release() -> None:
    world = world_of(made(), changed(made(), CommandType.PAUSE, "oncall", ONCALL))
    ref = observe(world.instance, 9).flow
    assert (ref.requested_by, ref.requested_via) == ("oncall", "rest")
    assert ref.release_requester == m.ReleaseRequester(name="ci", claimed=True, via="kafka")


def test_promote_is_recorded_as_promote() -> None:
    world = world_of(made(), changed(made(), CommandType.PROMOTE, "oncall", ONCALL))
    event = only(world, "GoAhead")
    assert event.command == "promote"
    assert event.message == "oncall via rest promoted the release: all its batches are approved"
    assert world.status("new")["lastCommand"]["command"] == "promote"


def test_an_edit_that_approves_everything_is_a_promote_too() -> None:
    promoted = changed(made(), CommandType.PROMOTE, "", Origin())
    promoted["metadata"]["annotations"] = made()["metadata"]["annotations"]
    event = only(world_of(made(), promoted), "GoAhead")
    assert (event.command, event.requested_by) == ("promote", "kubectl")


def test_continue_by_one_batch_is_recorded_as_continue() -> None:
    continued = changed(made(), CommandType.CONTINUE, "oncall", ONCALL, target={"batches": 2})
    assert only(world_of(made(), continued), "GoAhead").command == "continue"


def test_an_edit_after_a_step_is_by_kubectl() -> None:
    paused = changed(made(), CommandType.PAUSE, "oncall", ONCALL)
    edited = {
        **paused,
        "metadata": paused["metadata"] | {"generation": 3},
        "spec": made()["spec"],
    }
    status = world_of(made(), paused, edited).status("new")
    last = status["lastCommand"]
    assert (last["requestedBy"], last["requestedVia"]) == ("kubectl", "kubectl")
    assert status["requestedBy"] == "ci"


def test_a_call_without_a_name_is_not_by_kubectl() -> None:
    status = world_of(made("", Origin(Via.REST, claimed=True))).status("new")
    assert (status["requestedBy"], status["requestedVia"]) == ("", "rest")


def test_the_step_of_an_older_version_is_the_name_that_it_wrote() -> None:
    paused = changed(made(), CommandType.PAUSE, "oncall", ONCALL)
    resumed = changed(paused, CommandType.RESUME, "", Origin())
    meta = resumed["metadata"]
    old = {"apps.triton.io/last-request": "r9", "apps.triton.io/requested-by": "jane"}
    meta["annotations"] = paused["metadata"]["annotations"] | old
    status = world_of(made(), paused, resumed).status("new")
    assert status["lastCommand"]["requestedBy"] == "jane"
    assert status["requestedBy"] == "ci"


def test_a_requester_is_shown_with_the_way_of_the_request() -> None:
    assert show_requester("ci", claimed=True, via="kafka") == "ci (claimed) via kafka"
    assert show_requester("kubectl", claimed=False, via="kubectl") == "kubectl"
    assert show_requester("", claimed=True, via="rest") == "somebody via rest"
