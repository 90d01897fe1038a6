"""The second version of the API: resources, problems, and what keeps two callers from doing harm."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.planner.api import access
from shared.kube.client import CLONESETS, DEPLOYFLOWS
from tests.unit.planner.api.rest_surroundings import client_of
from tests.unit.planner.api.surroundings import Named, World, batch

TEMPLATE = {"spec": {"containers": [{"name": "app", "image": "nginx:2"}]}}
APPLICATION = {"appID": 12122, "groupID": 10010, "appName": "hello", "instanceName": "web"}
SPEC: dict[str, Any] = {"action": "update", "application": {**APPLICATION, "template": TEMPLATE}}
DONE = {"phase": "Success", "finished": True}


@pytest.fixture
def world() -> World:
    return World()


@pytest_asyncio.fixture
async def rest(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


def problem(answer: httpx.Response, status: int) -> str:
    """Its reason."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "reason"}
    assert body["status"] == status
    return str(body["reason"])


async def test_a_release_is_made_and_its_location_returned(world: World, rest: httpx.AsyncClient) -> None:
    made = await rest.post("/deployflows", json={"spec": SPEC, "name": "web-new"})
    assert made.status_code == 201
    assert made.headers["Location"] == "/api/v2/namespaces/shop/deployflows/web-new"
    assert made.json()["kind"] == "DeployFlow"
    got = await rest.get("/deployflows/web-new")
    assert got.json()["spec"] == SPEC
    assert got.headers["ETag"] == made.headers["ETag"]


