"""Every call of the gRPC API that answers once, through a channel, as a client sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client import REGISTRY

from services.planner.api import access
from services.planner.api.grpc_server import start
from services.planner.api.problem import Kind, Problem
from services.planner.api.protos import application_pb2 as app
from services.planner.api.protos import (
    application_pb2_grpc,
    deployflow_pb2_grpc,
    pod_pb2_grpc,
    releases_v2_pb2_grpc,
)
from services.planner.api.protos import deployflow_pb2 as df
from services.planner.api.protos import pod_pb2 as pod
from services.planner.api.protos import releases_v2_pb2 as v2
from shared.domain.deployflow import LAST_STEP_BY, REQUESTED_BY
from shared.domain.json_types import Json
from shared.kube.client import DEPLOYFLOWS
from tests.unit.parts import until
from tests.unit.planner.api.surroundings import Named, World, batch, served

NEVER = "0001-01-01T00:00:00Z"
WEB: Json = {"namespace": "shop", "name": "web"}
RELEASE: Json = {"namespace": "shop", "name": "web-aaaaa"}
GONE: Json = {"namespace": "shop", "name": "gone"}
SUCCESS: Json = {"phase": "Success", "finished": True}


def stubs(channel: grpc.aio.Channel) -> Any:
    return SimpleNamespace(
        flows=deployflow_pb2_grpc.DeployFlowStub(channel),
        applications=application_pb2_grpc.ApplicationStub(channel),
        pods=pod_pb2_grpc.PodStub(channel),
        health=health_pb2_grpc.HealthStub(channel),
        releases=releases_v2_pb2_grpc.ReleasesStub(channel),
    )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def api(world: World) -> AsyncGenerator[Any]:
    async with served(world) as channel:
        yield stubs(channel)


async def refused(call: Awaitable[Any]) -> tuple[StatusCode, str, str]:
    """Code, reason and words."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    trailing = dict(error.value.trailing_metadata() or ())
    return error.value.code(), str(trailing.get("triton-reason", "")), error.value.details() or ""


def shown(message: Any) -> Any:
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def strategy_of(world: World, name: str = "web-aaaaa") -> Any:
    spec = world.cluster.objects[DEPLOYFLOWS, "shop", name]["spec"]
    return spec.get("updateStrategy") or spec.get("nonUpdateStrategy")


async def test_a_release_with_all_that_is_known_of_it(world: World, api: Any) -> None:
    gate = {"name": "p1", "ip": "10.0.0.1", "port": 80, "phase": "Ready", "pullInStatus": "PullInSucceeded"}
    world.flow(
        "web-aaaaa",
        mode="auto",
        canary=1,
        batchSize="50%",
        batchIntervalSeconds=10,
        startupTimeoutSeconds=30,
        pullOutSeconds=5,
        status={
            "phase": "BatchStarted",
            "batches": 2,
            "finishedBatches": 1,
            "finishedReplicas": 1,
            "failedReplicas": 2,
            "availableReplicas": 3,
            "updatedReplicas": 1,
            "updatedReadyReplicas": 1,
            "updateRevision": "web-6b7",
            "startedAt": "2026-01-02T03:04:05.678Z",
            "updatedAt": "2026-01-02T03:04:06Z",
            "requestedBy": "ci",
            "requestedByClaimed": True,
            "requestedVia": "kafka",
            "lastCommand": {"command": "next", "requestedBy": "oncall", "requestedVia": "cli"},
            "conditions": [
                batch(1, "Baked", canary=True, pods=[gate], startedAt="2026-01-02T03:04:05Z", pulledInAt=None)
            ],
        },
    )
    reply = await api.flows.Get(df.DeployMetaRequest(deploy=RELEASE))
    assert shown(reply) == {
        "deploy": {
            "namespace": "shop",
            "name": "web-aaaaa",
            "appID": 12122,
            "groupID": 10010,
            "appName": "hello",
            "instanceName": "web",
            "replicas": 3,
            "action": "update",
            "availableReplicas": 3,
            "updatedReplicas": 1,
            "updatedReadyReplicas": 1,
            "updateRevision": "6b7",
            "conditions": [
                {
                    "batch": 1,
                    "batchSize": 1,
                    "canary": True,
                    "phase": "Baked",
                    "failedReplicas": 0,
                    "pods": [gate],
                    "startedAt": "2026-01-02T03:04:05Z",
                    "finishedAt": NEVER,
                }
            ],
            "paused": False,
            "phase": "BatchStarted",
            "finished": False,
            "batches": 2,
            "batchSize": 2,
            "finishedBatches": 1,
            "finishedReplicas": 1,
            "failedReplicas": 2,
            "startedAt": "2026-01-02T03:04:05Z",
            "finishedAt": NEVER,
            "mode": "auto",
            "batchIntervalSeconds": 10,
            "timeoutSeconds": 30,
            "gracefulPeriodSeconds": 5,
            "canary": 1,
            "updatedAt": "2026-01-02T03:04:06Z",
            "requestedBy": "ci",
            "requestedByClaimed": True,
            "requestedVia": "kafka",
            "lastCommand": {
                "command": "next",
                "requestedBy": "oncall",
                "requestedByClaimed": False,
                "requestedVia": "cli",
            },
        }
    }


