"""Starts the servers of the APIs in the planner's process, and stops them with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio

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
from shared.event_store import EventStore, Query, open_store
from shared.service.connections import Bounds
from shared.service.health import Health
from shared.service.http_server import HEAD_BYTES, HttpServer, listen
from shared.service.process import Context
from shared.service.proxies import Proxies
from shared.settings import Settings
from shared.status_store import StatusStore

REQUEST_OVERHEAD: Final = 2
"""How many times larger than its body a request may be, with its header and the marks of its chunks."""
OTHER_FILES: Final = 300
"""Open files that the planner needs besides those of its callers' connections."""
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
        FlowMutations(client, flows, flow_queries.with_statuses),
        streams,
        client,
        log,
        event_streams,
        settings.namespaces,
        settings.api_streams_per_caller,
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
    proxies = Proxies(settings.api_trusted_proxies)
    app = rest_app.application(
        calls,
        limits=limits,
        proxies=proxies,
        requests_of_caller=settings.api_connections_per_caller,
        body_bytes=settings.api_body_bytes,
        refuses_web_pages=settings.api_auth == "none",
    )
    listening = listen(settings.api_host, settings.api_port, "TRITON_API_PORT")
    most = _connections(settings.api_connections)
    server = HttpServer(
        "rest",
        app,
        listening,
        bounds=Bounds(most, settings.api_connections_per_caller),
        request_bytes=REQUEST_OVERHEAD * settings.api_body_bytes + HEAD_BYTES,
        proxies=proxies,
        certificate=certificate.context if certificate else None,
        stop_seconds=STOP_SECONDS,
    )
    served = asyncio.Event()
    context.spawn(_serve(server, served), "REST server")
    at = listening.getsockname()[:2]
    by_grpc, port = await _grpc(settings, calls, limits, certificate, context.health, proxies, most)
    at = (*at, port)
    _log.info("REST at %s:%s, gRPC at port %s, %s", *at, _who(settings))
    try:
        yield
    finally:
        server.stop()
        await by_grpc.stop(STOP_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(served.wait(), STOP_SECONDS + 1)


async def _serve(server: HttpServer, served: asyncio.Event) -> None:
    try:
        await server.serve()
    finally:
        served.set()


def _connections(wanted: int) -> int:
    """Return how many connections REST and gRPC may have each: what is wanted, or what the limit of files allows."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if files == resource.RLIM_INFINITY else max((files - OTHER_FILES) // 2, 10)
    if allowed < wanted:
        _log.warning(
            "TRITON_API_CONNECTIONS: %s connections, not %s: the process may open %s files",
            allowed,
            wanted,
            files,
        )
    return min(allowed, wanted)


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
    settings: Settings,
    calls: Calls,
    limits: RateLimits,
    certificate: Certificate | None,
    health: Health,
    proxies: Proxies,
    connections: int,
) -> tuple[grpc.aio.Server, int]:
    # its own error does not say which setting it is about
    listen(settings.api_host, settings.grpc_port, "TRITON_GRPC_PORT").close()
    return await grpc_server.start(
        calls,
        host=settings.api_host,
        port=settings.grpc_port,
        body_bytes=settings.api_body_bytes,
        limits=limits,
        proxies=proxies,
        connections=connections,
        calls_of_caller=settings.api_connections_per_caller,
        credentials=certificate.grpc() if certificate else None,
        ready=lambda: health.ready,
    )


def _who(settings: Settings) -> str:
    if settings.api_auth == "kubernetes":
        return "for the accounts of the cluster"
    return "for this machine alone: nobody has to log in (TRITON_API_AUTH=kubernetes)"
