"""Starts the servers of the APIs in the planner's process, and stops them with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio
import uvicorn

from services.planner.api import grpc_server, rest_app
from services.planner.api.access import Access, OpenAccess
from services.planner.api.calls import Calls
from services.planner.api.flow_queries import FlowQueries
from services.planner.api.flow_streams import FlowStreams
from services.planner.api.kafka_tail import KafkaTail
from services.planner.api.rate_limits import RateLimits
from services.planner.api.release_event_streams import ReleaseEventStreams
from services.planner.api.reviews import ReviewedAccess
from services.planner.api.tls import Certificate
from services.planner.intake.flow_mutations import FlowMutations
from services.planner.runtime.flow_cache import FlowCache
from shared.domain.json_types import Json
from shared.errors import ConfigError
from shared.event_store import EventStore, Query, open_store
from shared.service.health import Health
from shared.service.process import Context
from shared.settings import Settings
from shared.status_store import StatusStore

BACKLOG: Final = 1024
STOP_SECONDS: Final = 2
"""How long calls may still run; then open streams are closed, and their clients continue with another replica."""
_log = logging.getLogger(__name__)


@asynccontextmanager
async def serve_apis(context: Context, store: StatusStore, flows: FlowCache) -> AsyncIterator[None]:
    """Serve REST and gRPC until the end of the block. Raises `ConfigError` where they can't listen."""
    settings = context.settings
    # a client of their own: calls take no connection from the releases' requests
    client = await context.kubernetes()
    flow_queries = FlowQueries(store, flows, client)
    streams = FlowStreams(flow_queries, flows)
    tail = KafkaTail(settings)
    tail.listeners.append(streams.receive)
    tail.lost.append(streams.recheck_all)
    log = ReleaseLog(settings)
    context.stack.push_async_callback(log.close)
    access: Access = OpenAccess()
    if settings.api_auth == "kubernetes":
        # another client: calls of some must not keep others from logging in
        access = ReviewedAccess(await context.kubernetes(), seconds=settings.api_auth_cache_seconds)
    event_streams = ReleaseEventStreams(settings, tail)
    calls = Calls(
        access,
        flow_queries,
        FlowMutations(client, flows, flow_queries.status),
        streams,
        client,
        log,
        event_streams,
        settings.namespaces,
    )
    limits = RateLimits(settings.api_requests_per_second)
    certificate = None
    if settings.api_tls_cert_file and settings.api_tls_key_file:
        certificate = Certificate(settings.api_tls_cert_file, settings.api_tls_key_file)
        context.spawn(certificate.follow(), "following the certificate")
    elif settings.api_auth == "kubernetes":
        _log.warning(
            "without TLS (TRITON_API_TLS_CERT_FILE) everybody on the network path can read the callers' tokens"
        )
    context.spawn(tail.run(), "following Kafka")
    context.spawn(streams.recheck_forever(), "checking what is watched")
    app = rest_app.application(
        calls,
        limits=limits,
        body_bytes=settings.api_body_bytes,
        refuses_web_pages=settings.api_auth == "none",
    )
    listening = listen(settings.api_host, settings.api_port, "TRITON_API_PORT")
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    if certificate is not None:
        config.load()
        config.ssl = certificate.context
    server = uvicorn.Server(config)
    served = asyncio.Event()
    context.spawn(_serve(server, listening, served), "REST server")
    by_grpc, port = await _grpc(settings, calls, limits, certificate, context.health)
    at = (*listening.getsockname()[:2], port)
    _log.info("REST at %s:%s, gRPC at port %s, %s", *at, _who(settings))
    try:
        yield
    finally:
        server.should_exit = True
        await by_grpc.stop(STOP_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(served.wait(), STOP_SECONDS + 1)


async def _serve(server: uvicorn.Server, listening: socket.socket, served: asyncio.Event) -> None:
    try:
        await server._serve(sockets=[listening])
    finally:
        served.set()


class ReleaseLog:
    """The event store, opened at the first search: its client takes 15 MB, which most planners never need."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: EventStore | None = None

    async def search(self, query: Query) -> list[Json]:
        """Search as `EventStore.search` does."""
        if self._store is None:
            self._store = open_store(self._settings)
        return await self._store.search(query)

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()


async def _grpc(
    settings: Settings, calls: Calls, limits: RateLimits, certificate: Certificate | None, health: Health
) -> tuple[grpc.aio.Server, int]:
    # its own error does not say which setting it is about
    listen(settings.api_host, settings.grpc_port, "TRITON_GRPC_PORT").close()
    return await grpc_server.start(
        calls,
        host=settings.api_host,
        port=settings.grpc_port,
        body_bytes=settings.api_body_bytes,
        limits=limits,
        credentials=certificate.grpc() if certificate else None,
        ready=lambda: health.ready,
    )


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Return a socket that listens; raise `ConfigError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        msg = f"{setting}: can't listen at {host}:{port} ({error.strerror}): give a port that is free, or 0 for any"
        raise ConfigError(msg) from error


def _who(settings: Settings) -> str:
    if settings.api_auth == "kubernetes":
        return "for the accounts of the cluster"
    return "for this machine alone: nobody has to log in (TRITON_API_AUTH=kubernetes)"
