"""next, continue, pause, resume and cancel take effect once, whoever else is at it."""

from __future__ import annotations

import copy

import pytest

from cli.connection import Cluster
from cli.control import act, command_for, place_of
from cli.exits import Failure
from cli.manifests import Document, apply
from shared.domain.deploy_commands import CommandType, Refusal, Target
from shared.domain.json_types import Json
from shared.domain.requesters import Origin
from shared.kube.client import ApiError, Resource


class ApiServer:
    """The few objects a test needs, with the real one's refusals of stale versions."""

    server = "http://test"

    def __init__(self, *objects: Json) -> None:
        self.objects = {each["metadata"]["name"]: each for each in objects}
        self.patches: list[Json] = []
        self.meanwhile: list[Json] = []
        """Changes that somebody else makes just before the next patches."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        if name not in self.objects:
            raise ApiError(404, "NotFound", f"{name} not found")
        return copy.deepcopy(self.objects[name])

    async def list(self, resource: Resource, namespace: str | None = None) -> list[Json]:
        return list(self.objects.values())

    async def list_page(self, resource: Resource, namespace: str | None, query: dict[str, str]) -> bytes:
        return b'{"resources": [{"name": "services", "kind": "Service", "namespaced": true}]}'

    async def create(self, resource: Resource, namespace: str | None, body: Json) -> Json:
        body["metadata"]["resourceVersion"] = "1"
        self.objects[body["metadata"]["name"]] = body
        return body

    async def patch(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        if self.meanwhile:
            _merge(self.objects[name], self.meanwhile.pop(0))
            _next_version(self.objects[name])
        version = body["metadata"].get("resourceVersion")
        if version not in {None, self.objects[name]["metadata"]["resourceVersion"]}:
            raise ApiError(409, "Conflict", "the object has been modified")
        before = copy.deepcopy(self.objects[name])
        _merge(self.objects[name], body)
        if self.objects[name] != before:
            _next_version(self.objects[name])
        self.patches.append(body)
        return copy.deepcopy(self.objects[name])


def _next_version(obj: Json) -> None:
    obj["metadata"]["resourceVersion"] = str(int(obj["metadata"]["resourceVersion"]) + 1)


def _merge(into: Json, patch: Json) -> None:
    for key, value in patch.items():
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _cluster(*objects: Json) -> tuple[Cluster, ApiServer]:
    server = ApiServer(*objects)
    return Cluster(server, "default"), server  # type: ignore[arg-type]


async def test_next_pulls_the_waiting_canary_in_and_says_who(flow: Json) -> None:
    cluster, server = _cluster(flow)
    said = await act(cluster, flow, command_for(flow, CommandType.NEXT, "deployer"))
    assert said == "7-web-bcdfg: batch 1 takes traffic"
    assert server.patches[0]["spec"] == {"updateStrategy": {"batches": 1, "stage": "Baking"}}
    assert server.patches[0]["metadata"]["annotations"]["apps.triton.io/last-step-by"] == "deployer"


async def test_next_pressed_by_two_at_once_advances_once(flow: Json) -> None:
    cluster, server = _cluster(copy.deepcopy(flow))
    pulled_in = {"phase": "Baking", "batch": 1, "batchSize": 1, "canary": True}
    server.meanwhile = [
        {
            "spec": {"updateStrategy": {"batches": 1, "stage": "Baking"}},
            "status": {"conditions": [pulled_in]},
        }
    ]
    batch, stage = place_of(flow)
    command = command_for(flow, CommandType.NEXT, "deployer", batch=batch, stage=stage)
    assert await act(cluster, flow, command) == "7-web-bcdfg: no effect, the release is past that already"
    assert server.patches == []


async def test_a_change_by_somebody_else_does_not_stop_a_pause(flow: Json) -> None:
    cluster, server = _cluster(copy.deepcopy(flow))
    server.meanwhile = [{"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": {"c": "d"}}}]
    said = await act(cluster, flow, command_for(flow, CommandType.PAUSE, "deployer"))
    assert said.startswith("7-web-bcdfg is paused")
    assert server.objects["7-web-bcdfg"]["spec"]["updateStrategy"]["paused"] is True


async def test_somebody_who_changes_it_all_the_time_is_reported(flow: Json) -> None:
    cluster, server = _cluster(copy.deepcopy(flow))
    server.meanwhile = [{"metadata": {"labels": {"n": str(n)}}} for n in range(20)]
    with pytest.raises(Failure, match="changed by others 10 times in the meantime: try again"):
        await act(cluster, flow, command_for(flow, CommandType.CANCEL, "deployer"))


async def test_continue_goes_to_the_batch_that_is_named(flow: Json) -> None:
    cluster, _ = _cluster(flow)
    command = command_for(flow, CommandType.CONTINUE, "deployer", target=Target(batches=3))
    assert await act(cluster, flow, command) == "7-web-bcdfg: approved up to batch 3"


async def test_a_finished_release_refuses(flow: Json) -> None:
    flow["status"] |= {"finished": True, "phase": "Success"}
    cluster, server = _cluster(flow)
    with pytest.raises(Refusal, match="has finished"):
        await act(cluster, flow, command_for(flow, CommandType.CANCEL, "deployer"))
    assert server.patches == []


async def test_apply_creates_changes_and_leaves_alone() -> None:
    cluster, _ = _cluster()
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": []}}

    async def applied() -> str:
        document = Document("file, document 1 (Service web)", copy.deepcopy(service))
        return await apply(cluster, document, namespace_explicit=False, requested_by="ann", origin=Origin())

    assert await applied() == "service/web created"
    assert await applied() == "service/web unchanged"
    service["spec"] = {"type": "ClusterIP"}
    assert await applied() == "service/web configured"


async def test_apply_names_a_kind_that_the_cluster_does_not_know() -> None:
    cluster, _ = _cluster()
    body = {"apiVersion": "v1", "kind": "Widget", "metadata": {"name": "a"}}
    with pytest.raises(Failure, match=r"file, document 1: the cluster knows no Widget of v1"):
        await apply(
            cluster,
            Document("file, document 1", body),
            namespace_explicit=False,
            requested_by="ann",
            origin=Origin(),
        )
