"""The gRPC API: its server, and the login, limits and errors of every call.

The metadata of a call: `authorization: Bearer …`, `x-requested-by` (the caller, where nobody has to log in),
`idempotency-key` (a call with the same key is carried out once). A refusal has its reason in the trailing metadata
`triton-reason`, and in `retry-after` the seconds after which to try again.
"""
# ruff: noqa: N802 - the methods have the names that the protocol gives them

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from prometheus_client import Counter

from services.planner.api.access import Caller, authenticate
from services.planner.api.caller_shares import CallerShares
from services.planner.api.calls import Calls
from services.planner.api.change_calls import ChangeRequest
from services.planner.api.grpc_services import Application, DeployFlow, Pod, Releases
from services.planner.api.problem import Kind, Problem
from services.planner.api.protos import application_pb2, deployflow_pb2, pod_pb2, releases_v2_pb2
from services.planner.api.rate_limits import RateLimiter, Unlimited
from services.planner.api.streaming_calls import STREAMS
from shared.domain.requesters import Via
from shared.service.connections import BODY_SECONDS, HEAD_SECONDS
from shared.service.proxies import Proxies

STREAMS_PER_CONNECTION: Final = 1000
UNANSWERED: Final = 1000
"""Calls that may be in progress at one planner beside the streams."""
IDLE_SECONDS: Final = 300
HEALTH_SECONDS: Final = 1.0
"""How often a change of the health is sent to those who watch it."""
DETAIL_BYTES: Final = 2000
"""Metadata of more than 8 KiB is not delivered, and what is not ASCII comes three times as long."""

_SERVICES: Final = (
    (deployflow_pb2.DESCRIPTOR.services_by_name["DeployFlow"], DeployFlow),
    (application_pb2.DESCRIPTOR.services_by_name["Application"], Application),
    (pod_pb2.DESCRIPTOR.services_by_name["Pod"], Pod),
    (releases_v2_pb2.DESCRIPTOR.services_by_name["Releases"], Releases),
)
_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"]
_Context = grpc.aio.ServicerContext[Any, Any]
_Requests = AsyncIterator[bytes]
_Behaviour = Callable[[Any, ChangeRequest], Any]

_requests = Counter("triton_grpc_requests_total", "Requests to the gRPC API", ["method", "code"])
_log = logging.getLogger(__name__)


