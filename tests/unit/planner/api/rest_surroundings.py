"""REST on the cluster that is a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from services.planner.api.rate_limits import Unlimited
from services.planner.api.rest_app import application
from shared.service.connections import Bounds
from shared.service.http_server import HttpServer, listen
from shared.service.proxies import Proxies
from tests.unit.planner.api.surroundings import World

BODY_BYTES = 10_000


def app_of(world: World) -> FastAPI:
    return application(world.calls, limits=Unlimited(), body_bytes=BODY_BYTES)


def client_of(world: World, base: str = "/api/v2/namespaces/shop") -> httpx.AsyncClient:
    """Without a server."""
    transport = httpx.ASGITransport(app_of(world), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=f"http://triton{base}")


@asynccontextmanager
async def listening(world: World) -> AsyncGenerator[int]:
    """The port of a server."""
    server = HttpServer(
        "test",
        app_of(world),
        listen("127.0.0.1", 0, "test"),
        bounds=Bounds(1_000, 1_000),
        request_bytes=10 * BODY_BYTES,
        proxies=Proxies(),
        stop_seconds=1,
    )
    port = server.port
    running = asyncio.ensure_future(server.serve())
    try:
        yield port
    finally:
        server.stop()
        await running
