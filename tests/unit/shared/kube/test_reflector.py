"""The reflector against a real API server: its picture stays true whatever becomes of its watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from sandbox.kubernetes import Cluster
from shared.domain.json_types import Json
from shared.kube import reflector as module
from shared.kube.client import PODS, Client, Resource
from shared.kube.objects import _left_out
from shared.kube.reflector import Meta, Reflector, int_or_percent, milliseconds
from tests.unit.parts import Trouble, connected, refusal, running_cluster, until

MAPS = Resource("/api/v1", "configmaps")
SLOW = 30.0
BACKOFF = (0.05, 0.1)
LEAST_GAP = BACKOFF[0] / 2
"""Seconds between two tries, at least: chance takes up to half of the wait away."""


class ConfigMap(msgspec.Struct, frozen=True):
    metadata: Meta
    data: dict[str, str] = {}


def a_map(name: str, value: str = "1", **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": labels}, "data": {"value": value}}


class Picture:
    """A reflector and what it reported."""

    def __init__(self, client: Client, **more: Any) -> None:
        self.reported: list[str] = []
        self.lists = 0
        options: Json = {"namespaces": ["default"], "listed": self._listed, **more}
        self.reflector = Reflector(client, MAPS, ConfigMap, self._changed, **options)

    def _changed(self, old: ConfigMap | None, new: ConfigMap | None) -> None:
        named = new or old
        assert named is not None
        kind = "new" if old is None else "gone" if new is None else "changed"
        self.reported.append(f"{kind} {named.metadata.name}" + (f" {new.data['value']}" if new else ""))

    def _listed(self) -> None:
        self.lists += 1

    def shows(self, **wanted: str) -> Callable[[], bool]:
        return lambda: (
            {item.metadata.name: item.data["value"] for item in self.reflector.items.values()} == wanted
        )


@asynccontextmanager
async def following(client: Client, **more: Any) -> AsyncIterator[Picture]:
    picture = Picture(client, **more)
    task = asyncio.create_task(picture.reflector.run())
    try:
        async with asyncio.timeout(10):
            await picture.reflector.synced.wait()
        yield picture
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def watching(trouble: Trouble) -> Callable[[], bool]:
    return lambda: any("watch=1" in one for one in trouble.requests)


def requests(trouble: Trouble, *, watches: bool) -> list[str]:
    return [one for one in trouble.requests if ("watch=1" in one) is watches]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", BACKOFF)


async def value(api: Client, name: str, value: str) -> None:
    await api.patch(MAPS, "default", name, {"data": {"value": value}})


# --- the everyday ---


async def test_what_is_there_is_listed_and_what_happens_is_reported(client: Client, api: Client) -> None:
    await api.create(MAPS, "default", a_map("one"))
    async with following(client) as picture:
        assert picture.reported == ["new one 1"]
        await api.create(MAPS, "default", a_map("two"))
        await value(api, "one", "2")
        await api.delete(MAPS, "default", "two")
        await until(lambda: len(picture.reported) == 4)
        assert picture.reported[1:] == ["new two 1", "changed one 2", "gone two"]
        found = picture.reflector.get("default", "one")
        assert found is not None
        assert found.data == {"value": "2"}
        assert picture.reflector.get("default", "two") is None


async def test_only_the_requested_labels_and_namespaces_are_shown(client: Client, api: Client) -> None:
    for namespace in ("default", "kube-public", "kube-system"):
        await api.create(MAPS, namespace, a_map(f"mine-{namespace}", by="us"))
        await api.create(MAPS, namespace, a_map(f"other-{namespace}"))
    async with following(client, namespaces=["default", "kube-public"], labels="by=us") as picture:
        assert sorted(picture.reported) == ["new mine-default 1", "new mine-kube-public 1"]
        await api.patch(MAPS, "default", "other-default", {"metadata": {"labels": {"by": "us"}}})
        await api.patch(MAPS, "default", "mine-default", {"metadata": {"labels": {"by": None}}})
        await until(lambda: len(picture.reported) == 4)
        assert picture.reported[2:] == ["new other-default 1", "gone mine-default"]


async def test_without_namespaces_all_are_shown(client: Client, api: Client) -> None:
    for namespace in ("default", "kube-public"):
        await api.create(MAPS, namespace, a_map(f"in-{namespace}"))
    async with following(client, namespaces=[]) as picture:
        assert sorted(picture.reported) == ["new in-default 1", "new in-kube-public 1"]


async def test_what_keeps_the_picture_from_being_true_is_reported_until_it_is(
    client: Client, trouble: Trouble
) -> None:
    reported: list[str] = []
    withheld = {"default", "kube-public"}

    async def withhold(request: web.Request) -> web.StreamResponse | None:
        return refusal(404, "NotFound", "none") if withheld & set(request.path.split("/")) else None

    trouble.meddle = withhold
    picture = Picture(client, namespaces=["default", "kube-public"])
    picture.reflector.follows = reported.append
    task = asyncio.create_task(picture.reflector.run())
    try:
        await until(lambda: "the cluster does not know configmaps" in "".join(reported))
        withheld.remove("default")
        await until(lambda: picture.lists)
        assert all(reported), "one of the two is still missing"
        withheld.clear()
        await until(lambda: reported[-1] == "")
        assert picture.reflector.synced.is_set()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_long_lists_come_in_pages(
    client: Client, api: Client, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    for n in range(8):
        await api.create(MAPS, "default", a_map(f"map-{n}"))
    async with following(client) as picture:
        assert len(picture.reflector.items) == 8
        assert picture.lists == 1
    assert len([one for one in trouble.requests if "continue=" in one]) == 2


async def test_an_object_made_again_under_the_same_name_is_another_one(client: Client, api: Client) -> None:
    await api.create(MAPS, "default", a_map("one"))
    async with following(client) as picture:
        first = picture.reflector.get("default", "one")
        await api.delete(MAPS, "default", "one")
        await api.create(MAPS, "default", a_map("one", "2"))
        await until(picture.shows(one="2"))
        second = picture.reflector.get("default", "one")
        assert first is not None
        assert second is not None
        assert first.metadata.uid != second.metadata.uid
        assert picture.reported == ["new one 1", "gone one", "new one 2"]


# --- watches that end ---


async def test_a_watch_that_the_server_ends_is_opened_again_where_it_was(
    cluster: Cluster, client: Client, api: Client, trouble: Trouble
) -> None:
    await api.create(MAPS, "default", a_map("one"))
    async with following(client) as picture:
        await until(watching(trouble))
        for n in range(2, 6):
            cluster.server.end_watches()
            await value(api, "one", str(n))
            await until(picture.shows(one=str(n)))
        assert picture.lists == 1
        assert picture.reported == ["new one 1", *(f"changed one {n}" for n in range(2, 6))]


async def test_a_connection_that_breaks_is_replaced_by_a_fresh_list(
    client: Client, api: Client, trouble: Trouble
) -> None:
    await api.create(MAPS, "default", a_map("one"))
    broken = 0

    async def break_it(request: web.Request) -> web.StreamResponse | None:
        nonlocal broken
        if "watch" not in request.query or broken:
            return None
        broken += 1
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await value(api, "one", "2")
        assert request.transport is not None
        request.transport.abort()
        return response

    trouble.meddle = break_it
    async with following(client) as picture:
        await until(picture.shows(one="2"))
        assert picture.lists == 2


@pytest.mark.parametrize("how", ["before it begins", "in the middle"])
async def test_after_410_gone_everything_is_listed_again_deletions_included(
    client: Client, api: Client, trouble: Trouble, how: str
) -> None:
    for name in ("stays", "goes"):
        await api.create(MAPS, "default", a_map(name))
    gone = False

    async def forget(request: web.Request) -> web.Response | None:
        nonlocal gone
        if "watch" not in request.query or gone:
            return None
        gone = True
        await api.delete(MAPS, "default", "goes")
        await value(api, "stays", "2")
        await api.create(MAPS, "default", a_map("comes"))
        if how == "before it begins":
            return refusal(410, "Expired", "too old resource version")
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
        line = msgspec.json.encode({"type": "ERROR", "object": status}) + b"\n"
        return web.Response(body=line, content_type="application/json")

    trouble.meddle = forget
    async with following(client) as picture:
        await until(picture.shows(stays="2", comes="1"))
        assert sorted(picture.reported[2:]) == ["changed stays 2", "gone goes", "new comes 1"]
        assert picture.lists == 2


async def test_a_history_that_the_server_has_forgotten_loses_nothing(tmp_path: Any) -> None:
    async with (
        running_cluster(history_events=3, bookmark_seconds=30.0) as cluster,
        Trouble(cluster.url) as trouble,
        connected(trouble.url, tmp_path) as client,
        connected(cluster.url, tmp_path) as api,
    ):
        gap = asyncio.Event()
        first = True

        async def late(request: web.Request) -> None:
            nonlocal first
            if "watch" in request.query and first:
                first = False
                await gap.wait()

        trouble.meddle = late
        await api.create(MAPS, "default", a_map("goes"))
        async with following(client) as picture:
            await api.delete(MAPS, "default", "goes")
            for n in range(5):
                await api.create(MAPS, "default", a_map(f"map-{n}"))
            gap.set()
            await until(picture.shows(**{f"map-{n}": "1" for n in range(5)}))
            assert "gone goes" in picture.reported


async def test_silence_counts_as_a_dead_watch_and_the_picture_is_made_again(
    client: Client, api: Client, trouble: Trouble
) -> None:
    await api.create(MAPS, "default", a_map("one"))
    silent = asyncio.Event()

    async def say_nothing(request: web.Request) -> web.StreamResponse | None:
        if "watch" not in request.query or silent.is_set():
            return None
        silent.set()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await asyncio.sleep(SLOW)
        return response

    trouble.meddle = say_nothing
    async with following(client, silence_seconds=0.3) as picture:
        await silent.wait()
        await value(api, "one", "2")
        await until(picture.shows(one="2"))
        assert picture.lists == 2


async def test_bookmarks_keep_a_quiet_watch_alive(client: Client, api: Client, trouble: Trouble) -> None:
    await api.create(MAPS, "default", a_map("one"))
    async with following(client, silence_seconds=0.6) as picture:
        reached = set()

        def five() -> bool:
            reached.add(picture.reflector._reached["default"])
            return len(reached) >= 3

        for n in range(3):  # of another kind, so that only bookmarks carry the new versions
            await api.create(
                PODS,
                "kube-public",
                {
                    "metadata": {"name": f"p{n}"},
                    "spec": {"containers": [{"name": "main", "image": "demo:1"}]},
                },
            )
            before = picture.reflector._reached["default"]
            await until(lambda before=before: picture.reflector._reached["default"] != before)  # type: ignore[misc]
            five()
        assert five()
        assert picture.lists == 1


async def test_a_server_that_ends_every_watch_at_once_is_not_hammered(
    client: Client, api: Client, trouble: Trouble
) -> None:
    await api.create(MAPS, "default", a_map("one"))

    async def end_at_once(request: web.Request) -> web.Response | None:
        return web.Response(body=b"") if "watch" in request.query else None

    trouble.meddle = end_at_once
    async with following(client) as picture:
        before, begun = len(requests(trouble, watches=True)), time.monotonic()
        await until(lambda: len(requests(trouble, watches=True)) >= before + 5)
        assert time.monotonic() - begun > 4 * LEAST_GAP
        trouble.meddle = None
        await value(api, "one", "2")
        await until(picture.shows(one="2"))
        assert picture.lists == 1


async def test_an_answer_that_cannot_be_read_does_not_make_it_hammer_the_server(
    client: Client, trouble: Trouble
) -> None:
    async def odd(request: web.Request) -> web.Response | None:
        if request.path.endswith("configmaps"):
            return web.json_response({"metadata": {"resourceVersion": "5"}, "items": "none"})
        return None

    trouble.meddle = odd
    reported: list[str] = []
    picture = Picture(client)
    picture.reflector.follows = reported.append
    begun = time.monotonic()
    task = asyncio.create_task(picture.reflector.run())
    await until(lambda: len(trouble.requests) >= 4)
    assert time.monotonic() - begun > 3 * LEAST_GAP
    assert not picture.reflector.synced.is_set()
    assert "cannot be read" in reported[-1]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _spoiled(line: str, name: str) -> str:
    """Return what the API server says, with an object of that name that no service can read."""
    return line.replace(f'"name":"{name}"', f'"name":"{name}","generation":"no number"')


@pytest.mark.parametrize("spoil", ["a wrong type", "10,000 lists"])
async def test_an_object_that_cannot_be_read_is_left_out_and_named_once(
    client: Client, api: Client, trouble: Trouble, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bad", "good"):
        await api.create(MAPS, "default", a_map(name))

    async def spoiled(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith("configmaps") and "watch" not in request.query:
            text = (await api.list_page(MAPS, "default", {})).decode()
            if spoil == "a wrong type":
                return web.Response(text=_spoiled(text, "bad"), content_type="application/json")
            deep = f'"data":{{"deep":{"[" * 10_000}{"]" * 10_000},'
            return web.Response(text=text.replace('"data":{', deep), content_type="application/json")
        return None

    trouble.meddle = spoiled
    left_out = _left_out.labels("configmaps")._value.get()
    async with following(client) as picture:
        if spoil == "a wrong type":
            assert picture.shows(good="1")()
        else:
            assert picture.reflector.items == {}
        await api.create(MAPS, "default", a_map("later"))
        await until(lambda: picture.reflector.get("default", "later"))
        # a watch of its own has it as it is
        await value(api, "bad", "2")
        await until(lambda: picture.reflector.get("default", "bad"))
    assert _left_out.labels("configmaps")._value.get() > left_out
    said = [line for line in caplog.messages if "configmaps default/bad is left out" in line]
    assert len(said) == 1


async def test_an_object_that_cannot_be_worked_on_harms_no_other(
    client: Client, api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    picture = Picture(client)
    report = picture._changed

    def changed(old: ConfigMap | None, new: ConfigMap | None) -> None:
        if new is not None and new.data["value"] == "bad":
            raise KeyError("odd")
        report(old, new)

    picture.reflector._changed = changed
    await api.create(MAPS, "default", a_map("one", "bad"))
    await api.create(MAPS, "default", a_map("two"))
    task = asyncio.create_task(picture.reflector.run())
    try:
        await until(picture.shows(two="1"))
        await value(api, "two", "bad")
        await until(picture.shows())
        await value(api, "one", "1")
        await until(picture.shows(one="1"))
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    said = [line for line in caplog.messages if "is left out" in line]
    assert len(said) == 2


async def test_an_object_that_becomes_unreadable_stays_as_it_was_until_it_is_deleted(
    client: Client, api: Client, trouble: Trouble
) -> None:
    made = await api.create(MAPS, "default", a_map("one"))
    lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def odd(request: web.Request) -> web.StreamResponse | None:
        if "watch" not in request.query:
            return None
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(await lines.get() + b"\n")

    trouble.meddle = odd
    bad = {"metadata": {**made["metadata"], "generation": "no number", "resourceVersion": "999999999999999"}}
    async with following(client) as picture:
        await lines.put(msgspec.json.encode({"type": "MODIFIED", "object": bad}))
        await until(lambda: picture.reflector._reached["default"] == "999999999999999")
        assert picture.shows(one="1")()
        await lines.put(msgspec.json.encode({"type": "DELETED", "object": bad}))
        await until(lambda: "gone one" in picture.reported)


async def test_a_server_that_is_away_at_first_is_waited_for(
    client: Client, api: Client, trouble: Trouble
) -> None:
    away = 5

    async def be_away(_: web.Request) -> web.Response | None:
        nonlocal away
        away -= 1
        return refusal(503, "ServiceUnavailable", "starting") if away > 0 else None

    await api.create(MAPS, "default", a_map("one"))
    trouble.meddle = be_away
    async with following(client) as picture:
        assert picture.reported == ["new one 1"]


@pytest.mark.parametrize(
    ("code", "words", "resource"),
    [
        (403, "give this service's account the rights of deploy/rbac", MAPS),
        (404, "install OpenKruise", Resource("/apis/apps.kruise.io/v1alpha1", "clonesets")),
        (404, "make install", Resource("/apis/apps.triton.io/v1alpha1", "deployflows")),
    ],
)
async def test_what_the_cluster_lacks_is_said_with_what_to_do(
    client: Client,
    trouble: Trouble,
    caplog: pytest.LogCaptureFixture,
    code: int,
    words: str,
    resource: Resource,
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return refusal(code, "Refused", "the server says no")

    trouble.meddle = refuse
    reflector = Reflector(client, resource, ConfigMap, lambda *_: None, namespaces=[])
    task = asyncio.create_task(reflector.run())
    await until(lambda: words in caplog.text)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- own writes ---


async def test_an_own_write_is_visible_at_once_and_reported_once(client: Client, api: Client) -> None:
    async with following(client) as picture:
        made = await api.create(MAPS, "default", a_map("one"))
        picture.reflector.put(made)
        assert picture.shows(one="1")()
        picture.reflector.put(made)
        await api.create(MAPS, "default", a_map("two"))
        await until(lambda: "new two 1" in picture.reported)
        assert picture.reported == ["new one 1", "new two 1"]


async def test_an_older_version_never_overwrites_a_newer_one(client: Client, api: Client) -> None:
    old = await api.create(MAPS, "default", a_map("one"))
    await value(api, "one", "2")
    async with following(client) as picture:
        picture.reflector.put(old)
        assert picture.shows(one="2")()
        assert picture.reported == ["new one 2"]


async def test_an_own_write_that_is_answered_after_the_deletion_brings_nothing_back(
    client: Client, api: Client
) -> None:
    written = await api.create(MAPS, "default", a_map("one"))
    async with following(client) as picture:
        await api.delete(MAPS, "default", "one")
        await until(picture.shows())
        picture.reflector.put(written)
        assert picture.shows()()
        assert picture.reported == ["new one 1", "gone one"]


async def test_an_object_made_by_ourselves_while_a_list_was_under_way_is_not_called_gone(
    client: Client, api: Client, trouble: Trouble
) -> None:
    picture = Picture(client)
    stale: bytes | None = None

    async def answer_late(request: web.Request) -> web.Response | None:
        nonlocal stale
        if "watch" in request.query or stale is not None or request.method != "GET":
            return None
        stale = await api.list_page(MAPS, "default", {})
        picture.reflector.put(await api.create(MAPS, "default", a_map("ours")))
        return web.Response(body=stale, content_type="application/json")

    trouble.meddle = answer_late
    task = asyncio.create_task(picture.reflector.run())
    await picture.reflector.synced.wait()
    await api.create(MAPS, "default", a_map("later"))
    await until(picture.shows(ours="1", later="1"))
    assert picture.reported == ["new ours 1", "new later 1"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- small readings ---


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (None, 0),
        ("", 0),
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T02:00:01+02:00", 1000),
        ("1970-01-01T00:00:01.250000Z", 1250),
        ("soon", 0),
        ("2026-13-45T00:00:00Z", 0),
    ],
)
def test_kubernetes_times_are_milliseconds(text: str | None, at: int) -> None:
    assert milliseconds(text) == at


@pytest.mark.parametrize(
    ("value", "total", "count"),
    [
        (None, 5, 0),
        (3, 5, 3),
        ("50%", 5, 3),
        ("0%", 5, 0),
        ("100%", 5, 5),
        ("4", 5, 4),
        ("1%", 500, 5),
        ("x", 5, 5),
        ("9" * 5_000, 5, 5),
    ],
)
def test_an_int_or_percentage_is_a_count_rounded_up(value: Any, total: int, count: int) -> None:
    assert int_or_percent(value, total) == count