async def start(
    calls: Calls,
    *,
    host: str,
    port: int,
    body_bytes: int,
    limits: RateLimiter = Unlimited(),  # noqa: B008 - it has no state
    proxies: Proxies | None = None,
    connections: int = 1000,
    calls_of_caller: int = 500,
    credentials: grpc.ServerCredentials | None = None,
    ready: Callable[[], bool] = lambda: True,
) -> tuple[grpc.aio.Server, int]:
    """Start a server and return it with its port; `port` 0: any that is free. `body_bytes`: the largest message read.

    `proxies`: those that name their callers; `connections`: open ones in all; `calls_of_caller`: those in progress of one
    address. `credentials`: for TLS, without them plaintext. `ready`: the answer of the health service.
    Ended by `stop(seconds)`. Raises `RuntimeError` where the address can't be had.
    """
    server = grpc.aio.server(
        options=_options(body_bytes, connections), maximum_concurrent_rpcs=STREAMS + UNANSWERED
    )
    shares = CallerShares(calls_of_caller, "calls", "TooManyRequests")
    edge = _Edge(calls, limits, proxies or Proxies(), shares)
    names = [descriptor.full_name for descriptor, _ in _SERVICES]
    handlers = [edge.service(descriptor, kind(calls)) for descriptor, kind in _SERVICES]
    handlers += [edge.service(_HEALTH, _Health(ready, names), open_to_all=True)]
    server.add_generic_rpc_handlers(
        [*handlers, *edge.reflection([*names, _HEALTH.full_name, reflection.SERVICE_NAME])]
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    return server, bound


def _options(body_bytes: int, connections: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", connections),
        # a connection that does not begin with HTTP/2, or opens no call for long, is closed
        ("grpc.server_handshake_timeout_ms", int(HEAD_SECONDS * 1000)),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
        # two servers of one port would share its calls
        ("grpc.so_reuseport", 0),
        # a stream may be quiet for long: detect clients that are gone, and allow clients to detect a gone server
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


class _Method(NamedTuple):
    """`name` is `package.Service/Method`, `kind` its request, `open_to_all`: nobody has to log in."""

    name: str
    kind: type[Message]
    behaviour: _Behaviour
    open_to_all: bool


class _Edge:
    """Adapts the services to gRPC: authenticates callers, parses requests and reports errors."""

    def __init__(self, calls: Calls, limits: RateLimiter, proxies: Proxies, shares: CallerShares) -> None:
        self._calls = calls
        self._limits = limits
        self._proxies = proxies
        self._shares = shares

    def service(
        self, descriptor: Any, methods: object, *, open_to_all: bool = False
    ) -> grpc.GenericRpcHandler:
        """Return the handler of a service. `methods` has a method of the request and its caller for each of its own.
        `open_to_all`: no login is required.
        """
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for method in descriptor.methods:
            about = _Method(
                f"{descriptor.full_name}/{method.name}",
                GetMessageClass(method.input_type),
                getattr(methods, method.name),
                open_to_all,
            )
            serve = self._stream if method.server_streaming else self._answer
            # to the caller they are calls with one request; so it is read here, where its time is limited
            handler = (
                grpc.stream_stream_rpc_method_handler
                if method.server_streaming
                else grpc.stream_unary_rpc_method_handler
            )
            handlers[method.name] = handler(serve(about))
        return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)

    def _answer(self, method: _Method) -> Callable[[_Requests, _Context], Awaitable[bytes]]:
        async def answer(requests: _Requests, context: _Context) -> bytes:
            async with self._limited(method.name, context):
                by = await self._by(method, context)
                request = _parsed(method, await _one(requests))
                reply: Message = await method.behaviour(request, by)
                return reply.SerializeToString()

        return answer

    def _stream(self, method: _Method) -> Callable[[_Requests, _Context], Awaitable[None]]:
        async def stream(requests: _Requests, context: _Context) -> None:
            async with self._limited(method.name, context):
                by = await self._by(method, context)
                request = _parsed(method, await _one(requests))
                async with aclosing(method.behaviour(request, by)) as replies:
                    async for reply in replies:
                        await context.write(reply.SerializeToString())

        return stream

    def reflection(self, names: list[str]) -> list[grpc.GenericRpcHandler]:
        """Return handlers of both versions of the reflection service: on the wire they are the same."""
        # its annotations say that it returns a generator in a coroutine
        servicer: Any = reflection.aio.ReflectionServicer(names)

        async def info(requests: AsyncIterator[Any], context: _Context) -> AsyncGenerator[Message]:
            async with self._limited("ServerReflection", context):
                async for reply in servicer.ServerReflectionInfo(requests, context):
                    yield reply

        handler = grpc.stream_stream_rpc_method_handler(
            info,
            request_deserializer=_parse_reflection_request,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return [
            grpc.method_handlers_generic_handler(
                f"grpc.reflection.{version}.ServerReflection", {"ServerReflectionInfo": handler}
            )
            for version in ("v1", "v1alpha")
        ]

    @asynccontextmanager
    async def _limited(self, method: str, context: _Context) -> AsyncGenerator[None]:
        """Count a call of its caller until the end of the block, and report its error."""
        async with _errors_reported(method, context):
            with self._shares.one(self._caller(context)):
                yield

    def _caller(self, context: _Context) -> str:
        """Return the address of the caller, as REST has it."""
        # gRPC writes ipv4:10.0.0.7:4711 and ipv6:%5B::1%5D:4711, with a port that differs for each connection
        peer = unquote(context.peer().partition(":")[2].rpartition(":")[0]).strip("[]")
        if not self._proxies.trusted(peer):
            return peer
        forwarded = [
            str(value) for key, value in context.invocation_metadata() or () if key == "x-forwarded-for"
        ]
        return self._proxies.caller(peer, ",".join(forwarded))

    async def _by(self, method: _Method, context: _Context) -> ChangeRequest:
        if method.open_to_all:
            return ChangeRequest(Caller(""))
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        peer = self._caller(context)
        claimed = metadata.get("x-requested-by", "")
        caller = await authenticate(
            self._calls.access, self._limits, metadata.get("authorization", ""), claimed, peer
        )
        key = metadata.get("idempotency-key", "")
        return ChangeRequest(caller, f"{method.name} {key}" if key else "", via=Via.GRPC)


async def _one(requests: _Requests) -> bytes:
    """Return the request of a call that has one."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await anext(requests, None)
    except TimeoutError:
        text = f"the request was not there after {BODY_SECONDS:g} s"
        raise Problem(Kind.TOO_SLOW, "TooSlow", text) from None
    if raw is None:
        raise Problem(Kind.INVALID, "Malformed", "the call has no request")
    return raw


def _parsed(method: _Method, raw: bytes) -> Message:
    try:
        return method.kind.FromString(raw)
    except DecodeError as error:
        text = f"the bytes are no {method.kind.DESCRIPTOR.full_name}"
        raise Problem(Kind.INVALID, "Malformed", text) from error


@asynccontextmanager
async def _errors_reported(method: str, context: _Context) -> AsyncGenerator[None]:
    """Report an error of the block to the caller, and count the request."""
    code = grpc.StatusCode.CANCELLED
    try:
        yield
        code = grpc.StatusCode.OK
    except Problem as problem:
        code, retry = problem.kind.grpc, problem.retry_after
        trailing = [("triton-reason", problem.reason)]
        if retry is not None:
            trailing.append(("retry-after", f"{retry:.3f}"))
        words = str(problem).encode()[:DETAIL_BYTES].decode(errors="ignore")
        await context.abort(code, words, tuple(trailing))
    except grpc.aio.BaseError:
        # the caller is gone
        raise
    except Exception:
        code = grpc.StatusCode.INTERNAL
        _log.exception("%s could not be answered", method)
        await context.abort(code, "internal error; the planner's log has the details")
    finally:
        _requests.labels(method, code.name).inc()


class _Health:
    """The service grpc.health.v1: the server as a whole, and each service, which is as healthy as the server."""

    def __init__(self, ready: Callable[[], bool], services: list[str]) -> None:
        self._ready = ready
        self._names = ["", *services]

    async def Check(self, request: health_pb2.HealthCheckRequest, _: ChangeRequest) -> Message:
        if request.service not in self._names:
            raise Problem(Kind.NOT_FOUND, "NotFound", f"service: there is no {request.service[:100]!r}")
        return self._of(request.service)

    async def List(self, _request: Message, _: ChangeRequest) -> Message:
        statuses = {name: self._of(name) for name in self._names}
        reply: Message = health_pb2.HealthListResponse(statuses=statuses)  # type: ignore[attr-defined]
        return reply

    async def Watch(self, request: health_pb2.HealthCheckRequest, _: ChangeRequest) -> AsyncIterator[Message]:
        last = None
        while True:
            now = self._of(request.service)
            if now != last:
                yield now
            last = now
            await asyncio.sleep(HEALTH_SECONDS)

    def _of(self, name: str) -> health_pb2.HealthCheckResponse:
        status = "SERVICE_UNKNOWN"
        if name in self._names:
            status = "SERVING" if self._ready() else "NOT_SERVING"
        return health_pb2.HealthCheckResponse(status=status)


def _parse_reflection_request(raw: bytes) -> reflection_pb2.ServerReflectionRequest:
    """Parse a request; one that can't be parsed is an empty request."""
    try:
        return reflection_pb2.ServerReflectionRequest.FromString(raw)
    except DecodeError:
        return reflection_pb2.ServerReflectionRequest()
