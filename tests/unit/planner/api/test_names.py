"""What is no name is refused at the door of every road, before it gets into a request to the API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from pydantic import ValidationError

from services.planner.api.protos import application_pb2, deployflow_pb2, pod_pb2, releases_v2_pb2
from shared.domain.deploy_commands import DeployCommand
from shared.domain.json_types import Json
from shared.kube.client import CALLER, Resource
from tests.unit.planner.api.rest_surroundings import client_of
from tests.unit.planner.api.surroundings import TEMPLATE, Cluster, World, served

HOSTILE = ["x?watch=1", "?watch=1", "../pods/x", "..", "a,b!=c", "a=b", "a%2Fb", "a\nb", "A", "ä", "a" * 300]


class Watched(Cluster):
    """Writes down the names of requests, and for whom each is."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.callers: set[str] = set()

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        self.names += [namespace, name]
        self.callers.add(CALLER.get())
        return await super().get(resource, namespace, name)

    async def list(self, resource: Resource, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        self.names += [namespace or "", labels]
        self.callers.add(CALLER.get())
        return await super().list(resource, namespace, labels=labels)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("tests.unit.planner.api.surroundings.Cluster", Watched)
    world = World()
    world.flow("web-aaaaa", status={"phase": "Success", "finished": True})
    world.cloneset()
    return world


def named(world: World) -> list[str]:
    cluster = world.cluster
    assert isinstance(cluster, Watched)
    return cluster.names


def application(instance: object) -> Json:
    identity = {"appID": 12122, "groupID": 10010, "appName": "hello", "instanceName": instance}
    return {**identity, "replicas": 1, "template": TEMPLATE}


@pytest.mark.parametrize("name", [*HOSTILE, {"a": 1}, ["web"], None, 7])
async def test_a_release_of_rest_v1_names_its_instance_by_a_name(world: World, name: object) -> None:
    async with client_of(world, "/api/v1/namespaces/shop") as rest:
        answer = await rest.post("/deployflows", json={"applicationSpec": application(name)})
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == 7
    assert "instanceName" in answer.json()["msg"]
    assert named(world) == []


@pytest.mark.parametrize("name", HOSTILE)
async def test_rest_refuses_what_is_no_name_wherever_it_is_sent(world: World, name: str) -> None:
    async with client_of(world, "/api/v1/namespaces/shop") as v1:
        old = [
            await v1.post("/instances/web/rollbacks", json={"deployName": name}),
            await v1.get("/deployflows", params={"instanceName": name}),
        ]
    async with client_of(world) as v2:
        new = [
            await v2.post("/instances/web/rollbacks", json={"deployName": name}),
            await v2.get("/deployflows", params={"instanceName": name}),
            await v2.post(
                "/deployflows",
                json={
                    "name": name,
                    "spec": {"action": "create", "application": application("web")},
                },
            ),
        ]
    assert [answer.status_code for answer in old] == [400] * len(old)
    assert [answer.status_code for answer in new] == [400] * len(new)
    assert named(world) == []


def _of(name: str) -> dict[str, str]:
    return {"namespace": "shop", "name": name}


CALLS: dict[str, Callable[[str], Any]] = {
    "deployflow.DeployFlow/Get": lambda name: deployflow_pb2.DeployMetaRequest(deploy=_of(name)),
    "deployflow.DeployFlow/Delete": lambda name: deployflow_pb2.DeployMetaRequest(deploy=_of(name)),
    "deployflow.DeployFlow/Gets": lambda name: deployflow_pb2.DeploysRequest(filter={"instanceName": name}),
    "application.Application/Get": lambda name: application_pb2.InstanceMetaRequest(instance=_of(name)),
    "application.Application/Gets": lambda name: application_pb2.GetsRequest(filter={"namespace": name}),
    "application.Application/Restart": lambda name: application_pb2.RestartRequest(instance=_of(name)),
    "application.Application/Rollback": lambda name: application_pb2.RollbackRequest(
        instance=_of("web"), deployName=name
    ),
    "pod.Pod/Get": lambda name: pod_pb2.PodMetaRequest(pod=_of(name)),
    "pod.Pod/Gets": lambda name: pod_pb2.GetsRequest(filter={"namespace": "shop", "instanceName": name}),
    "triton.v2.Releases/Create": lambda name: releases_v2_pb2.NewRelease(
        namespace="shop", application=application(name)
    ),
    "triton.v2.Releases/Update": lambda name: releases_v2_pb2.NewRelease(
        namespace="shop", name=name, application=application("web")
    ),
}


@pytest.mark.parametrize("method", list(CALLS))
async def test_grpc_refuses_what_is_no_name_wherever_it_is_sent(world: World, method: str) -> None:
    async with served(world) as channel:
        call: Any = channel.unary_unary(f"/{method}")
        for name in HOSTILE:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(CALLS[method](name).SerializeToString(), timeout=10)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT, name
    assert named(world) == []


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    ("kind", "field"), [("rollback", "instanceName"), ("pause", "instanceName"), ("pause", "deployFlow")]
)
def test_a_command_of_kafka_names_by_names(kind: str, field: str, name: str) -> None:
    with pytest.raises(ValidationError, match=field):
        DeployCommand.model_validate({"id": "1", "type": kind, "namespace": "shop", field: name})


def test_a_command_may_leave_the_instance_empty_as_before() -> None:
    command = {"id": "1", "type": "pause", "namespace": "shop", "deployFlow": "web-1", "instanceName": ""}
    assert DeployCommand.model_validate(command).instance_name == ""


async def test_what_is_requested_of_kubernetes_counts_as_the_callers(world: World) -> None:
    async with client_of(world) as rest:
        answer = await rest.get("/instances", headers={"X-Requested-By": "ada"})
        assert answer.status_code == 200
        await rest.get("/instances/web")
    async with served(world) as channel:
        call: Any = channel.unary_unary("/application.Application/Get")
        await call(application_pb2.InstanceMetaRequest(instance=_of("web")).SerializeToString())
    assert isinstance(world.cluster, Watched)
    assert world.cluster.callers == {"ada", "127.0.0.1"}