async def test_what_is_not_known_of_a_release_is_a_zero_value(world: World, api: Any) -> None:
    world.flow("web-aaaaa", action="restart")
    deploy = (await api.flows.Get(df.DeployMetaRequest(deploy=RELEASE))).deploy
    assert deploy.startedAt.seconds == deploy.finishedAt.seconds == deploy.updatedAt.seconds == -62135596800
    assert (deploy.phase, deploy.mode, deploy.batchSize, deploy.timeoutSeconds) == (
        "Pending",
        "manual",
        3,
        0,
    )
    assert (deploy.batches, deploy.canary, deploy.updateRevision, list(deploy.conditions)) == (0, 0, "", [])


async def test_lists_come_in_pages_and_filtered(world: World, api: Any) -> None:
    for number in range(12):
        name = f"web-{number:05}"
        world.flow(name, action="restart" if number == 3 else "update", status={**SUCCESS})
        world.says(
            name, updatedAt=f"2026-01-02T03:{number:02}:00Z", startedAt=f"2026-01-02T03:{number:02}:00Z"
        )

    async def names(**fields: Any) -> list[str]:
        reply = await api.flows.Gets(df.DeploysRequest(filter=fields))
        return [deploy.name[-2:] for deploy in reply.deploys]

    assert await names() == ["11", "10", "09", "08", "07", "06", "05", "04", "03", "02"]
    assert await names(start=10) == ["01", "00"]
    assert await names(start=1, pageSize=2) == ["10", "09"]
    assert await names(namespace="shop", instanceName="web", action="restart") == ["03"]
    assert await names(instanceName="other") == await names(namespace="other") == []
    assert await names(after={"seconds": 1767323400}) == ["11", "10"]
    assert len(await names(after={"seconds": -62135596800})) == 10
    assert len((await api.flows.Gets(df.DeploysRequest())).deploys) == 10


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"start": -1}, "filter.start"),
        ({"pageSize": -1}, "filter.pageSize"),
        ({"namespace": "../x"}, "filter.namespace"),
        ({"instanceName": "a,b=c"}, "filter.instanceName"),
        ({"after": {"seconds": 2**60}}, "filter.after"),
        ({"after": {"nanos": -1}}, "filter.after"),
    ],
)
async def test_a_filter_that_means_nothing(api: Any, fields: Json, field: str) -> None:
    code, reason, words = await refused(api.flows.Gets(df.DeploysRequest(filter=fields)))
    assert (code, reason) == (StatusCode.INVALID_ARGUMENT, "Invalid")
    assert words.startswith(f"{field}: ")


async def test_whole_numbers_are_shown_however_they_were_written(world: World, api: Any) -> None:
    """The API server takes 2.0 for an integer, and stores it so."""
    flow = world.flow("web-aaaaa", canary=1.0, batchSize=2.0, batchIntervalSeconds=-0.0)
    flow["spec"]["application"] |= {"replicas": 8.0, "appID": 7.0}
    world.flows.reflector.put(world.cluster.put(DEPLOYFLOWS, flow))
    deploy = (await api.flows.Get(df.DeployMetaRequest(deploy=RELEASE))).deploy
    assert (deploy.replicas, deploy.appID, deploy.batchSize, deploy.canary) == (8, 7, 2, 1)


