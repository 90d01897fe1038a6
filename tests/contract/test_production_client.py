"""The client Triton uses in production, kubernetes.aio, on the same cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from kubernetes.aio import client, config

from shared.domain.json_types import Json

from .kube import CLONESETS, GATE, PODS, Kube, a_cloneset, a_pod, condition
from .widgets import a_widget


@pytest_asyncio.fixture
async def api(kubeconfig: Path) -> AsyncIterator[Any]:
    configuration = client.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=str(kubeconfig), client_configuration=configuration
    )
    async with client.ApiClient(configuration) as api:
        yield api


async def test_it_watches_pods_line_by_line_with_bookmarks(kube: Kube, api: Any) -> None:
    core = client.CoreV1Api(api)
    listed: Any = await core.list_namespaced_pod(kube.namespace, limit=10)
    response = await core.list_namespaced_pod_without_preload_content(
        kube.namespace,
        watch=True,
        allow_watch_bookmarks=True,
        resource_version=listed.metadata.resource_version,
    )
    try:
        await kube.made(kube.path(PODS), a_pod("one"))
        async with asyncio.timeout(20):
            kinds = [json.loads(await response.content.readline())["type"] for _ in range(3)]
    finally:
        response.close()
    assert "ADDED" in kinds


async def test_it_opens_a_gate_by_a_strategic_patch_of_the_status(kube: Kube, api: Any) -> None:
    made = await kube.made(kube.path(PODS), a_pod("one", readinessGates=[{"conditionType": GATE}]))
    body = {
        "metadata": {"uid": made["metadata"]["uid"]},
        "status": {"conditions": [{"type": GATE, "status": "True"}]},
    }
    await client.CoreV1Api(api).patch_namespaced_pod_status(
        "one", kube.namespace, body, _content_type="application/strategic-merge-patch+json"
    )
    await kube.until(kube.path(PODS, "one"), lambda pod: condition(pod, "Ready") == "True")


async def test_it_writes_custom_resources_and_sees_conflicts(kube: Kube, api: Any, widgets: str) -> None:
    assert widgets
    custom = client.CustomObjectsApi(api)
    where = ("contract.triton.io", "v1", kube.namespace, "widgets")
    made: Any = await custom.create_namespaced_custom_object(*where, a_widget("one"))
    patch: Json = {
        "metadata": {"resourceVersion": made["metadata"]["resourceVersion"]},
        "spec": {"color": "red"},
    }
    merge = "application/merge-patch+json"
    await custom.patch_namespaced_custom_object(*where, "one", patch, _content_type=merge)
    patch["spec"]["color"] = "green"
    try:
        await custom.patch_namespaced_custom_object(*where, "one", patch, _content_type=merge)
    except client.ApiException as error:
        assert error.status == 409
    else:
        raise AssertionError
    status = {"status": {"phase": "New"}}
    answer: Any = await custom.patch_namespaced_custom_object_status(
        *where, "one", status, _content_type=merge
    )
    assert answer["status"]["phase"] == "New"


async def test_it_tries_a_cloneset_with_a_dry_run(kube: Kube, api: Any) -> None:
    custom = client.CustomObjectsApi(api)
    where = ("apps.kruise.io", "v1alpha1", kube.namespace, "clonesets")
    await custom.create_namespaced_custom_object(*where, a_cloneset("web", 1), dry_run="All")
    assert (await kube.get(kube.path(CLONESETS, "web"))).code == 404
