"""The certificate of the APIs, renewed under open connections of both servers."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from services.planner.api.tls import Certificate
from shared.errors import ConfigError
from shared.service.connections import Bounds
from shared.service.http_server import HttpServer, listen
from shared.service.proxies import Proxies
from tests.certificates import Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.made(tmp_path)


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def rest(certificate: Certificate) -> AsyncIterator[int]:
    server = HttpServer(
        "test",
        _hello,
        listen("127.0.0.1", 0, "test"),
        bounds=Bounds(10, 10),
        request_bytes=10_000,
        proxies=Proxies(),
        certificate=certificate.context,
    )
    port = server.port
    serving = asyncio.create_task(server.serve())
    try:
        yield port
    finally:
        server.stop()
        await serving


async def _echo(request: bytes, _context: Any) -> bytes:
    return request


@asynccontextmanager
async def rpc(certificate: Certificate) -> AsyncIterator[int]:
    server = grpc.aio.server()
    methods: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(_echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", methods),))
    port = server.add_secure_port("127.0.0.1:0", certificate.grpc())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def presented(port: int) -> str:
    """The certificate that a new connection gets, as PEM."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    anybody.set_alpn_protocols(["h2", "http/1.1"])
    async with asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anybody)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
    return ssl.DER_cert_to_PEM_cert(found)


async def test_new_connections_get_the_new_certificate_and_open_ones_stay(files: Files) -> None:
    first = files.chain.read_bytes()
    certificate = Certificate(*files)
    following = asyncio.create_task(certificate.follow(seconds=0.01))
    trusting = ssl.create_default_context(cadata=first.decode())
    credentials = grpc.ssl_channel_credentials(first)
    async with (
        rest(certificate) as rest_port,
        rpc(certificate) as rpc_port,
        httpx.AsyncClient(verify=trusting, base_url=f"https://localhost:{rest_port}") as client,
        grpc.aio.secure_channel(f"localhost:{rpc_port}", credentials) as channel,
    ):
        call: Any = channel.unary_unary("/echo.Echo/Echo")

        async def both_answer() -> None:
            assert (await client.get("/")).text == "hello"
            assert await call(b"hello", timeout=10) == b"hello"

        await both_answer()
        for port in (rest_port, rpc_port):
            assert (await presented(port)).encode() == first
        second = files.renew()
        async with asyncio.timeout(10):
            while (await presented(rest_port)).encode() != second:
                await asyncio.sleep(0.01)
        assert (await presented(rpc_port)).encode() == second
        # who trusts the first one only gets no new connection: these are the old ones
        await both_answer()
        with pytest.raises(httpx.ConnectError):
            await httpx.AsyncClient(verify=trusting).get(f"https://localhost:{rest_port}/")
        async with grpc.aio.secure_channel(
            f"localhost:{rpc_port}", grpc.ssl_channel_credentials(second)
        ) as new:
            call = new.unary_unary("/echo.Echo/Echo")
            assert await call(b"new", timeout=10) == b"new"
    following.cancel()


def _another_key(files: Files) -> None:
    chain = files.chain.read_bytes()
    files.renew()
    files.chain.write_bytes(chain)


BREAKS: dict[str, Callable[[Files], object]] = {
    "half a file": lambda files: files.chain.write_bytes(files.chain.read_bytes()[:200]),
    "the key of another": _another_key,
    "no key": lambda files: files.key.unlink(),
    "a key with a password": lambda files: subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", files.key, "-out", files.key],
        check=True,
        capture_output=True,
    ),
}


@pytest.mark.parametrize("what", BREAKS)
async def test_a_pair_that_cant_be_used_is_said_once_and_the_one_before_is_kept(
    what: str, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = files.chain.read_text()
    certificate = Certificate(*files)
    async with rest(certificate) as rest_port, rpc(certificate) as rpc_port:
        BREAKS[what](files)
        looks = 3
        for _ in range(looks):
            certificate._reload_if_changed()
        for port in (rest_port, rpc_port):
            assert await presented(port) == first
        (said,) = (line.getMessage() for line in caplog.records if line.levelno == logging.ERROR)
        assert str(files.key) in said
        assert said.endswith("; the certificate from before is kept")
        # and the next good one is taken
        second = files.renew()
        certificate._reload_if_changed()
        for port in (rest_port, rpc_port):
            assert (await presented(port)).encode() == second


@pytest.mark.parametrize("what", BREAKS)
def test_at_the_start_such_a_pair_stops_it(what: str, files: Files) -> None:
    BREAKS[what](files)
    with pytest.raises(ConfigError, match=str(files.key)):
        Certificate(*files)