async def test_the_state_that_is_known_already_is_not_sent_again(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.flow("web-1")
    known = {"If-None-Match": (await rest.get("/deployflows/web-1")).headers["ETag"]}
    same = await rest.get("/deployflows/web-1", headers=known)
    assert (same.status_code, same.content) == (304, b"")
    world.says("web-1", phase="BatchStarted")
    assert (await rest.get("/deployflows/web-1", headers=known)).status_code == 200


async def test_who_has_seen_an_older_state_changes_nothing(world: World, rest: httpx.AsyncClient) -> None:
    world.flow("web-1", status={"phase": "BatchStarted"})
    seen = {"If-Match": (await rest.get("/deployflows/web-1")).headers["ETag"]}
    changed = await rest.post("/deployflows/web-1/pause", headers=seen)
    assert changed.status_code == 200
    for answer in (
        await rest.post("/deployflows/web-1/cancel", headers=seen),
        await rest.patch("/deployflows/web-1", json={"batches": 2}, headers=seen),
        await rest.delete("/deployflows/web-1", headers=seen),
    ):
        assert problem(answer, 412) == "Changed"
    now = {"If-Match": changed.headers["ETag"]}
    assert (await rest.post("/deployflows/web-1/resume", headers=now)).status_code == 200


async def test_a_patch_sets_fields_and_takes_away_those_that_are_null(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.flow("web-1", status={"phase": "BatchStarted"}, batchSize=2)
    answer = await rest.patch("/deployflows/web-1", json={"batchSize": None, "bakeSeconds": 5})
    # a cluster drops what is null in a merge patch
    assert answer.json()["spec"]["updateStrategy"] == {"batchSize": None, "bakeSeconds": 5}
    assert problem(await rest.patch("/deployflows/web-1", json={"bakeSecond": 5}), 400) == "Invalid"
    assert problem(await rest.patch("/deployflows/web-1", json={"podsToDelete": ["a"]}), 422) == "Invalid"


async def test_what_the_original_wrote_for_a_field_that_is_not_set_takes_it_away(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.flow("web-1", status={"phase": "BatchStarted"}, batchSize=2, stage="Smoked")
    answer = await rest.patch("/deployflows/web-1", json={"batchSize": 0, "stage": "", "batches": 0})
    assert answer.status_code == 200, answer.text
    assert answer.json()["spec"]["updateStrategy"] == {"batchSize": None, "stage": None, "batches": None}


async def test_a_request_with_a_key_is_done_once_and_answered_the_same(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.cloneset()
    world.flow("web-1", status=DONE)
    again = {"Idempotency-Key": "one"}
    first = await rest.post("/instances/web/updates", json={"image": "nginx:2"}, headers=again)
    second = await rest.post("/instances/web/updates", json={"image": "nginx:2"}, headers=again)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["metadata"]["name"] == second.json()["metadata"]["name"]
    assert len(world.cluster.objects) == 3

    name = first.json()["metadata"]["name"]
    world.cluster.objects[DEPLOYFLOWS, "shop", name]["status"] = {}
    world.says(name, phase="BatchStarted", conditions=[batch(1, "SmokeFailed")], paused=True)
    before = {**again, "If-Match": (await rest.get(f"/deployflows/{name}")).headers["ETag"]}
    for _ in range(2):
        retried = await rest.post(f"/deployflows/{name}/retry", headers=before)
        assert retried.json()["spec"]["updateStrategy"]["retries"] == 1, retried.text


async def test_a_delete_with_a_key_is_answered_the_same_again(world: World, rest: httpx.AsyncClient) -> None:
    world.flow("web-1", status=DONE)
    again = {"Idempotency-Key": "one"}
    assert (await rest.delete("/deployflows/web-1", headers=again)).status_code == 204
    world.gone("web-1")
    assert (await rest.delete("/deployflows/web-1", headers=again)).status_code == 204
    assert problem(await rest.delete("/deployflows/web-1"), 404) == "NotFound"


async def test_two_callers_keys_have_nothing_to_do_with_each_other(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.cloneset()
    world.flow("web-1", status=DONE)
    body = {"image": "nginx:2"}
    own_headers = {b"Idempotency-Key": b"one", b"X-Requested-By": "jörg".encode()}
    yours = {"Idempotency-Key": "one", "X-Requested-By": "operator"}
    made = await rest.post("/instances/web/updates", json=body, headers=own_headers)
    assert made.json()["metadata"]["annotations"]["apps.triton.io/requested-by"] == "jörg"
    assert problem(await rest.post("/instances/web/updates", json=body, headers=yours), 409) == "InProgress"


async def test_an_update_needs_the_image_alone(world: World, rest: httpx.AsyncClient) -> None:
    world.cloneset()
    world.flow("web-1", status=DONE, batchSize=2)
    made = await rest.post("/instances/web/updates", json={"image": "nginx:2", "strategy": {"canary": 1}})
    spec = made.json()["spec"]
    assert spec["application"]["template"]["spec"]["containers"] == [{"name": "app", "image": "nginx:2"}]
    assert spec["updateStrategy"]["batchSize"] == 2
    assert spec["updateStrategy"]["canary"] == 1
    assert made.json()["metadata"]["annotations"]["apps.triton.io/keeps-replicas"] == "true"
    assert problem(await rest.post("/instances/other/updates", json={"image": "a"}), 404) == "NoRelease"


async def test_an_update_that_says_how_many_does_not_keep_the_count(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.cloneset()
    world.flow("web-1", status=DONE)
    made = await rest.post("/instances/web/updates", json={"image": "nginx:2", "replicas": 4})
    assert made.json()["spec"]["application"]["replicas"] == 4
    assert "apps.triton.io/keeps-replicas" not in made.json()["metadata"]["annotations"]


async def test_what_is_read_to_the_letter(world: World, rest: httpx.AsyncClient) -> None:
    detail = (await rest.post("/deployflows", json={"spec": {**SPEC, "acton": "x"}})).json()["detail"]
    assert "acton" in detail
    as_text = {**SPEC, "application": {**SPEC["application"], "replicas": "3"}}
    assert problem(await rest.post("/deployflows", json={"spec": as_text}), 400) == "Invalid"
    whole = {**SPEC, "application": {**SPEC["application"], "replicas": 3.0}}
    assert (await rest.post("/deployflows", json={"spec": whole})).status_code == 201
    assert problem(await rest.get("/deployflows?phse=Success"), 400) == "Invalid"
    assert problem(await rest.get("/deployflows?limit=1&limit=2"), 400) == "Invalid"
    assert problem(await rest.get("/deployflows?after=yesterday"), 400) == "Invalid"


async def test_pages_show_everything_once_however_it_changes_meanwhile(
    world: World, rest: httpx.AsyncClient
) -> None:
    for number in range(5):
        world.flow(f"web-{number}")
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await rest.get("/deployflows", params={"limit": "2", **cursor})).json()
        seen += [flow["metadata"]["name"] for flow in page["items"]]
        if page["continue"] is None:
            break
        cursor = {"continue": page["continue"]}
        # it is the next page's mark, and goes
        world.gone(seen[-1])
        world.says("web-0", startedAt=f"2026-01-02T03:04:0{len(seen)}Z")
    assert seen == ["web-4", "web-3", "web-2", "web-1", "web-0"]


async def test_the_list_is_of_those_that_are_requested(world: World, rest: httpx.AsyncClient) -> None:
    world.flow("web-1", status=DONE)
    world.flow("web-2", action="restart")

    async def names(**wanted: str) -> list[str]:
        answer = await rest.get("/deployflows", params=wanted)
        return [flow["metadata"]["name"] for flow in answer.json()["items"]]

    assert await names(phase="Success") == ["web-1"]
    assert await names(action="restart") == ["web-2"]
    assert await names(instanceName="other") == []
    everywhere = await rest.get("http://triton/api/v2/deployflows")
    assert len(everywhere.json()["items"]) == 2


async def test_a_namespace_without_releases_is_not_one_that_does_not_exist(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.cluster.objects.clear()
    world.flows.reflector.items.clear()
    calls = [("GET", "/deployflows"), ("GET", "/instances"), ("POST", "/instances/web/updates")]

    async def answers() -> list[tuple[int, str]]:
        found = [await rest.request(method, path, json={"image": "web:2"}) for method, path in calls]
        return [(answer.status_code, answer.json().get("detail", "")) for answer in found]

    assert [code for code, _ in await answers()] == [200, 200, 404]
    assert "does not exist" not in str(await answers())
    world.cluster.missing = {"shop"}
    assert await answers() == [(404, "namespace shop does not exist")] * 3
    # who may not know takes it to exist
    world.cluster.missing = None
    assert [code for code, _ in await answers()] == [200, 200, 404]


async def test_next_that_was_meant_for_a_place_that_is_past_changes_nothing(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.flow("web-1", status={"phase": "BatchStarted", "conditions": [batch(1, "Smoked", canary=True)]})
    meant = {"batch": 1, "stage": "Smoked"}
    first = (await rest.post("/deployflows/web-1/next", json=meant)).json()["spec"]["updateStrategy"]
    assert (first["batches"], first["stage"]) == (1, "Baking")
    world.says("web-1", conditions=[batch(1, "Baking", canary=True)])
    again = (await rest.post("/deployflows/web-1/next", json=meant)).json()["spec"]["updateStrategy"]
    assert again == first
    done = await rest.post("/deployflows/web-1/next")
    assert done.json()["spec"]["updateStrategy"]["stage"] == "Baked"


async def test_a_command_that_does_not_fit_says_why(world: World, rest: httpx.AsyncClient) -> None:
    world.flow("web-1", status=DONE)
    assert problem(await rest.post("/deployflows/web-1/next"), 409) == "Finished"
    world.flow("web-2")
    assert problem(await rest.post("/deployflows/web-2/retry"), 409) == "NotFailed"
    assert problem(await rest.post("/deployflows/web-2/continue", json={}), 400) == "Invalid"
    assert problem(await rest.post("/deployflows/web-3/pause"), 404) == "NotFound"
    assert problem(await rest.delete("/deployflows/web-2"), 409) == "InProgress"


async def test_of_many_each_answers_for_itself(world: World, rest: httpx.AsyncClient) -> None:
    world.cloneset("web")
    world.cloneset("idle")
    world.flow("web-1", status={"phase": "BatchStarted"})
    done = await rest.post("/restarts", json={"selector": "app=12122"})
    assert done.status_code == 207
    by_name = {item["instance"]: item for item in done.json()["items"]}
    assert by_name["web"]["deployFlow"] is None
    assert by_name["web"]["problem"]["reason"] == "InProgress"
    assert by_name["idle"]["problem"]["status"] == 404, "it has no release that identifies it"
    world.says("web-1", phase="Success", finished=True)
    again = await rest.post("/scales", json={"selector": "app=12122", "replicas": 5})
    scaled = {item["instance"]: item["deployFlow"] for item in again.json()["items"]}["web"]
    assert world.cluster.objects[DEPLOYFLOWS, "shop", scaled]["spec"]["action"] == "scale_out"
    assert problem(await rest.post("/restarts", json={"selector": "app in"}), 400) == "Invalid"


async def test_a_plan_starts_nothing(world: World, rest: httpx.AsyncClient) -> None:
    world.cloneset()
    spec = {**SPEC, "updateStrategy": {"batchSize": 1}}
    spec["application"] = {**SPEC["application"], "replicas": 3}
    plan = (await rest.post("/plans", json={"spec": spec})).json()
    assert [(item["surge"], item["retire"]) for item in plan["batches"]] == [(1, 1)] * 3
    assert len(world.cluster.objects) == 1
    spec["application"] |= {"replicas": 2**31 - 1}
    assert problem(await rest.post("/plans", json={"spec": spec}), 422) == "NoPlan"


async def test_a_watch_of_a_finished_release_reports_it_and_ends(
    world: World, rest: httpx.AsyncClient
) -> None:
    world.flow("web-1", status=DONE)
    answer = await rest.get("/deployflows/web-1/watch")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    state, end, rest_of_it = answer.text.split("\n\n")
    assert json.loads(state.removeprefix("data: "))["status"]["phase"] == "Success"
    assert end.startswith("event: end")
    assert not rest_of_it
    assert problem(await rest.get("/deployflows/web-2/watch"), 404) == "NotFound"


async def test_names_that_are_none_do_not_reach_the_cluster(rest: httpx.AsyncClient) -> None:
    for name in ("a%3Fb", "%2e%2e", "A", "a%0ab", "x" * 300):
        assert problem(await rest.get(f"/instances/{name}"), 400) == "Invalid"


async def test_rights_are_checked_by_what_is_done() -> None:
    world = World(Named(access.GET, access.PATCH))
    world.flow("web-1", status={"phase": "BatchStarted"})
    async with client_of(world) as rest:
        lost = await rest.get("/deployflows/web-1")
        assert problem(lost, 401) == "Unauthenticated"
        assert lost.headers["WWW-Authenticate"] == "Bearer"
        rest.headers["Authorization"] = "Bearer secret"
        assert (await rest.get("/deployflows/web-1")).status_code == 200
        assert problem(await rest.get("/deployflows"), 403) == "Forbidden"
        assert (await rest.post("/deployflows/web-1/pause")).status_code == 200
        assert problem(await rest.post("/deployflows/web-1/promote"), 403) == "Forbidden"
        assert problem(await rest.patch("/deployflows/web-1", json={"batches": 9}), 403) == "Forbidden"
        assert problem(await rest.post("/restarts", json={"selector": "app=1"}), 403) == "Forbidden"


async def test_a_name_that_open_kruise_can_not_label_pods_with_is_refused(
    world: World, rest: httpx.AsyncClient
) -> None:
    long = {**SPEC, "application": {**SPEC["application"], "instanceName": "a" * 53}}
    for place, body in (("/deployflows", {"spec": long}), ("/plans", {"spec": long})):
        answer = await rest.post(place, json=body)
        assert answer.status_code in {400, 422}, (place, answer.text)
        assert "instanceName: 53 characters are too long, 52 are possible" in answer.json()["detail"]
    old = world.flow("old", status={"phase": "BatchStarted"})
    old["spec"]["application"]["instanceName"] = "a" * 57
    assert (await rest.get("/deployflows/old")).status_code == 200
    assert (await rest.patch("/deployflows/old", json={"bakeSeconds": 5})).status_code == 200
    assert (await rest.post("/deployflows/old/cancel")).status_code == 200
    assert (await rest.get("/deployflows", params={"instanceName": "a" * 57})).status_code == 200


async def test_a_cloneset_is_adopted_and_becomes_an_instance(world: World, rest: httpx.AsyncClient) -> None:
    world.cloneset()
    live = world.cluster.objects[CLONESETS, "shop", "web"]
    live["metadata"]["labels"] = {"app": "web"}
    assert problem(await rest.get("/instances/web"), 404) == "NotFound"
    body = {"appID": 12122, "groupID": 10010, "appName": "hello"}
    adopted = await rest.post("/instances/web/adoptions", json=body, headers={"X-Requested-By": "ada"})
    assert adopted.status_code == 200, adopted.text
    assert (adopted.json()["name"], adopted.json()["appID"]) == ("web", 12122)
    metadata = world.cluster.objects[CLONESETS, "shop", "web"]["metadata"]
    assert metadata["annotations"] == {"apps.triton.io/adopt": "true", "apps.triton.io/adopted-by": "ada"}
    assert (await rest.get("/instances/web")).json() == adopted.json()
    version = metadata["resourceVersion"]
    assert (await rest.post("/instances/web/adoptions", json=body)).json() == adopted.json()
    again = world.cluster.objects[CLONESETS, "shop", "web"]["metadata"]
    assert again["resourceVersion"] == version, "nothing is written twice"


async def test_what_can_not_be_adopted_is_named_and_not_written(
    world: World, rest: httpx.AsyncClient
) -> None:
    assert problem(await rest.post("/instances/none/adoptions", json={}), 404) == "NotFound"
    world.cloneset()
    live = world.cluster.objects[CLONESETS, "shop", "web"]
    live["spec"]["scaleStrategy"] = {"maxUnavailable": 1}
    version = live["metadata"]["resourceVersion"]
    answer = await rest.post("/instances/web/adoptions", json={})
    assert problem(answer, 422) == "NotAdoptable"
    assert "spec.scaleStrategy.maxUnavailable" in answer.json()["detail"]
    assert world.cluster.objects[CLONESETS, "shop", "web"]["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize("may", [True, False], ids=["may update CloneSets", "may only all of DeployFlows"])
async def test_only_who_may_update_the_cloneset_may_have_it_adopted(may: bool) -> None:
    every = (
        access.GET,
        access.LIST,
        access.WATCH,
        access.CREATE,
        access.PATCH,
        access.DELETE,
        access.PROMOTE,
    )
    world = World(Named(access.ADOPT) if may else Named(*every))
    world.cloneset()
    headers = {"Authorization": "Bearer secret"}
    async with client_of(world) as rest:
        answer = await rest.post("/instances/web/adoptions", json={}, headers=headers)
    if may:
        assert answer.status_code == 200
    else:
        assert problem(answer, 403) == "Forbidden"


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "nonsense", None])
async def test_a_body_that_does_not_say_that_it_is_json_is_refused_with_what_to_write(
    world: World, kind: str | None
) -> None:
    world.cloneset()
    world.flow("web-1", status={"phase": "Success", "finished": True})
    headers = {"Content-Type": kind} if kind else {}
    async with client_of(world) as client:
        answer = await client.post("/instances/web/scales", content=b'{"replicas": 5}', headers=headers)
        # what curl sends for -d '' has no body
        empty = await client.post("/instances/web/restarts", content=b"", headers=headers)
        patched = await client.post(
            "/instances/web/scales",
            content=b'{"replicas": -1}',
            headers={"Content-Type": "application/merge-patch+json"},
        )
    assert (answer.status_code, answer.json()["reason"]) == (415, "UnsupportedMediaType")
    assert "-H 'Content-Type: application/json'" in answer.json()["detail"]
    assert (kind or "none") in answer.json()["detail"]
    assert empty.status_code == 201
    assert (patched.status_code, patched.json()["detail"][:8]) == (400, "replicas")
