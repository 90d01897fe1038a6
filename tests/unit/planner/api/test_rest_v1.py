"""What programs written for the first version of the API rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from shared.domain.deployflow import KEEPS_REPLICAS
from shared.domain.json_types import Json
from shared.kube.client import DEPLOYFLOWS
from tests.unit.planner.api.rest_surroundings import client_of
from tests.unit.planner.api.surroundings import World, batch

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
    assert {flow["startedAt"], flow["finishedAt"], flow["updatedAt"]} == {None}


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
    assert (condition["startedAt"], condition["finishedAt"]) == ("2026-01-02T03:04:05Z", None)
    assert condition["pulledInAt"] is None
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


@pytest.mark.parametrize(
    "query", ["start=&pageSize=", "pageSize=0", "after=", "pageSize=2000000000", "other=1"]
)
async def test_a_page_is_asked_for_as_of_the_original(
    world: World, rest: httpx.AsyncClient, query: str
) -> None:
    for number in range(12):
        world.flow(f"web-{number:02}", status={"startedAt": f"2026-01-02T03:04:{number:02}Z"})
    names = [flow["name"] for flow in data(await rest.get(f"/deployflows?{query}"))]
    assert len(names) == (12 if "2000000000" in query else 10)
    assert names[0] == "web-11"
    assert data(await rest.get("/deployflows?start=12")) == []


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
    assert "instanceName" in refused(await rest.post("/deployflows", json={"applicationSpec": {}}), 400)
    refused(await rest.post("/deployflows", json={"applicationSpec": None}), 400)
    refused(await rest.post("/deployflows", json={}), 400)
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


@pytest.mark.parametrize("path", ["/api/v1/health", "/@in/api/health"])
async def test_health_is_ok_without_a_login(world: World, path: str) -> None:
    async with client_of(world, "") as client:
        answer = await client.get(path)
        slash = await client.get(f"{path}/")
        refused_method = await client.post(path)
    assert (answer.status_code, answer.text) == (200, "ok")
    assert answer.headers["content-type"].startswith("text/plain")
    assert (slash.status_code, slash.headers["location"]) == (301, path)
    assert refused_method.status_code == 405


async def test_a_slash_at_the_end_redirects(world: World, rest: httpx.AsyncClient) -> None:
    base = "/api/v1/namespaces/shop"
    listed = await rest.get("/deployflows/?pageSize=3&instanceName=web")
    assert listed.status_code == 301
    assert listed.headers["location"] == f"{base}/deployflows?pageSize=3&instanceName=web"
    for method, path in (
        ("POST", "/deployflows"),
        ("PATCH", "/deployflows/web-1"),
        ("DELETE", "/instances/web"),
    ):
        answer = await rest.request(method, f"{path}/", json={})
        assert (answer.status_code, answer.headers["location"]) == (307, f"{base}{path}")
    made = await rest.post("/deployflows/", json=TUTORIAL, follow_redirects=True)
    assert data(made, 201)["action"] == "create"
    # where the path has no such call, there is nothing to go to
    refused(await rest.get("/elsewhere/"), 404)
    refused(await rest.put("/deployflows/"), 404)
    refused(await rest.get("/deployflows//"), 404)


def written(world: World, name: str) -> Json:
    spec: Json = world.cluster.objects[DEPLOYFLOWS, "shop", name]["spec"]
    return spec


UNSET: Json = {
    "paused": None,
    "canceled": False,
    "batchSize": None,
    "batchIntervalSeconds": 0,
    "mode": "",
    "batches": 0,
    "noPullIn": False,
    "canary": 0,
    "stage": "",
    "somethingElse": {"deep": [1]},
}


async def test_what_is_not_set_is_dropped_and_the_template_is_as_it_was_sent(
    world: World, rest: httpx.AsyncClient
) -> None:
    container: Json = {
        "name": "web",
        "image": "web:1",
        "command": [],
        "workingDir": "",
        "unknown": None,
        "tty": False,
    }
    template = {"metadata": {"creationTimestamp": None, "labels": {}}, "spec": {"containers": [container]}}
    application: Json = {
        "appName": None,
        "instanceName": "web",
        "selector": {"matchLabels": {"app": "another"}, "unknown": 1},
        "template": template,
        "replicas": 0,
        "applicationType": "",
        "volumeClaimTemplates": [],
        "applicationLabel": None,
        "somethingElse": "",
    }
    body = {"applicationSpec": application, "updateStrategy": UNSET, "somethingElse": None}
    made = data(await rest.post("/deployflows", json=body), 201)
    assert (made["appID"], made["groupID"], made["appName"], made["replicas"]) == (0, 0, "", 0)
    spec = written(world, made["name"])
    assert spec["application"]["template"] == template
    assert not spec["application"].keys() & {"selector", "applicationType", "volumeClaimTemplates"}
    assert "updateStrategy" not in spec
    assert made["mode"] == "manual"


async def test_keys_are_read_whatever_their_case(world: World, rest: httpx.AsyncClient) -> None:
    template = NEW["applicationSpec"]["template"]
    application = {"appId": 7, "GroupID": 8, "appname": "shop", "InstanceName": "web", "template": template}
    body = {"ApplicationSpec": application, "updatestrategy": {"BATCHSIZE": 2, "Canary": 1}}
    made = data(await rest.post("/deployflows", json=body), 201)
    assert (made["appID"], made["groupID"], made["appName"], made["replicas"]) == (7, 8, "shop", 1)
    strategy = written(world, made["name"])["updateStrategy"]
    assert (strategy["batchSize"], strategy["canary"]) == (2, 1)


async def test_what_is_set_wrongly_is_still_refused(world: World, rest: httpx.AsyncClient) -> None:
    for field, value in {"canary": "one", "mode": "automatic", "batchSize": [], "bakeSeconds": -1}.items():
        text = refused(await rest.post("/deployflows", json={**NEW, "updateStrategy": {field: value}}), 400)
        assert f"updateStrategy.{field}" in text


async def test_an_update_takes_what_is_left_out_from_the_instance(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.cloneset()
    world.flow("web-1", status={"phase": "Success", "finished": True})
    application = {"instanceName": "web", "template": NEW["applicationSpec"]["template"], "replicas": None}
    made = data(await rest.post("/deployflows", json={"applicationSpec": application}), 201)
    assert (made["action"], made["appID"], made["groupID"], made["replicas"]) == ("update", 12122, 10010, 3)
    annotations = world.cluster.objects[DEPLOYFLOWS, "shop", made["name"]]["metadata"]["annotations"]
    assert annotations[KEEPS_REPLICAS] == "true"


async def test_a_patch_changes_only_what_is_set_and_known(world: World, rest: httpx.AsyncClient) -> None:
    world.flow(
        "web-1", status={"phase": "BatchStarted"}, canary=1, batchSize=2, batchIntervalSeconds=5, paused=True
    )
    before = dict(written(world, "web-1")["updateStrategy"])
    for body in ({}, UNSET, {"podsToDelete": ["web-a"], "unknown": 1}):
        data(await rest.patch("/deployflows/web-1", json=body))
        assert written(world, "web-1")["updateStrategy"] == before
    # the original holds these by a pointer: false is set, and zero is all pods
    data(await rest.patch("/deployflows/web-1", json={"paused": False, "batchSize": 0}))
    after = written(world, "web-1")["updateStrategy"]
    assert after["paused"] is False
    assert not after.get("batchSize")
    # a field that the original has not
    data(await rest.patch("/deployflows/web-1", json={"bakeSeconds": 0, "pullOutSeconds": None}))
    assert written(world, "web-1")["updateStrategy"]["bakeSeconds"] == 0


@pytest.mark.parametrize(
    ("content", "replicas", "action"),
    [
        (b"", 3, "scale_out"),
        (b"null", 3, "scale_out"),
        (b"{}", 3, "scale_out"),
        (b'{"replicas": null, "nonUpdateStrategy": null}', 3, "scale_out"),
        (b'{"replicas": 3}', 3, "scale_out"),
        (b'{"replicas": 0, "nonUpdateStrategy": {"podsToDelete": null, "canary": 1}}', 0, "scale_in"),
        (b'{"replicas": 5}', 5, "scale_out"),
    ],
)
async def test_a_scale_needs_no_body_and_may_be_to_the_present_count_or_to_none(
    world: World, rest: httpx.AsyncClient, content: bytes, replicas: int, action: str
) -> None:
    world.cloneset()
    world.flow("web-1", status={"phase": "Success", "finished": True})
    made = data(await rest.post("/instances/web/scales", content=content), 201)
    spec = written(world, made["deployName"])
    assert (spec["action"], spec["application"]["replicas"]) == (action, replicas)


async def test_rollbacks_and_restarts_need_no_body_and_no_set_field(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.cloneset()
    for number in range(2):
        flow = world.flow(f"web-{number}", status={"phase": "Success", "finished": True})
        flow["spec"]["application"]["template"] = {
            "spec": {"containers": [{"name": "a", "image": f"a:{number}"}]}
        }
        flow["status"]["startedAt"] = f"2026-01-02T03:04:0{number}Z"
        world.says(f"web-{number}")
    for content in (b"", b"null", b'{"deployName": null, "updateStrategy": {"stage": "", "batches": 0}}'):
        back = data(await rest.post("/instances/web/rollbacks", content=content), 201)
        assert back["rollbackTo"] == "web-0"
        world.gone(back["deployName"])
    for content in (b"", b"null", b'{"podsToDelete": [], "batchSize": "", "unknown": true}'):
        made = data(await rest.post("/instances/web/restarts", content=content), 201)
        assert written(world, made["deployName"])["action"] == "restart"
        world.gone(made["deployName"])