async def test_next_lets_it_go_on_from_its_gate(world: World, api: Any) -> None:
    waiting = {"phase": "BatchStarted", "conditions": [batch(1, "Smoked", canary=True)]}
    world.flow("web-aaaaa", canary=1, status=waiting)
    reply = await api.flows.Next(df.NextRequest(deploy=RELEASE), metadata=(("x-requested-by", "operator"),))
    assert reply.deploy.name == "web-aaaaa"
    assert strategy_of(world) == {"canary": 1, "batches": 1, "stage": "Baking"}
    annotations = world.cluster.objects[DEPLOYFLOWS, "shop", "web-aaaaa"]["metadata"]["annotations"]
    assert annotations[LAST_STEP_BY] == "operator"


async def test_one_idempotency_key_is_one_step(world: World, api: Any) -> None:
    world.flow("web-aaaaa", status={"conditions": [batch(1, "Baked")], "finishedBatches": 1})
    for _ in range(2):
        await api.flows.Next(df.NextRequest(deploy=RELEASE), metadata=(("idempotency-key", "k"),))
        assert strategy_of(world)["batches"] == 2
        world.says("web-aaaaa", conditions=[batch(2, "Baked")], finishedBatches=2)


async def test_continue_lets_it_go_as_far_as_said(world: World, api: Any) -> None:
    world.flow("web-aaaaa", status={"conditions": [batch(1, "Baked")]})
    await api.flows.Continue(df.ContinueRequest(deploy=RELEASE, target={"batches": 3, "stage": "Smoked"}))
    assert strategy_of(world) == {"batches": 3, "stage": "Smoked"}


async def test_what_can_not_be_done_now_is_a_failed_precondition(world: World, api: Any) -> None:
    world.flow("web-aaaaa", status={"conditions": [batch(1, "Smoking")]})
    assert (await refused(api.flows.Next(df.NextRequest(deploy=RELEASE))))[:2] == (
        StatusCode.FAILED_PRECONDITION,
        "NotWaiting",
    )
    assert (await refused(api.flows.Delete(df.DeployMetaRequest(deploy=RELEASE))))[:2] == (
        StatusCode.FAILED_PRECONDITION,
        "InProgress",
    )
    world.says("web-aaaaa", **SUCCESS)
    about = df.DeployMetaRequest(deploy=RELEASE)
    continuing = df.ContinueRequest(deploy=RELEASE, target={"batches": 2})
    for call in (
        api.flows.Next(df.NextRequest(deploy=RELEASE)),
        api.flows.Continue(continuing),
        *(method(about).read() for method in (api.flows.Pause, api.flows.Resume, api.flows.Cancel)),
    ):
        assert (await refused(call))[:2] == (StatusCode.FAILED_PRECONDITION, "Finished")


@pytest.mark.parametrize(
    "request_fields",
    [
        {},
        {"target": {"stage": "Nowhere"}},
        {"target": {"stage": "Smoking"}},
        {"target": {"batches": -1}},
    ],
)
async def test_continue_needs_a_target_that_there_is(world: World, api: Any, request_fields: Json) -> None:
    world.flow("web-aaaaa")
    code, _, words = await refused(api.flows.Continue(df.ContinueRequest(deploy=RELEASE, **request_fields)))
    assert code == StatusCode.INVALID_ARGUMENT
    assert words.startswith("target")


async def test_continue_with_an_empty_target_changes_nothing(world: World, api: Any) -> None:
    before = world.flow("web-aaaaa", status={"conditions": [batch(1, "Smoked", canary=True)]}, canary=1)
    empty = df.ContinueRequest(deploy=RELEASE, target={})
    assert (await api.flows.Continue(empty)).deploy.name == "web-aaaaa"
    assert world.cluster.objects[DEPLOYFLOWS, "shop", "web-aaaaa"] == before
    world.says("web-aaaaa", **SUCCESS)
    code, reason, _ = await refused(api.flows.Continue(empty))
    assert (code, reason) == (StatusCode.FAILED_PRECONDITION, "Finished")


async def test_next_of_a_release_that_goes_on_by_itself_changes_nothing(world: World, api: Any) -> None:
    before = world.flow("web-aaaaa", mode="auto", status={"conditions": [batch(2, "Smoking")]})
    assert (await api.flows.Next(df.NextRequest(deploy=RELEASE))).deploy.name == "web-aaaaa"
    assert world.cluster.objects[DEPLOYFLOWS, "shop", "web-aaaaa"] == before


