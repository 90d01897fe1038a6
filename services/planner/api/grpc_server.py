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

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from prometheus_client import Counter

from services.planner.api.access import Caller, authenticate
from services.planner.api.calls import Calls
from services.planner.api.change_calls import ChangeRequest
from services.planner.api.grpc_services import Application, DeployFlow, Pod
from services.planner.api.problem import Kind, Problem
from services.planner.api.protos import application_pb2, deployflow_pb2, pod_pb2
from services.planner.api.rate_limits import RateLimiter, Unlimited

STREAMS_PER_CONNECTION: Final = 1000
HEALTH_SECONDS: Final = 1.0
"""How often a change of the health is sent to those who watch it."""
DETAIL_BYTES: Final = 2000
"""Metadata of more than 8 KiB is not delivered, and what is not ASCII comes three times as long."""

_SERVICES: Final = (
    (deployflow_pb2.DESCRIPTOR.services_by_name["DeployFlow"], DeployFlow),
    (application_pb2.DESCRIPTOR.services_by_name["Application"], Application),
    (pod_pb2.DESCRIPTOR.services_by_name["Pod"], Pod),
)
_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"]
_Context = grpc.aio.ServicerContext[Any, Any]
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
    credentials: grpc.ServerCredentials | None = None,
    ready: Callable[[], bool] = lambda: True,
) -> tuple[grpc.aio.Server, int]:
    """Start a server and return it with its port; `port` 0: any that is free. `body_bytes`: the largest message read.

    `credentials`: for TLS, without them plaintext. `ready`: the answer of the health service. Ended by `stop(seconds)`.
    Raises `RuntimeError` where the address can't be had.
    """
    server = grpc.aio.server(options=_options(body_bytes))
    edge = _Edge(calls, limits)
    names = [descriptor.full_name for descriptor, _ in _SERVICES]
    handlers = [edge.service(descriptor, kind(calls)) for descriptor, kind in _SERVICES]
    handlers += [edge.service(_HEALTH, _Health(ready, names), open_to_all=True)]
    server.add_generic_rpc_handlers(
        [*handlers, *_reflection([*names, _HEALTH.full_name, reflection.SERVICE_NAME])]
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    return server, bound


def _options(body_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
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

    def __init__(self, calls: Calls, limits: RateLimiter) -> None:
        self._calls = calls
        self._limits = limits

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
            handler = (
                grpc.unary_stream_rpc_method_handler
                if method.server_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            handlers[method.name] = handler(serve(about))
        return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)

    def _answer(self, method: _Method) -> Callable[[bytes, _Context], Awaitable[bytes]]:
        async def answer(raw: bytes, context: _Context) -> bytes:
            async with _errors_reported(method, context):
                by = await self._by(method, context)
                reply: Message = await method.behaviour(_parsed(method, raw), by)
                return reply.SerializeToString()

        return answer

    def _stream(self, method: _Method) -> Callable[[bytes, _Context], Awaitable[None]]:
        async def stream(raw: bytes, context: _Context) -> None:
            async with _errors_reported(method, context):
                by = await self._by(method, context)
                async with aclosing(method.behaviour(_parsed(method, raw), by)) as replies:
                    async for reply in replies:
                        await context.write(reply.SerializeToString())

        return stream

    async def _by(self, method: _Method, context: _Context) -> ChangeRequest:
        if method.open_to_all:
            return ChangeRequest(Caller(""))
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        # without the port, which differs for each connection
        peer = context.peer().rpartition(":")[0]
        claimed = metadata.get("x-requested-by", "")
        caller = await authenticate(
            self._calls.access, self._limits, metadata.get("authorization", ""), claimed, peer
        )
        key = metadata.get("idempotency-key", "")
        return ChangeRequest(caller, f"{method.name} {key}" if key else "")


def _parsed(method: _Method, raw: bytes) -> Message:
    try:
        return method.kind.FromString(raw)
    except DecodeError as error:
        text = f"the bytes are no {method.kind.DESCRIPTOR.full_name}"
        raise Problem(Kind.INVALID, "Malformed", text) from error


@asynccontextmanager
async def _errors_reported(method: _Method, context: _Context) -> AsyncGenerator[None]:
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
        _log.exception("%s could not be answered", method.name)
        await context.abort(code, "internal error; the planner's log has the details")
    finally:
        _requests.labels(method.name, code.name).inc()


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


def _reflection(names: list[str]) -> list[grpc.GenericRpcHandler]:
    """Return handlers of both versions of the reflection service: on the wire they are the same."""
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        request_deserializer=_parse_reflection_request,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return [
        grpc.method_handlers_generic_handler(
            f"grpc.reflection.{version}.ServerReflection", {"ServerReflectionInfo": handler}
        )
        for version in ("v1", "v1alpha")
    ]


def _parse_reflection_request(raw: bytes) -> reflection_pb2.ServerReflectionRequest:
    """Parse a request; one that can't be parsed is an empty request."""
    try:
        return reflection_pb2.ServerReflectionRequest.FromString(raw)
    except DecodeError:
        return reflection_pb2.ServerReflectionRequest()
