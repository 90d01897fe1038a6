"""What is no gRPC, no message or too much: each gets a code that says so, and the server serves on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from services.planner.api.grpc_server import start
from services.planner.api.protos import application_pb2, deployflow_pb2, pod_pb2, releases_v2_pb2
from tests.unit.planner.api.surroundings import World, batch, served

LIMIT = 100_000
FILES = (deployflow_pb2, application_pb2, pod_pb2, releases_v2_pb2, health_pb2, reflection_pb2)
METHODS = [
    f"/{service.full_name}/{method.name}"
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
SOUND = deployflow_pb2.DeployMetaRequest(
    deploy={"namespace": "shop", "name": "web-aaaaa"}
).SerializeToString()
EXPECTED = {
    StatusCode.OK,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.FAILED_PRECONDITION,
}


@pytest.fixture
async def channel() -> AsyncGenerator[grpc.aio.Channel]:
    world = World()
    world.flow("web-aaaaa", status={"phase": "BatchStarted", "conditions": [batch(1, "Smoking")]})
    world.cloneset()
    async with served(world, body_bytes=LIMIT) as channel:
        yield channel


async def send(channel: grpc.aio.Channel, method: str, raw: bytes) -> StatusCode:
    """How it is answered; with a first message is OK."""
    stub: Any = channel.unary_stream(method)
    call = stub(raw, timeout=20)
    try:
        if await call.read() is not grpc.aio.EOF:
            call.cancel()
            return StatusCode.OK
    except grpc.aio.AioRpcError as error:
        return error.code()
    code: StatusCode = await call.code()
    return code


def nonsense(dice: random.Random) -> bytes:
    """Bytes of no meaning, or of a little."""
    if dice.random() < 0.3:
        return dice.randbytes(dice.randrange(200))
    raw = bytearray(SOUND)
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(raw) + 1)
        match dice.randrange(4):
            case 0:
                raw[at:at] = dice.randbytes(dice.randrange(1, 12))
            case 1:
                del raw[at : at + dice.randrange(1, 6)]
            case 2:
                raw[at : at + 1] = dice.randbytes(1)
            case _:
                raw += dice.choice(
                    [b"\x12\x02\x08\x05", b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", bytes(raw)]
                )
    return bytes(raw)


async def test_nonsense_is_answered_by_every_call(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(8099)
    met = set()
    for method in METHODS:
        cases = [nonsense(dice) for _ in range(60)]
        codes = await asyncio.gather(*(send(channel, method, raw) for raw in cases))
        for raw, code in zip(cases, codes, strict=True):
            assert code in EXPECTED, f"{method} {raw!r}"
        met |= set(codes)
    assert met == EXPECTED
    assert "Traceback" not in caplog.text
    assert await send(channel, "/deployflow.DeployFlow/Get", SOUND) == StatusCode.OK


async def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.aio.Channel) -> None:
    for method in METHODS:
        for raw in (b"\xff", b"\x0a\x05", b"\x0b" * 1000):
            # reflection has answers of its own for that
            expected = StatusCode.OK if "Reflection" in method else StatusCode.INVALID_ARGUMENT
            assert await send(channel, method, raw) == expected, f"{method} {raw!r}"
    no_text = b"\x0a\x04\x0a\x02\xff\xfe"
    assert await send(channel, "/deployflow.DeployFlow/Get", no_text) == StatusCode.INVALID_ARGUMENT


async def test_a_message_above_the_limit_is_not_read(channel: grpc.aio.Channel) -> None:
    stub: Any = channel.unary_stream("/deployflow.DeployFlow/Watch")
    watch = stub(SOUND)
    await watch.read()
    raw = SOUND + bytes(2 * LIMIT)
    codes = await asyncio.gather(*(send(channel, method, raw) for method in METHODS))
    assert set(codes) == {StatusCode.RESOURCE_EXHAUSTED}
    assert await send(channel, "/deployflow.DeployFlow/Get", SOUND) == StatusCode.OK
    assert not watch.done()
    watch.cancel()


async def test_a_call_that_there_is_not_is_unimplemented(channel: grpc.aio.Channel) -> None:
    for method in ("/deployflow.DeployFlow/Create", "/other.Service/Get", "/deployflow.DeployFlow/get"):
        assert await send(channel, method, SOUND) == StatusCode.UNIMPLEMENTED


async def test_what_is_no_grpc_and_who_sends_slowly_are_in_nobodys_way() -> None:
    world = World()
    world.flow("web-aaaaa")
    server, port = await start(world.calls, host="127.0.0.1", port=0, body_bytes=LIMIT)
    opened = []
    for begin in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 5000,
        b"PRI * HT",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"",
    ):
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begin)
            opened.append(writer)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await send(channel, "/deployflow.DeployFlow/Get", SOUND) == StatusCode.OK
    for writer in opened:
        writer.transport.abort()
    await server.stop(0)
