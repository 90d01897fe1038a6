"""Callers that are slow, or that never read: the others do not notice, and memory is bounded."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import Any

import httpx
import pytest

from services.planner.api import release_event_streams
from services.planner.api.release_event_streams import _LiveEvents
from services.planner.api.sse import EventStream
from shared.domain.record import Record
from shared.domain.topics import DEPLOYFLOW_EVENTS
from tests.unit.parts import until
from tests.unit.planner.api.rest_surroundings import listening
from tests.unit.planner.api.surroundings import World, batch

FLOWS = "/api/v2/namespaces/shop/deployflows"
WATCH = f"GET {FLOWS}/web-1/watch HTTP/1.1\r\nHost: x\r\n\r\n".encode()
STREAMS = 500


async def test_a_body_that_comes_byte_by_byte_holds_up_nobody_and_is_read() -> None:
    world = World()
    world.flow("web-1", status={"phase": "BatchStarted"})
    body = json.dumps({"batch": 1, "stage": "Smoked"}).encode()
    head = f"POST {FLOWS}/web-1/next HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    async with listening(world) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as others:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            assert (await others.get(f"{FLOWS}/web-1")).status_code == 200
        assert b" 409 " in await reader.readline()
        writer.close()


async def test_a_body_that_never_comes_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.planner.api.request_guard.BODY_SECONDS", 0.05)
    async with listening(World()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST {FLOWS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n".encode()
        )
        assert b" 408 " in await reader.readline()
        writer.close()


async def test_a_watcher_that_never_reads_costs_no_more_than_its_newest_state() -> None:
    world = World()
    world.flow("web-1", status={"phase": "BatchStarted"})
    async with listening(world) as port:
        deaf = await asyncio.open_connection("127.0.0.1", port, limit=1)
        deaf[1].write(WATCH)
        await until(lambda: len(world.streams) == 1)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as others:
            tracemalloc.start()
            for number in range(300):
                # each some 100 KB
                world.says("web-1", message=f"{number:07}" * 14_000, conditions=[batch(1, "Smoking")])
                await asyncio.sleep(0)
            answer = await others.get(f"{FLOWS}/web-1")
            assert answer.json()["status"]["message"].startswith("0000299")
            kept, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert kept < 5_000_000
        deaf[1].transport.abort()
        await until(lambda: len(world.streams) == 0)


async def test_five_hundred_idle_streams_all_hear_of_the_end() -> None:
    world = World()
    world.flow("web-1", status={"phase": "BatchStarted"})
    async with listening(world) as port:
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(STREAMS)]
        for _, writer in connections:
            writer.write(WATCH)
        await until(lambda: len(world.streams) == STREAMS)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as others:
            assert (await others.get(f"{FLOWS}/web-1")).status_code == 200
        world.says("web-1", phase="Success", finished=True)
        for reader, writer in connections:
            # the last chunk of the answer
            said = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 20)
            assert b'"Success"' in said
            writer.close()
        await until(lambda: len(world.streams) == 0)


async def test_a_reader_of_events_that_falls_behind_is_cut_off_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(release_event_streams, "MOST_UNREAD", 3)
    live = _LiveEvents()
    event = {"flow": {"uid": "u"}, "reason": "BatchSmoked", "phase": "BatchStarted"}
    value = json.dumps(event).encode()
    for offset in range(10):
        live.put(Record(DEPLOYFLOW_EVENTS, "shop/web", value, {}, 0, offset, 0))
    assert len(live.records) == 3

    async def not_over() -> bool:
        return False

    heard = [
        streamed.id async for streamed in release_event_streams._follow(live, "u", 0, not_over, 1) if streamed
    ]
    assert heard == [1, 2], "what it has already is not sent again, and what is missing it has to request"


async def test_a_stream_ends_with_its_reader() -> None:
    ended = asyncio.Event()

    async def never() -> Any:
        try:
            yield b""
            await asyncio.Event().wait()
        finally:
            ended.set()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    await EventStream(never())({}, receive, send)
    assert ended.is_set()
    assert sent[0]["status"] == 200
