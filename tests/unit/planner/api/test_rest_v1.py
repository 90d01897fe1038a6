"""What programs written for the first version of the API rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from shared.kube.client import DEPLOYFLOWS
from tests.unit.planner.api.rest_surroundings import client_of
from tests.unit.planner.api.surroundings import World, batch

NEVER = "0001-01-01T00:00:00Z"
FLOW_KEYS = [
    "name",
    "appID",
    "groupID",
    "namespace",
    "appName",
    "instanceName",
    "replicas",
    "action",
    "mode",
    "availableReplicas",
    "updatedReplicas",
    "updatedReadyReplicas",
    "updateRevision",
    "conditions",
    "paused",
    "phase",
    "finished",
    "batches",
    "finishedBatches",
    "finishedReplicas",
    "failedReplicas",
    "startedAt",
    "finishedAt",
    "updatedAt",
]
BATCH_KEYS = [
    "batch",
    "batchSize",
    "canary",
    "phase",
    "failedReplicas",
    "pods",
    "startedAt",
    "pulledInAt",
    "finishedAt",
]
POD_KEYS = ["name", "ip", "port", "phase", "pullInStatus"]
INSTANCE_KEYS = [
    "name",
    "namespace",
    "availableReplicas",
    "replicas",
    "status",
    "appID",
    "groupID",
    "image",
    "cpu",
    "memory",
    "guaranteedCPU",
    "guaranteedMemory",
    "publicNetwork",
    "updateRevision",
]
TUTORIAL: dict[str, Any] = {
    "applicationSpec": {
        "appID": 12122,
        "groupID": 10010,
        "appName": "deploy-demo-hello",
        "instanceName": "12122-sample-10010",
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "12122-sample-10010-container",
                        "image": "nginx:latest",
                        # misplaced, as in the tutorial
                        "readinessGates": [{"conditionType": "apps.triton.io/ready"}],
                        "ports": [{"containerPort": 80}],
                    }
                ]
            }
        },
        "replicas": 3,
    },
    "updateStrategy": {"batchSize": 1, "canary": 1, "mode": "auto"},
}
NEW = {"applicationSpec": {**TUTORIAL["applicationSpec"], "instanceName": "web"}}


@pytest.fixture
def world() -> World:
    return World()


@pytest_asyncio.fixture
async def rest(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world, "/api/v1/namespaces/shop") as client:
        yield client


def data(answer: httpx.Response, status: int = 200) -> Any:
    """Of a success, in the envelope of which nothing is missing and nothing extra."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"code", "data", "msg"}
    assert body["code"] == 0
    return body["data"]


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"code", "data", "msg"}
    assert body["code"] != 0
    return str(body["msg"])


