"""REST on the cluster that is a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI

from services.planner.api.rate_limits import Unlimited
from services.planner.api.rest import application
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
    config = uvicorn.Config(
        app_of(world), port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    running = asyncio.ensure_future(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running