async def test_a_release_that_is_finished_can_be_deleted_and_is_gone_then(world: World, api: Any) -> None:
    world.flow("web-aaaaa", status=SUCCESS)
    assert await api.flows.Delete(df.DeployMetaRequest(deploy=RELEASE)) == df.EmptyReply()
    assert not world.cluster.objects
    # again, before the watch has reported it and after
    assert await api.flows.Delete(df.DeployMetaRequest(deploy=RELEASE)) == df.EmptyReply()
    world.gone("web-aaaaa")
    assert await api.flows.Delete(df.DeployMetaRequest(deploy=RELEASE)) == df.EmptyReply()


async def test_what_does_not_exist_is_not_found(api: Any) -> None:
    about = df.DeployMetaRequest(deploy=GONE)
    for call in (
        api.flows.Get(about),
        api.flows.Next(df.NextRequest(deploy=GONE)),
        api.flows.Pause(about).read(),
        api.flows.Watch(df.WatchRequest(deploy=GONE)).read(),
        api.applications.Get(app.InstanceMetaRequest(instance=GONE)),
        api.applications.Restart(app.RestartRequest(instance=GONE)),
        api.applications.Rollback(app.RollbackRequest(instance=GONE)),
        api.applications.Scale(app.ScaleRequest(instance=GONE, replicas=1)),
        api.pods.Get(pod.PodMetaRequest(pod=GONE)),
    ):
        assert (await refused(call))[0] == StatusCode.NOT_FOUND


async def test_a_name_is_needed_and_it_is_one(world: World, api: Any) -> None:
    world.flow("web-aaaaa")
    for meta, field in (
        ({}, "deploy.namespace"),
        ({"namespace": "shop"}, "deploy.name"),
        ({"namespace": "shop", "name": "../../web"}, "deploy.name"),
        ({"namespace": "shop/x", "name": "web"}, "deploy.namespace"),
    ):
        code, _, words = await refused(api.flows.Get(df.DeployMetaRequest(deploy=meta)))
        assert code == StatusCode.INVALID_ARGUMENT
        assert words.startswith(f"{field}: ")


async def test_an_instance_and_all_of_a_namespace(world: World, api: Any) -> None:
    world.cloneset()
    world.cloneset("api", updatedReadyReplicas=3)
    reply = await api.applications.Get(app.InstanceMetaRequest(instance=WEB))
    assert shown(reply.instance) == {
        **WEB,
        "availableReplicas": 2,
        "replicas": 3,
        "status": "InProgress",
        "appID": 12122,
        "groupID": 10010,
        "image": "nginx:latest",
        "cpu": "2",
        "memory": "1Gi",
        "requestCPU": "1",
        "requestMemory": "512Mi",
        "updateRevision": "6b7",
    }
    found = (await api.applications.Gets(app.GetsRequest(filter={"namespace": "shop"}))).instances
    assert [(each.name, each.status) for each in found] == [("api", "Ready"), ("web", "InProgress")]
    assert len((await api.applications.Gets(app.GetsRequest())).instances) == 2
    assert not (await api.applications.Gets(app.GetsRequest(filter={"namespace": "other"}))).instances


async def test_a_scale_of_named_pods(world: World, api: Any) -> None:
    world.flow("web-aaaaa", status=SUCCESS)
    world.cloneset()
    world.pod("web-zh98f")
    strategy = {"podsToDelete": ["web-zh98f"], "batchSize": "1", "batches": 1, "batchIntervalSeconds": 10}
    reply = await api.applications.Scale(app.ScaleRequest(instance=WEB, replicas=2, strategy=strategy))
    made = world.cluster.objects[DEPLOYFLOWS, "shop", reply.deployName]["spec"]
    assert made["action"] == "scale_in"
    assert made["nonUpdateStrategy"].items() >= {**strategy, "batchSize": 1}.items()


async def test_how_many_to_scale_to_has_to_be_said(world: World, api: Any) -> None:
    world.flow("web-aaaaa", status=SUCCESS)
    world.cloneset()
    code, _, words = await refused(api.applications.Scale(app.ScaleRequest(instance=WEB)))
    assert code == StatusCode.INVALID_ARGUMENT
    assert words.startswith("replicas: ")
    reply = await api.applications.Scale(app.ScaleRequest(instance=WEB, replicas=0))
    made = world.cluster.objects[DEPLOYFLOWS, "shop", reply.deployName]["spec"]
    assert made["application"]["replicas"] == 0


