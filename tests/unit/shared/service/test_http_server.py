"""What callers send beyond the bounds of a server ends their own connection, by uvloop as in the services."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from prometheus_client import REGISTRY

from shared.service import connections, http_server
from shared.service.connections import Bounds
from shared.service.http_server import HEAD_BYTES, HttpServer, listen
from shared.service.proxies import Proxies
from tests.certificates import Files
from tests.unit.parts import until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
REQUEST_BYTES = 200_000


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    size = 2_000_000 if scope["path"] == "/large" else 5
    headers = [(b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"h" * size})


@asynccontextmanager
async def served(*, most: int = 100, certificate: ssl.SSLContext | None = None) -> AsyncIterator[HttpServer]:
    server = HttpServer(
        "test",
        _hello,
        listen("127.0.0.1", 0, "test"),
        bounds=Bounds(most, most),
        request_bytes=REQUEST_BYTES,
        proxies=Proxies(),
        certificate=certificate,
        stop_seconds=1,
    )
    serving = asyncio.create_task(server.serve())
    try:
        yield server
    finally:
        server.stop()
        await serving


def by_uvloop(
    test: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., None]:
    def run(*arguments: Any, **named: Any) -> None:
        uvloop.run(asyncio.wait_for(test(*arguments, **named), 30))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__wrapped__ = test  # type: ignore[attr-defined] # for the fixtures by name
    return run


async def answer_to(server: HttpServer, *parts: bytes) -> bytes:
    """All that is answered until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for part in parts:
            if not writer.transport.is_closing():
                writer.write(part)
            await asyncio.sleep(0.01)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def refused(reason: str) -> float:
    labels = {"server": "test", "reason": reason}
    return REGISTRY.get_sample_value("triton_http_refused_total", labels) or 0


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 3 * HEAD_BYTES,
        b"GET /" + b"x" * 3 * HEAD_BYTES,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 10_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 150 + b"\r\n",
    ],
    ids=["a value", "a path", "fields", "fields that end"],
)
@by_uvloop
async def test_a_header_that_is_too_large_is_431(head: bytes) -> None:
    before = refused("HeadTooLarge")
    async with served() as server:
        answer = await answer_to(server, head)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"HeadTooLarge" in answer
        assert refused("HeadTooLarge") == before + 1
        assert len(server.connections) == 0


@by_uvloop
async def test_large_headers_within_the_bounds_are_read() -> None:
    token = b"Authorization: Bearer " + b"t" * 20_000
    async with served() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(2):
            writer.write(GET.replace(b"\r\n\r\n", b"\r\n" + token + b"\r\n\r\n"))
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            await reader.readuntil(b"hhhhh")
        writer.close()


@by_uvloop
async def test_a_flood_of_headers_holds_up_nobody() -> None:
    async with served() as server:

        async def flood() -> None:
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000)
                await asyncio.gather(reader.read(), return_exceptions=True)
                writer.transport.abort()

        floods = [asyncio.create_task(flood()) for _ in range(5)]
        worst = 0.0
        while not all(task.done() for task in floods):
            # of this process, with the server and the flood: how busy the machine is does not matter
            began = time.process_time()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET)
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()
            worst = max(worst, time.process_time() - began)
        await asyncio.gather(*floods)
        assert worst < 1
    assert len(server.connections) == 0


@pytest.mark.parametrize(
    ("sent", "status"), [(b"GET / HT", b"HTTP/1.1 408 "), (b"", b"")], ids=["half a header", "nothing"]
)
@by_uvloop
async def test_a_header_that_does_not_come_ends_the_connection(sent: bytes, status: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEAD_SECONDS", 0.1)
        patch.setattr(http_server, "SWEEP_SECONDS", 0.05)
        async with served() as server:
            answer = await answer_to(server, sent)
            assert answer.startswith(status)
            assert bool(answer) == bool(status)
            await until(lambda: len(server.connections) == 0)


@by_uvloop
async def test_a_header_that_comes_byte_by_byte_is_no_way_to_stay() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEAD_SECONDS", 0.2)
        patch.setattr(http_server, "SWEEP_SECONDS", 0.05)
        async with served() as server:
            answer = await answer_to(server, b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 90)
            assert answer == b"" or b" 408 " in answer
            await until(lambda: len(server.connections) == 0)


@by_uvloop
async def test_a_body_that_nobody_reads_ends_in_time_and_in_bounds() -> None:
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEAD_SECONDS", 0.1)
        patch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.1)
        patch.setattr(http_server, "SWEEP_SECONDS", 0.05)
        async with served() as server:
            assert (await answer_to(server, body)).startswith(b"HTTP/1.1 200 ")
            await answer_to(server, body, *[b"x" * 50_000] * 10)
            await until(lambda: len(server.connections) == 0)


@pytest.mark.parametrize(
    "endless",
    [b"Trailer: x\r\n" * 200_000, b"X: " + b"x" * 2_000_000],
    ids=["trailers", "a trailer"],
)
@by_uvloop
async def test_trailers_are_bounded_too(endless: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    async with served() as server:
        await answer_to(server, head, endless)
        await until(lambda: len(server.connections) == 0)


@by_uvloop
async def test_requests_that_do_not_wait_for_their_answers_are_bounded() -> None:
    async with served() as server:
        last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        assert (await answer_to(server, GET * 4 + last)).count(b"HTTP/1.1 200 OK") == 5
        before = refused("TooManyRequests")
        many = await answer_to(server, GET * 5_000)
        assert many.count(b"HTTP/1.1 200 OK") <= http_server.MOST_PIPELINED
        assert refused("TooManyRequests") == before + 1
        await until(lambda: len(server.connections) == 0)


@by_uvloop
async def test_what_is_no_request_is_400() -> None:
    async with served() as server:
        assert (await answer_to(server, b"\x16\x03\x01 nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


@by_uvloop
async def test_an_answer_that_nobody_reads_is_given_up() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_server, "UNREAD_SECONDS", 0.2)
        patch.setattr(connections, "HEAD_SECONDS", 0.1)
        patch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.1)
        patch.setattr(http_server, "SWEEP_SECONDS", 0.05)
        async with served() as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
            for _ in range(10):
                writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: len(server.connections) == 1)
            await until(lambda: len(server.connections) == 0)
            writer.transport.abort()


@by_uvloop
async def test_half_open_connections_keep_nobody_out() -> None:
    async with served(most=20) as server:
        half = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(60)]
        for _, writer in half:
            writer.write(b"GET / HT")
        await until(lambda: len(server.connections) == 20)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert len(server.connections) == 20
        for _, other in (*half, (reader, writer)):
            other.transport.abort()
        await until(lambda: len(server.connections) == 0)


@by_uvloop
async def test_handshakes_that_do_not_end_are_connections_too(tmp_path: Path) -> None:
    files = Files.made(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)
    client = ssl.create_default_context(cafile=files.chain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEAD_SECONDS", 0.5)
        patch.setattr(http_server, "SWEEP_SECONDS", 0.05)
        async with served(most=5, certificate=context) as server:
            silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
            await until(lambda: len(server.connections) == 5)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=client, server_hostname="localhost"
            )
            writer.write(GET)
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.transport.abort()
            await until(lambda: len(server.connections) == 0)
            for silent_reader, silent_writer in silent:
                assert await silent_reader.read() == b""
                silent_writer.close()


@by_uvloop
async def test_the_server_stops_with_connections_open() -> None:
    async with served() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /")
        await until(lambda: len(server.connections) == 1)
    assert await reader.read() == b""
    writer.close()
