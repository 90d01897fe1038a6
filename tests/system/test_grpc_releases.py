"""Releases that programs begin over gRPC with a whole template: see docs/grpc.md."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from sandbox.environment import Sandbox
from services.planner.api.protos import releases_v2_pb2, releases_v2_pb2_grpc
from tests.system.other_system import deploy
from tests.system.releases import Releases

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


async def test_a_create_and_an_update_over_grpc_are_released(sandbox: Sandbox, releases: Releases) -> None:
    async with grpc.aio.insecure_channel(next(iter(sandbox.grpc_addresses.values()))) as channel:
        stub = releases_v2_pb2_grpc.ReleasesStub(channel)
        for call, image in ((stub.Create, "web:1.0"), (stub.Update, "web:2.0")):
            spec = deploy("", "by-grpc", image=image, replicas=2)["spec"]
            fields = {"namespace": "default"} | {key: spec[key] for key in ("application", "updateStrategy")}
            reply = await call(ParseDict(fields, releases_v2_pb2.NewRelease()))
            await releases.finished(reply.deploy.name, "Success")
            pods = await releases.pods("by-grpc")
            assert [pod["spec"]["containers"][0]["image"] for pod in pods] == [image] * 2