async def test_a_scale_to_the_present_count_makes_a_release_with_nothing_to_do(
    world: World, api: Any
) -> None:
    world.flow("web-aaaaa", status=SUCCESS)
    world.cloneset()
    reply = await api.applications.Scale(app.ScaleRequest(instance=WEB, replicas=3))
    made = world.cluster.objects[DEPLOYFLOWS, "shop", reply.deployName]["spec"]
    assert (made["action"], made["application"]["replicas"]) == ("scale_out", 3)


async def test_a_restart_with_nothing_set_takes_the_defaults(world: World, api: Any) -> None:
    world.flow("web-aaaaa", status=SUCCESS)
    world.cloneset()
    reply = await api.applications.Restart(app.RestartRequest(instance=WEB))
    made = world.cluster.objects[DEPLOYFLOWS, "shop", reply.deployName]["spec"]["nonUpdateStrategy"]
    assert made["mode"] == "manual"
    made = world.cluster.objects[DEPLOYFLOWS, "shop", reply.deployName]["spec"]
    assert made["action"] == "restart"
    assert "batchSize" not in made["nonUpdateStrategy"]
    running = await refused(api.applications.Restart(app.RestartRequest(instance=WEB)))
    assert running[:2] == (StatusCode.FAILED_PRECONDITION, "InProgress")


@pytest.mark.parametrize(
    "fields", [{"batchSize": "-1"}, {"batchSize": "x"}, {"batches": -1}, {"mode": "fast"}]
)
async def test_a_strategy_that_does_not_fit(world: World, api: Any, fields: Json) -> None:
    world.flow("web-aaaaa", status=SUCCESS)
    world.cloneset()
    code, _, words = await refused(
        api.applications.Restart(app.RestartRequest(instance=WEB, strategy=fields))
    )
    assert code == StatusCode.INVALID_ARGUMENT
    assert f"strategy.{next(iter(fields))}: " in words


async def test_a_rollback_says_where_it_goes(world: World, api: Any) -> None:
    world.flow("web-aaaaa", status=SUCCESS)
    world.cloneset()
    reply = await api.applications.Rollback(
        app.RollbackRequest(instance=WEB, deployName="web-aaaaa", strategy={"batchSize": "25%"})
    )
    assert reply.rollbackTo == "web-aaaaa"
    assert strategy_of(world, reply.deployName)["batchSize"] == "25%"
    code, _, words = await refused(
        api.applications.Rollback(app.RollbackRequest(instance=WEB, deployName="x"))
    )
    assert code == StatusCode.INVALID_ARGUMENT
    assert "deployName" in words


async def test_an_instance_is_deleted_by_a_release_and_gone_is_gone(world: World, api: Any) -> None:
    assert await api.applications.Delete(app.InstanceMetaRequest(instance=WEB)) == app.EmptyReply()
    world.flow("web-aaaaa", status=SUCCESS)
    world.cloneset()
    assert await api.applications.Delete(app.InstanceMetaRequest(instance=WEB)) == app.EmptyReply()
    assert [each["spec"]["action"] for each in await world.cluster.list(DEPLOYFLOWS)] == ["update", "delete"]


async def test_a_pod_and_those_that_fit(world: World, api: Any) -> None:
    world.pod("web-1")
    world.pod("web-2", ip="10.0.0.2")
    world.pod("foreign", ip="10.0.0.3", labels={"managed-by": "somebody"})
    reply = await api.pods.Get(pod.PodMetaRequest(pod={"namespace": "shop", "name": "web-1"}))
    assert shown(reply.pod) == {
        "namespace": "shop",
        "name": "web-1",
        "instanceName": "web",
        "image": "nginx:latest",
        "cpu": "0",
        "memory": "0",
        "guaranteedCPU": "0",
        "guaranteedMemory": "0",
        "publicNetwork": True,
        "containerName": "app",
        "podIP": "10.0.0.1",
        "status": "Running",
        "hostIP": "10.1.0.1",
        "updateRevision": "6b7",
        "creationTimestamp": "2026-01-02T03:04:05Z",
    }

    async def names(**fields: Any) -> list[str]:
        return [each.name for each in (await api.pods.Gets(pod.GetsRequest(filter=fields))).pods]

    assert await names() == await names(namespace="shop", instanceName="web") == ["web-1", "web-2"]
    assert await names(ip="10.0.0.2") == ["web-2"]
    assert await names(instanceName="api") == []
    foreign = pod.PodMetaRequest(pod={"namespace": "shop", "name": "foreign"})
    assert (await refused(api.pods.Get(foreign)))[0] == StatusCode.NOT_FOUND