async def test_a_release_has_every_key_and_none_more_from_its_first_moment_on(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.flow("web-1", canary=1)
    flow = data(await rest.get("/deployflows/web-1"))
    assert set(flow) == set(FLOW_KEYS)
    assert (flow["phase"], flow["finished"], flow["mode"], flow["conditions"]) == (
        "Pending",
        False,
        "manual",
        [],
    )
    assert (flow["replicas"], flow["availableReplicas"], flow["updateRevision"]) == (3, 0, "")
    assert {flow["startedAt"], flow["finishedAt"], flow["updatedAt"]} == {NEVER}


async def test_batches_and_pods_have_every_key_and_times_in_whole_seconds(
    world: World, rest: httpx.AsyncClient
) -> None:
    pod = {"name": "web-a", "ip": "10.0.0.1", "port": 80, "phase": "Ready", "uid": "u", "log": "no more"}
    started = batch(1, "Baking", canary=True, pods=[pod], startedAt="2026-01-02T03:04:05.678Z")
    world.flow(
        "web-1", status={"phase": "BatchStarted", "updateRevision": "web-6b7", "conditions": [started]}
    )
    flow = data(await rest.get("/deployflows/web-1"))
    (condition,) = flow["conditions"]
    assert set(condition) == set(BATCH_KEYS)
    assert (condition["startedAt"], condition["finishedAt"]) == ("2026-01-02T03:04:05Z", NEVER)
    assert set(condition["pods"][0]) == set(POD_KEYS)
    assert condition["pods"][0]["pullInStatus"] == ""
    assert flow["updateRevision"] == "6b7"


async def test_an_instance_has_every_key(world: World, rest: httpx.AsyncClient) -> None:
    world.cloneset()
    instance = data(await rest.get("/instances/web"))
    assert set(instance) == set(INSTANCE_KEYS)
    assert (instance["appID"], instance["cpu"], instance["status"]) == (12122, "2", "InProgress")
    assert data(await rest.get("/instances")) == [instance]
    refused(await rest.get("/instances/other"), 404)


async def test_the_body_of_the_tutorial_is_taken_as_it_is(world: World, rest: httpx.AsyncClient) -> None:
    made = data(await rest.post("/deployflows", json=TUTORIAL), 201)
    assert set(made) == set(FLOW_KEYS)
    assert made["action"] == "create"
    assert made["name"].startswith("12122-sample-10010-")
    written = world.cluster.objects[DEPLOYFLOWS, "shop", made["name"]]
    assert written["metadata"]["labels"]["managed-by"] == "triton-io"
    assert written["spec"]["application"]["template"] == TUTORIAL["applicationSpec"]["template"]


async def test_what_exists_is_updated(world: World, rest: httpx.AsyncClient) -> None:
    world.cloneset()
    assert data(await rest.post("/deployflows", json=NEW), 201)["action"] == "update"


async def test_a_second_release_while_one_runs_is_a_conflict_but_takes_over_a_paused_one(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.cloneset()
    world.flow("web-1", status={"phase": "BatchStarted"})
    assert "web-1" in refused(await rest.post("/deployflows", json=NEW), 409)
    refused(await rest.post("/instances/web/restarts", json={}), 409)
    world.says("web-1", paused=True)
    refused(await rest.post("/instances/web/restarts", json={}), 409)
    data(await rest.post("/deployflows", json=NEW), 201)


async def test_a_finished_release_is_changed_no_more_and_a_running_one_not_deleted(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.flow("web-1", status={"phase": "BatchStarted"})
    assert data(await rest.patch("/deployflows/web-1", json={"paused": True}))["name"] == "web-1"
    refused(await rest.delete("/deployflows/web-1"), 409)
    world.says("web-1", phase="Success", finished=True)
    refused(await rest.patch("/deployflows/web-1", json={"paused": False}), 409)
    assert (await rest.delete("/deployflows/web-1")).status_code == 204
    world.gone("web-1")
    refused(await rest.get("/deployflows/web-1"), 404)
    assert (await rest.delete("/deployflows/web-1")).status_code == 204


async def test_the_list_is_newest_first_in_pages_of_ten(world: World, rest: httpx.AsyncClient) -> None:
    for number in range(12):
        status = {"phase": "Success", "finished": True, "updatedAt": f"2026-01-02T03:04:{number:02}Z"}
        world.flow(f"web-{number:02}", status={**status, "startedAt": f"2026-01-02T03:04:{number:02}Z"})
    names = [flow["name"] for flow in data(await rest.get("/deployflows"))]
    assert names == [f"web-{number:02}" for number in range(11, 1, -1)]
    rest_of_them = data(await rest.get("/deployflows", params={"start": 10}))
    assert [flow["name"] for flow in rest_of_them] == ["web-01", "web-00"]
    assert len(data(await rest.get("/deployflows", params={"pageSize": 3, "instanceName": "web"}))) == 3
    assert data(await rest.get("/deployflows", params={"instanceName": "other"})) == []
    later = data(await rest.get("/deployflows", params={"after": "2026-01-02T03:04:10Z"}))
    assert [flow["name"] for flow in later] == ["web-11", "web-10"]


async def test_rollbacks_restarts_and_scales_answer_the_names_alone(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.cloneset()
    world.pod("web-a")
    for number, image in enumerate(("a:1", "a:2")):
        flow = world.flow(f"web-{number}", status={"phase": "Success", "finished": True})
        flow["spec"]["application"]["template"] = {"spec": {"containers": [{"name": "a", "image": image}]}}
        flow["status"]["startedAt"] = f"2026-01-02T03:04:0{number}Z"
        world.says(f"web-{number}")
    back = data(await rest.post("/instances/web/rollbacks", json={}), 201)
    assert set(back) == {"deployName", "rollbackTo"}
    assert back["rollbackTo"] == "web-0"
    world.gone(back["deployName"])
    restarted = data(await rest.post("/instances/web/restarts", json={"podsToDelete": ["web-a"]}), 201)
    assert set(restarted) == {"deployName"}
    strategy = world.cluster.objects[DEPLOYFLOWS, "shop", restarted["deployName"]]["spec"][
        "nonUpdateStrategy"
    ]
    assert (strategy["mode"], strategy["podsToDelete"]) == ("manual", ["web-a"])
    world.gone(restarted["deployName"])
    scaled = data(await rest.post("/instances/web/scales", json={"replicas": 2}), 201)
    assert world.cluster.objects[DEPLOYFLOWS, "shop", scaled["deployName"]]["spec"]["action"] == "scale_in"


async def test_a_name_that_is_too_long_is_refused(world: World, rest: httpx.AsyncClient) -> None:
    long = {"applicationSpec": {**NEW["applicationSpec"], "instanceName": "a" * 53}}
    text = refused(await rest.post("/deployflows", json=long), 400)
    assert "instanceName: 53 characters are too long, 52 are possible" in text


async def test_what_is_wrong_comes_in_the_envelope_too(world: World, rest: httpx.AsyncClient) -> None:
    assert "appID" in refused(await rest.post("/deployflows", json={"applicationSpec": {}}), 400)
    refused(await rest.post("/deployflows", content=b"{", headers={"Content-Type": "application/json"}), 400)
    refused(await rest.get("/deployflows/Not.A_Name"), 400)
    world.cloneset()
    world.flow("web-1", status={"phase": "Success", "finished": True})
    for nameless in ([None], 5, {"a": "b"}):
        refused(await rest.post("/instances/web/restarts", json={"podsToDelete": nameless}), 400)
    refused(await rest.get("/elsewhere"), 404)
    wrong = await rest.put("/deployflows")
    refused(wrong, 405)
    assert wrong.headers["Allow"] == "GET, POST"
    refused(await rest.post("/deployflows", json={"applicationSpec": {"x": "y" * 20_000}}), 413)


async def test_an_instance_that_can_not_be_removed_is_not_said_to_be_gone(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.cloneset()
    answer = await rest.delete("/instances/web")
    assert answer.status_code == 404
    assert "web has no release" in answer.json()["msg"]


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "nonsense", None],
)
async def test_a_body_is_read_whatever_its_content_type_says(world: World, kind: str | None) -> None:
    world.cloneset()
    world.flow("web-1", status={"phase": "Success", "finished": True})
    headers = {"Content-Type": kind} if kind else {}
    async with client_of(world, "/api/v1/namespaces/shop") as client:
        scale = await client.post("/instances/web/scales", content=b'{"replicas": 5}', headers=headers)
        broken = await client.post("/instances/web/scales", content=b"replicas=5", headers=headers)
    assert (scale.status_code, scale.json()["code"]) == (201, 0), scale.text
    assert broken.status_code == 400
