"""What clients of Triton 0.1.x rely on in gRPC: where a watch ends, and what may be called right after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.json_format import ParseDict

from sandbox.environment import Sandbox
from services.planner.api.protos import (
    application_pb2,
    application_pb2_grpc,
    deployflow_pb2,
    deployflow_pb2_grpc,
    releases_v2_pb2,
    releases_v2_pb2_grpc,
)
from shared.domain.json_types import Json
from tests.system.releases import Releases, deployflow
from tests.system.whole_releases import SOON

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

PATIENCE_SECONDS = 30


@pytest_asyncio.fixture(loop_scope="session")
async def api(sandbox: Sandbox) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(next(iter(sandbox.grpc_addresses.values()))) as channel:
        yield SimpleNamespace(
            flows=deployflow_pb2_grpc.DeployFlowStub(channel),
            applications=application_pb2_grpc.ApplicationStub(channel),
            releases=releases_v2_pb2_grpc.ReleasesStub(channel),
        )


def _about(name: str) -> Json:
    return {"deploy": {"namespace": "default", "name": name}}


async def _watched(api: Any, name: str, **target: Any) -> Any:
    """Return the last state that a watch sends. An empty target is none."""
    fields = _about(name) | ({"target": target} if target else {})
    last: Any = None
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for reply in api.flows.Watch(ParseDict(fields, deployflow_pb2.WatchRequest())):
            last = reply.deploy
    return last


async def _next(api: Any, name: str) -> None:
    await api.flows.Next(ParseDict(_about(name), deployflow_pb2.NextRequest()))


async def test_next_is_accepted_right_after_each_watch(releases: Releases, api: Any) -> None:
    await releases.create("old-stepped", 3)
    body: Json = {"image": "nginx:2", "replicas": 3, "batchSize": 1, "mode": "manual", "annotations": SOON}
    name = await releases.apply(deployflow("old-stepped-up", "old-stepped", **body))
    for number, target in ((1, {}), (2, {"batches": 3, "stage": "Pending"})):
        state = await _watched(api, name, **target)
        assert (len(state.conditions), state.finishedBatches, state.finished) == (number, number, False)
        await _next(api, name)
    state = await _watched(api, name)
    assert (state.phase, state.finishedBatches) == ("Success", 3)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _next(api, name)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_a_watch_of_a_release_in_mode_auto_ends_with_its_first_batch(
    releases: Releases, api: Any
) -> None:
    await releases.create("old-auto", 2)
    body: Json = {"image": "nginx:2", "replicas": 2, "batchSize": 1, "batchIntervalSeconds": 2}
    name = await releases.apply(deployflow("old-auto-up", "old-auto", annotations=SOON, **body))
    state = await _watched(api, name)
    assert (state.finishedBatches, state.finished) == (1, False)
    await _next(api, name)
    assert (await _watched(api, name)).phase == "Success"


async def test_an_empty_target_approves_nothing(releases: Releases, api: Any) -> None:
    fields: Json = {"image": "nginx:1", "replicas": 1, "stage": "Smoked", "annotations": SOON}
    name = await releases.apply(deployflow("old-empty-first", "old-empty", action="create", **fields))
    assert (await _watched(api, name)).conditions[-1].phase == "Smoked"
    empty = ParseDict(_about(name) | {"target": {}}, deployflow_pb2.ContinueRequest())
    assert (await api.flows.Continue(empty)).deploy.conditions[-1].phase == "Smoked"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api.flows.Continue(ParseDict(_about(name), deployflow_pb2.ContinueRequest()))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    for _ in range(2):
        await _next(api, name)
        await _watched(api, name)
    await releases.finished(name, "Success")


async def test_a_scale_to_the_present_count_succeeds_and_changes_nothing(
    releases: Releases, api: Any
) -> None:
    await releases.create("old-same", 2)
    before = {pod["metadata"]["uid"] for pod in await releases.pods("old-same")}
    instance = {"namespace": "default", "name": "old-same"}
    made = await api.applications.Scale(application_pb2.ScaleRequest(instance=instance, replicas=2))
    status = await releases.finished(made.deployName, "Success")
    assert (status["batches"], status["conditions"]) == (0, [])
    assert {pod["metadata"]["uid"] for pod in await releases.pods("old-same")} == before
    found = await api.applications.Get(application_pb2.InstanceMetaRequest(instance=instance))
    assert (found.instance.cpu, found.instance.memory) == ("0", "0")


async def test_an_instance_is_created_again_right_after_its_delete(releases: Releases, api: Any) -> None:
    await releases.create("old-again", 2)
    before = {pod["metadata"]["uid"] for pod in await releases.pods("old-again")}
    instance = {"namespace": "default", "name": "old-again"}
    await api.applications.Delete(application_pb2.InstanceMetaRequest(instance=instance))
    spec = deployflow("", "old-again", action="create", replicas=1, annotations=SOON)["spec"]
    fields = {"namespace": "default"} | {key: spec[key] for key in ("application", "updateStrategy")}
    made = await api.releases.Create(ParseDict(fields, releases_v2_pb2.NewRelease()))
    await releases.finished(made.deploy.name, "Success")
    await releases.serves("old-again", 1)
    assert not before & {pod["metadata"]["uid"] for pod in await releases.pods("old-again")}