async def test_who_has_no_token_is_nobody_and_who_has_no_right_learns_which() -> None:
    world = World(Named(access.GET))
    world.flow("web-aaaaa", status={"conditions": [batch(1, "Baked")], "finishedBatches": 1})
    about = df.DeployMetaRequest(deploy=RELEASE)
    async with served(world) as channel:
        api = stubs(channel)
        for call in (
            api.flows.Get(about),
            api.flows.Get(about, metadata=(("authorization", "Basic secret"),)),
        ):
            assert (await refused(call))[:2] == (StatusCode.UNAUTHENTICATED, "Unauthenticated")
        token = (("authorization", "Bearer secret"),)
        assert (await api.flows.Get(about, metadata=token)).deploy.name == "web-aaaaa"
        code, _, words = await refused(api.flows.Next(df.NextRequest(deploy=RELEASE), metadata=token))
        assert (code, words) == (StatusCode.PERMISSION_DENIED, "ada may not create")
        stream = api.flows.Watch(df.WatchRequest(deploy=RELEASE), metadata=token)
        assert (await refused(stream.read()))[0] == StatusCode.PERMISSION_DENIED
        # who asks for the health has no token
        assert (await api.health.Check(health_pb2.HealthCheckRequest())).status == 1


async def test_who_calls_too_often_learns_when_to_come_again(world: World) -> None:
    callers: list[str] = []

    class Limits:
        def take(self, who: str, now: float) -> None:
            callers.append(who)
            if len(callers) > 2:
                raise Problem(Kind.TOO_MANY, "TooManyRequests", "later", retry_after=1.5)

    async with served(world, limits=Limits()) as channel:
        api = stubs(channel)
        await api.flows.Gets(df.DeploysRequest())
        await api.flows.Gets(df.DeploysRequest(), metadata=(("x-requested-by", "operator"),))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await api.flows.Gets(df.DeploysRequest())
    assert error.value.code() == StatusCode.RESOURCE_EXHAUSTED
    assert dict(error.value.trailing_metadata() or ())["retry-after"] == "1.500"
    assert callers == ["127.0.0.1", "operator", "127.0.0.1"]


async def test_words_of_any_length_and_script_arrive(world: World, api: Any) -> None:
    world.flow("web-aaaaa", status=SUCCESS)
    world.cloneset()
    strange = app.RestartRequest(instance=WEB, strategy={"mode": "é" * 40_000})
    code, reason, words = await refused(api.applications.Restart(strange))
    assert (code, reason) == (StatusCode.INVALID_ARGUMENT, "Invalid")
    assert "éé" in words


async def test_the_health_is_that_of_the_planner(world: World) -> None:
    ready = [True]
    async with served(world, ready=lambda: ready[0]) as channel:
        health = stubs(channel).health
        kind = health_pb2.HealthCheckResponse.ServingStatus

        async def status(service: str) -> str:
            reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
            return kind.Name(reply.status)

        assert [await status(name) for name in ("", "pod.Pod", "triton.v2.Releases")] == ["SERVING"] * 3
        assert (await refused(status("other")))[0] == StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert kind.Name((await watch.read()).status) == "SERVING"
        ready[0] = False
        assert kind.Name((await watch.read()).status) == "NOT_SERVING"
        assert await status("deployflow.DeployFlow") == "NOT_SERVING"
        unknown = health.Watch(health_pb2.HealthCheckRequest(service="other"))
        assert kind.Name((await unknown.read()).status) == "SERVICE_UNKNOWN"


