"""Serves an ASGI application by uvicorn, within bounds for everything that a caller can send before it is known.

uvicorn limits neither the size of a header nor the time that a request takes, and a large header that comes in pieces
holds the event loop of the whole service for seconds. Here it parses so much at a time, other work of the loop
(heartbeats to Kafka, probes) comes between any two connections, and `Connections` decides who stays.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import json
import logging
import socket
import ssl
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import uvicorn
from prometheus_client import Counter, Gauge
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.errors import ConfigError
from shared.service.connections import (
    BODY_SECONDS,
    HEAD_SECONDS,
    KEEP_ALIVE_SECONDS,
    UNREAD_SECONDS,
    Bounds,
    Connections,
    TooMany,
)
from shared.service.proxies import Proxies

BACKLOG: Final = 1024
HEAD_BYTES: Final = 32_768
"""A token with many groups has 10,000."""
MOST_HEADERS: Final = 100
MOST_PIPELINED: Final = 16
"""Requests that a connection may send before the first is answered."""
PIECE_BYTES: Final = 16_384
"""What is parsed at a time: half a millisecond at worst."""
SWEEP_SECONDS: Final = 1.0
FULL_SECONDS: Final = 0.1
"""How long no connection is accepted when the process has no file descriptor left."""
_FULL: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_refused = Counter(
    "triton_http_refused_total", "Requests and connections that were beyond a bound", ["server", "reason"]
)
_connections = Gauge("triton_http_connections", "Open connections", ["server"])
_log = logging.getLogger(__name__)


class _Refusal(NamedTuple):
    status: int
    reason: str
    text: str

    def answer(self) -> bytes:
        title = HTTPStatus(self.status).phrase
        problem = {"type": "about:blank", "title": title, "status": self.status}
        body = json.dumps({**problem, "detail": self.text, "reason": self.reason}).encode()
        head = f"HTTP/1.1 {self.status} {title}\r\ncontent-type: application/problem+json\r\n"
        if self.status in {429, 503}:
            head += "retry-after: 5\r\n"
        return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


_HEAD_TOO_LARGE = _Refusal(
    431, "HeadTooLarge", f"a header has at most {HEAD_BYTES} bytes and {MOST_HEADERS} fields"
)
_TOO_LARGE = _Refusal(413, "TooLarge", "the request has more bytes than are allowed")
_TOO_SLOW = _Refusal(408, "TooSlow", f"the header was not there after {HEAD_SECONDS:g} s")
_PIPELINED = _Refusal(
    429, "TooManyRequests", f"a connection sends at most {MOST_PIPELINED} requests at a time"
)
_MALFORMED = _Refusal(400, "Malformed", "this is no HTTP/1.1 request")
_OF_CALLER = _Refusal(429, "TooManyOfCaller", "too many connections of this address are open: close some")
_IN_ALL = _Refusal(503, "TooManyInAll", "too many connections are open: try again, or another replica")


class _Refused(Exception):
    """Ends the parsing of a request."""


class _Connection(HttpToolsProtocol):
    """A connection of uvicorn that counts what it receives, and says when it waits for its caller."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server.config, server.uvicorn.server_state, {})
        self._bounded = server
        self._kept = server.connections
        self.opening: asyncio.Task[None] | None = None
        self.headers = []
        self._in_head = False
        self._complete = True
        self._received = 0
        """Bytes of the current request."""
        self._body_until = 0.0
        self._unread = 0
        """Bytes of an answer that the caller has not read when its time began."""
        self._refusal = _MALFORMED

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.opening = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._kept.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if len(data) <= PIECE_BYTES:
            self._receive(data)
        else:
            for start in range(0, len(data), PIECE_BYTES):
                if not self.transport.is_closing():
                    self._receive(data[start : start + PIECE_BYTES])
        if not self._complete and not self._in_head and not self._kept.is_waiting(self):
            # the application may answer first, with better words
            self._body_until = self._body_until or self.loop.time() + BODY_SECONDS + 2 * SWEEP_SECONDS
            self._kept.limit(self, self._body_until)

    def _receive(self, data: bytes) -> None:
        super().data_received(data)
        self._received += len(data)
        if len(self.headers) > MOST_HEADERS or (self._received > HEAD_BYTES and self._in_head):
            self._refuse(_HEAD_TOO_LARGE)
        elif self._received > self._bounded.request_bytes:
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._complete = False
        self._received = 0

    def on_headers_complete(self) -> None:
        if len(self.headers) > MOST_HEADERS:
            self._refusal = _HEAD_TOO_LARGE
            raise _Refused
        if len(self.pipeline) >= MOST_PIPELINED:
            self._refusal = _PIPELINED
            raise _Refused
        self._in_head = False
        self._body_until = 0.0
        self._kept.work(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._complete = True
        if self._body_until and not self._kept.is_waiting(self):
            self._kept.work(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self._unread:
            self._kept.wait(self, self.loop.time())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.transport.get_write_buffer_size()
        self._kept.limit(self, self.loop.time() + UNREAD_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread = 0
        if self.cycle is None or self.cycle.response_complete:
            self._kept.wait(self, self.loop.time())
        else:
            self._kept.work(self)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answer what could not be parsed, or was refused while it was."""
        self._refuse(self._refusal)

    def leave(self) -> None:
        """Close the connection, which waits for a request, for another one."""
        _refused.labels(self._bounded.name, "MadeRoom").inc()
        if self.opening is not None:
            self.opening.cancel()
        else:
            self.transport.close()
            if self.transport.get_write_buffer_size():
                # nobody counts it any more
                self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def be_late(self) -> None:
        """Close the connection, whose time has passed."""
        if self.opening is not None:
            self.opening.cancel()
        elif self._unread > self.transport.get_write_buffer_size() > 0:
            # slow, but it reads
            self._unread = self.transport.get_write_buffer_size()
        elif self.transport.is_closing() or not self._kept.is_waiting(self):
            _refused.labels(self._bounded.name, "TooSlow").inc()
            self.transport.abort()
        elif self._in_head:
            self._refuse(_TOO_SLOW)
        else:
            self.transport.close()
        # where the caller does not read what is left, the next time is the last
        self._kept.limit(self, self.loop.time() + UNREAD_SECONDS)

    def _refuse(self, refusal: _Refusal) -> None:
        if self.transport.is_closing():
            return
        _refused.labels(self._bounded.name, refusal.reason).inc()
        cycle = self.cycle
        if cycle is None:
            may_answer = True
        elif self._in_head:
            # the one before it is not answered yet
            may_answer = cycle.response_complete
        else:
            may_answer = not cycle.response_started
        if may_answer:
            self.transport.write(refusal.answer())
        self.transport.close()


class HttpServer:
    """A server of one port; `name` is its label in the metrics. `serve` runs until `stop`.

    `request_bytes`: the largest request, as it is sent. `proxies`: those that call for many callers.
    `certificate`: for TLS. `stop_seconds`: how long calls may still run after `stop`.
    """

    def __init__(
        self,
        name: str,
        app: Any,
        listening: socket.socket,
        *,
        bounds: Bounds,
        request_bytes: int,
        proxies: Proxies,
        certificate: ssl.SSLContext | None = None,
        stop_seconds: int | None = None,
    ) -> None:
        self.name = name
        self.connections: Connections[_Connection] = Connections(bounds)
        self.request_bytes = request_bytes
        self.config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=stop_seconds,
        )
        self.config.load()
        if certificate is not None:
            # it counts for the scheme of requests only
            self.config.ssl = certificate
        self.uvicorn = uvicorn.Server(self.config)
        self._certificate = certificate
        self._listening = listening
        self._proxies = proxies
        self._opening: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        listening.setblocking(False)
        _connections.labels(name).set_function(lambda: len(self.connections))

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    async def serve(self) -> None:
        """Serve until `stop`, and then until running calls have ended, or for `stop_seconds`."""
        try:
            async with asyncio.TaskGroup() as group:
                self._loops = [group.create_task(self._accept()), group.create_task(self._sweep())]
                # serve() would take the signals for itself
                await self.uvicorn._serve(sockets=[])
                self.stop()
        finally:
            self._listening.close()

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        for task in (*self._loops, *self._opening):
            task.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(self._listening)
            except OSError as error:
                full = error.errno in _FULL
                if full:
                    _log.error("%s: no connection can be accepted: %s", self.name, error.strerror)
                await asyncio.sleep(FULL_SECONDS if full else 0)
                continue
            self._admit(accepted, str(address[0]))
            # everything else of the loop comes before the next one, however many there are
            await asyncio.sleep(0)

    def _admit(self, accepted: socket.socket, caller: str) -> None:
        connection = _Connection(self)
        now = connection.loop.time()
        try:
            leaves = self.connections.admit(connection, caller, now, exempt=self._proxies.trusted(caller))
        except TooMany as error:
            self._turn_away(accepted, _OF_CALLER if error.of_caller else _IN_ALL)
            return
        if leaves is not None:
            leaves.leave()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.opening = task = asyncio.create_task(self._open(connection, accepted))
        self._opening.add(task)
        task.add_done_callback(functools.partial(self._opened, connection, accepted))

    def _opened(self, connection: _Connection, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if task.cancelled() or task.exception():
            # the handshake failed or took too long, or another one needs the room
            self.connections.remove(connection)
            accepted.close()

    def _turn_away(self, accepted: socket.socket, refusal: _Refusal) -> None:
        _refused.labels(self.name, refusal.reason).inc()
        try:
            if self._certificate is None:
                accepted.setblocking(False)
                accepted.send(refusal.answer())
        except OSError:
            # nobody waits for the answer
            pass
        finally:
            accepted.close()

    async def _open(self, connection: _Connection, accepted: socket.socket) -> None:
        await connection.loop.connect_accepted_socket(
            lambda: connection,
            accepted,
            ssl=self._certificate,
            ssl_handshake_timeout=None if self._certificate is None else HEAD_SECONDS,
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for connection in self.connections.late(asyncio.get_running_loop().time()):
                connection.be_late()


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Return a socket that listens; raise `ConfigError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        msg = f"{setting}: can't listen at {host}:{port} ({error.strerror}): give a port that is free, or 0 for any"
        raise ConfigError(msg) from error
