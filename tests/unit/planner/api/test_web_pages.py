"""Without a login a web page steers nothing through the browser of somebody on the machine; all else calls as before."""

from __future__ import annotations

import httpx
import pytest

from services.planner.api.rate_limits import Unlimited
from services.planner.api.rest_app import application
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.kube.client import DEPLOYFLOWS
from shared.service.health import Health
from tests.unit.planner.api.surroundings import World, batch

FOREIGN: dict[str, tuple[dict[str, str], str]] = {
    "a name that leads here": ({"Host": "evil.example:8088"}, "ForeignHost"),
    "a name that begins as ours": ({"Host": "localhost.evil.example"}, "ForeignHost"),
    "a name that looks like an address": ({"Host": "127.0.0.1.evil.example:8088"}, "ForeignHost"),
    "every address": ({"Host": "0.0.0.0:8088"}, "ForeignHost"),
    "another machine": ({"Host": "192.168.1.7:8088"}, "ForeignHost"),
    "no host": ({"Host": "[::1"}, "ForeignHost"),
    "a form of another site": ({"Origin": "https://evil.example"}, "CrossSite"),
    "a sandboxed frame or a file": ({"Origin": "null"}, "CrossSite"),
    "an origin that begins as ours": ({"Origin": "http://localhost.evil.example"}, "CrossSite"),
    "a picture of another site": ({"Sec-Fetch-Site": "cross-site"}, "CrossSite"),
}
LOCAL: dict[str, dict[str, str]] = {
    "a program": {},
    "by name": {"Host": "localhost"},
    "by name, in capitals": {"Host": "LOCALHOST:8088"},
    "a port-forward": {"Host": "localhost:49152"},
    "by address": {"Host": "127.0.0.1:8088"},
    "by another address of this machine": {"Host": "127.0.1.1:8088"},
    "by IPv6": {"Host": "[::1]:8088"},
    "a page of this machine": {
        "Host": "localhost:8088",
        "Origin": "http://localhost:3000",
        "Sec-Fetch-Site": "same-site",
    },
    "typed into the browser": {"Host": "localhost:8088", "Sec-Fetch-Site": "none"},
}
V1, V2 = "/api/v1/namespaces/shop", "/api/v2/namespaces/shop"
REQUESTS = [
    ("POST", f"{V2}/deployflows/web-1/promote"),
    ("POST", f"{V2}/instances/web/restarts"),
    ("DELETE", f"{V1}/instances/web"),
    ("GET", f"{V1}/deployflows"),
    ("GET", f"{V2}/deployflows/web-1/watch"),
    ("GET", f"{V2}/deployflows/web-1/events"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
]


@pytest.fixture
def world() -> World:
    world = World()
    world.flow("web-1", status={"phase": "BatchStarted", "conditions": [batch(1, "Smoked")]})
    world.cloneset()
    return world


def client_of(world: World, *, login: bool = False) -> httpx.AsyncClient:
    app = application(world.calls, limits=Unlimited(), body_bytes=10_000, refuses_web_pages=not login)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8088")


def releases_of(world: World) -> Json:
    return {
        name: item["spec"] for (kind, _, name), item in world.cluster.objects.items() if kind == DEPLOYFLOWS
    }


@pytest.mark.parametrize("what", list(FOREIGN))
async def test_a_page_of_another_site_is_refused_and_changes_nothing(world: World, what: str) -> None:
    headers, reason = FOREIGN[what]
    before = releases_of(world)
    async with client_of(world) as rest:
        for method, path in REQUESTS:
            answer = await rest.request(method, path, headers=headers)
            assert answer.status_code == 403, path
            body = answer.json()
            text = body["msg"] if path.startswith(V1) else body["detail"]
            assert next(iter(headers)) in text
            assert "TRITON_API_AUTH=kubernetes" in text
            if path.startswith(V1):
                assert (body["code"], body["data"]) == (7, {})
            else:
                assert body["reason"] == reason
    assert releases_of(world) == before


@pytest.mark.parametrize("what", list(LOCAL))
async def test_programs_of_this_machine_call_as_before(world: World, what: str) -> None:
    async with client_of(world) as rest:
        answer = await rest.post(f"{V2}/deployflows/web-1/promote", headers=LOCAL[what])
        assert answer.status_code == 200, answer.text
        answer = await rest.get(f"{V1}/deployflows", headers=LOCAL[what])
        assert answer.status_code == 200, answer.text
    assert releases_of(world)["web-1"]["updateStrategy"]["mode"] == str(df.Mode.AUTO)


async def test_with_a_login_the_host_is_any_that_leads_there(world: World) -> None:
    async with client_of(world, login=True) as rest:
        for headers, _ in FOREIGN.values():
            assert (await rest.get(f"{V1}/deployflows", headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_a_health_port_of_this_machine_alone_shows_a_page_nothing(path: str) -> None:
    for local, code in ((True, 403), (False, 200)):
        health = Health(local=local)
        health.there("start")
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(health), base_url="http://127.0.0.1:9090"
        ) as client:
            assert (await client.get(path)).status_code == 200
            for headers, _ in FOREIGN.values():
                assert (await client.get(path, headers=headers)).status_code == code