async def test_an_unexpected_error_is_reported_without_its_details(
    world: World, api: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("insides")

    def counted() -> float:
        labels = {"method": "deployflow.DeployFlow/Gets", "code": "INTERNAL"}
        return REGISTRY.get_sample_value("triton_grpc_requests_total", labels) or 0

    monkeypatch.setattr(world.calls.queries, "flows", broken)
    before = counted()
    code, _, words = await refused(api.flows.Gets(df.DeploysRequest()))
    # what is counted and logged may come after the answer
    await until(lambda: counted() == before + 1)
    assert code == StatusCode.INTERNAL
    assert "insides" not in words
    assert "insides" in caplog.text


async def test_a_port_has_one_server(world: World) -> None:
    server, port = await start(world.calls, host="127.0.0.1", port=0, body_bytes=1000)
    with pytest.raises(RuntimeError, match=str(port)):
        await start(world.calls, host="127.0.0.1", port=port, body_bytes=1000)
    await server.stop(0)


async def test_a_client_that_knows_nothing_asks_for_what_there_is(world: World) -> None:
    server, port = await start(world.calls, host="127.0.0.1", port=0, body_bytes=1000)

    def read() -> tuple[list[str], list[str]]:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            file = database.FindFileContainingSymbol("application.Application")
            return list(database.get_services()), [file.name, *file.dependency]

    services, files = await asyncio.to_thread(read)
    assert {"application.Application", "deployflow.DeployFlow", "pod.Pod", "triton.v2.Releases"} <= set(
        services
    )
    assert files == ["application.proto", "deployflow.proto"]
    await server.stop(0)


NEW: Json = {
    "namespace": "shop",
    "application": {
        "appID": 7,
        "groupID": 8,
        "appName": "web",
        "instanceName": "web",
        "replicas": 3,
        "template": {
            "spec": {
                "terminationGracePeriodSeconds": 30,
                "containers": [
                    {"name": "app", "image": "nginx:1", "ports": [{"containerPort": 80}], "tty": True}
                ],
            }
        },
    },
    "updateStrategy": {"batchSize": "25%", "canary": 1},
}


def new_release(**changed: Any) -> v2.NewRelease:
    return ParseDict({**NEW, **changed}, v2.NewRelease())


@pytest.mark.parametrize("action", ["create", "update"])
async def test_a_release_is_made_with_its_whole_template(world: World, api: Any, action: str) -> None:
    call = getattr(api.releases, action.title())
    metadata = (("idempotency-key", "k-1"), ("x-requested-by", "paas"))
    reply = await call(new_release(), metadata=metadata)
    assert (reply.deploy.action, reply.deploy.instanceName, reply.deploy.replicas) == (action, "web", 3)
    made = world.cluster.objects[DEPLOYFLOWS, "shop", reply.deploy.name]
    assert made["spec"] == {key: NEW[key] for key in ("application", "updateStrategy")} | {"action": action}
    assert made["metadata"]["annotations"][REQUESTED_BY] == "paas"
    again = await call(new_release(), metadata=metadata)
    assert again.deploy.name == reply.deploy.name
    code, reason, _ = await refused(call(new_release(name="web-again")))
    assert (code, reason) == (StatusCode.FAILED_PRECONDITION, "InProgress")
    assert (await call(new_release(name="web-again", queue=True, keep=True))).deploy.name == "web-again"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"namespace": ""}, "namespace: it is missing"),
        ({"namespace": "No"}, "namespace: "),
        ({"name": "No"}, "name: "),
        ({"application": {}}, "spec.application.appID: is missing"),
        ({"application": {**NEW["application"], "colour": "red"}}, "spec.application.colour: "),
        ({"application": {**NEW["application"], "appID": "7"}}, "spec.application.appID: "),
        ({"application": {**NEW["application"], "template": None}}, "template: "),
        ({"updateStrategy": {"batchSize": -1}}, "spec.updateStrategy.batchSize: "),
        ({"updateStrategy": {"canary": 1.5}}, "spec.updateStrategy.canary: "),
    ],
)
async def test_a_new_release_is_refused_by_the_field(
    world: World, api: Any, changed: Json, words: str
) -> None:
    code, reason, text = await refused(api.releases.Create(new_release(**changed)))
    assert (code, reason) == (StatusCode.INVALID_ARGUMENT, "Invalid")
    assert words in text
    assert not world.cluster.objects


async def test_a_new_release_needs_the_right_that_rest_needs() -> None:
    world = World(Named(access.GET))
    async with served(world) as channel:
        token = (("authorization", "Bearer secret"),)
        call = stubs(channel).releases.Create(new_release(), metadata=token)
        assert (await refused(call))[::2] == (StatusCode.PERMISSION_DENIED, "ada may not create")
        assert (await refused(stubs(channel).releases.Update(new_release())))[0] == StatusCode.UNAUTHENTICATED
    assert not world.cluster.objects
