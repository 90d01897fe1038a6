"""Lists and watches: what a reflector is built on."""

from __future__ import annotations

import pytest

from .conftest import REAL
from .kube import PATIENCE, PODS, Kube, a_config, a_pod, name

CONFIGS = "/api/v1/namespaces/{}/configmaps"


async def _three(kube: Kube) -> None:
    for called, tier in (("a", "front"), ("b", "back"), ("c", "back")):
        await kube.made(
            kube.path(CONFIGS),
            a_config(called, labels={"tier": tier, **({"x": "1"} if called == "c" else {})}),
        )


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("tier=back", "bc"),
        ("tier==back,x", "c"),
        ("tier,tier!=back", "a"),
        ("tier in (front,middle)", "a"),
        ("tier,tier notin (front)", "bc"),
        ("!x,tier", "ab"),
        ("tier=none", ""),
    ],
)
async def test_labels_select(kube: Kube, selector: str, found: str) -> None:
    await _three(kube)
    listed = (await kube.get(kube.path(CONFIGS), labelSelector=selector)).body
    assert "".join(name(item) for item in listed["items"]) == found


async def test_a_set_based_selector_takes_objects_without_the_label(kube: Kube) -> None:
    await _three(kube)
    listed = (await kube.get(kube.path(CONFIGS), labelSelector="tier notin (back)")).body
    assert "a" in [name(item) for item in listed["items"]]
    assert "b" not in [name(item) for item in listed["items"]]


async def test_fields_select_and_unknown_ones_are_refused(kube: Kube) -> None:
    await _three(kube)
    listed = (await kube.get(kube.path(CONFIGS), fieldSelector="metadata.name=b")).body
    assert [name(item) for item in listed["items"]] == ["b"]
    await kube.made(kube.path(PODS), a_pod("one"))
    await kube.until(
        kube.path(PODS), lambda found: len(found["items"]) == 1, fieldSelector="status.phase=Running"
    )
    pod = (await kube.get(kube.path(PODS, "one"))).body
    for selector in (f"spec.nodeName={pod['spec']['nodeName']}", "status.phase!=Pending"):
        assert len((await kube.get(kube.path(PODS), fieldSelector=selector)).body["items"]) == 1
    assert (await kube.get(kube.path(PODS), fieldSelector="spec.hostname=x")).code == 400


async def test_a_list_comes_in_pages_of_one_version(kube: Kube) -> None:
    for n in range(5):
        await kube.made(kube.path(CONFIGS), a_config(f"p{n}", labels={"page": "yes"}))
    names: list[str] = []
    versions, token = set(), ""
    while True:
        page = (
            await kube.get(
                kube.path(CONFIGS),
                limit="2",
                labelSelector="page=yes",
                **({"continue": token} if token else {}),
            )
        ).body
        names += [name(item) for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue", "")
        if not token:
            break
        await kube.delete(kube.path(CONFIGS, "p4"))
    assert names == [f"p{n}" for n in range(5)]
    assert len(versions) == 1


async def test_a_continue_token_nobody_gave_is_refused(kube: Kube) -> None:
    assert (await kube.get(kube.path(CONFIGS), limit="2", **{"continue": "bm90IGEgdG9rZW4"})).code == 400


async def test_a_watch_reports_what_happened_after_a_version(kube: Kube) -> None:
    version = (await kube.get(kube.path(CONFIGS))).body["metadata"]["resourceVersion"]
    await kube.made(kube.path(CONFIGS), a_config("one", labels={"w": "1"}))
    await kube.patch(kube.path(CONFIGS, "one"), {"data": {"a": "2"}})
    async with kube.watch(kube.path(CONFIGS), resourceVersion=version, labelSelector="w=1") as watching:
        assert await watching.names(2) == ["ADDED one", "MODIFIED one"]
        await kube.delete(kube.path(CONFIGS, "one"))
        last = await watching.event()
        assert last["type"] == "DELETED"
        assert int(last["object"]["metadata"]["resourceVersion"]) > int(version)


async def test_a_watch_without_a_version_begins_with_what_is_there(kube: Kube) -> None:
    await kube.made(kube.path(CONFIGS), a_config("one", labels={"w": "1"}))
    for start in ({}, {"resourceVersion": "0"}):
        async with kube.watch(kube.path(CONFIGS), labelSelector="w=1", **start) as watching:
            assert await watching.names(1) == ["ADDED one"]


async def test_what_leaves_the_selector_is_deleted_for_the_watcher(kube: Kube) -> None:
    await kube.made(kube.path(CONFIGS), a_config("one", labels={"w": "1"}))
    version = (await kube.get(kube.path(CONFIGS))).body["metadata"]["resourceVersion"]
    async with kube.watch(kube.path(CONFIGS), labelSelector="w=1", resourceVersion=version) as watching:
        moved = await kube.patch(kube.path(CONFIGS, "one"), {"metadata": {"labels": {"w": "2"}}})
        left = await watching.event()
        assert left["type"] == "DELETED"
        assert left["object"]["metadata"]["resourceVersion"] == moved.body["metadata"]["resourceVersion"]
        await kube.patch(kube.path(CONFIGS, "one"), {"metadata": {"labels": {"w": "1"}}})
        assert await watching.names(1) == ["ADDED one"]


async def test_a_watch_of_one_name_sees_only_that(kube: Kube) -> None:
    async with kube.watch(
        kube.path(CONFIGS), fieldSelector="metadata.name=b", resourceVersion="0"
    ) as watching:
        await _three(kube)
        assert await watching.names(1) == ["ADDED b"]


async def test_a_quiet_watch_gets_bookmarks_that_move_on(kube: Kube) -> None:
    version = (await kube.get(kube.path(CONFIGS))).body["metadata"]["resourceVersion"]
    limit = 90.0 if REAL else PATIENCE
    async with kube.watch(
        kube.path(CONFIGS), resourceVersion=version, allowWatchBookmarks="true", labelSelector="nothing=here"
    ) as watching:
        await kube.made(kube.path(CONFIGS), a_config("elsewhere"))
        bookmark = await watching.event("BOOKMARK", limit=limit)
        while int(bookmark["object"]["metadata"]["resourceVersion"]) <= int(version):
            bookmark = await watching.event("BOOKMARK", limit=limit)
        assert bookmark["object"]["kind"] == "ConfigMap"
        assert "data" not in bookmark["object"]


async def test_a_watch_from_too_long_ago_says_gone_or_reports_all_since(kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one"))
    async with kube.watch(kube.path(PODS), resourceVersion="1") as watching:
        if watching.code == 410:
            return
        event = await watching.event()
        if REAL and event["type"] == "ADDED":
            # a server that was started a minute ago still has its whole history
            assert event["object"]["metadata"]["name"] == "one"
            return
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_a_watch_ends_in_good_order_after_its_timeout(kube: Kube) -> None:
    async with kube.watch(kube.path(CONFIGS), timeoutSeconds="1", resourceVersion="0") as watching:
        assert await watching.is_ended()


async def test_a_watch_over_all_namespaces_sees_each(kube: Kube) -> None:
    async with kube.watch("/api/v1/configmaps", labelSelector=f"space={kube.namespace}") as watching:
        await kube.made(kube.path(CONFIGS), a_config("one", labels={"space": kube.namespace}))
        event = await watching.event()
        assert event["object"]["metadata"]["namespace"] == kube.namespace
