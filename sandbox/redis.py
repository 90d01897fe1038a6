"""A Redis server without installing one: fakeredis behind a TCP port.

fakeredis brings a TCP server of its own, but that one closes the connection after every error it answers (so
the first EVALSHA of a script that is not loaded yet breaks it) and asks each idle connection a hundred times a
second. Here a thread a connection waits for what the client says. What it does not do: push messages of
subscriptions to a client that says nothing.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from queue import Empty
from typing import Final

import redis
from fakeredis import FakeServer
from fakeredis._clients._tcp_server import encode_reply
from fakeredis._socket import FakeSocket

_VERSION: Final = (8, 0)
_CHUNK: Final = 1 << 18


class _Connection(socketserver.BaseRequestHandler):
    server: RedisServer

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        commands = FakeSocket(
            self.server.data,
            db=0,
            client_class=redis.Redis,
            lua_modules=set(),
            client_info={"addr": self.client_address},
        )
        try:
            while received := self.request.recv(_CHUNK):
                commands.sendall(received)
                self._answer(commands)
        except ConnectionError:
            return
        finally:
            commands.close()

    def _answer(self, commands: FakeSocket) -> None:
        replies = bytearray()
        while commands.responses is not None:
            try:
                reply = commands.responses.get_nowait()
            except Empty:
                break
            replies += encode_reply(reply, commands._client_info.protocol_version)
        if replies:
            self.request.sendall(replies)


class RedisServer(socketserver.ThreadingTCPServer):
    """Redis on a free port of 127.0.0.1, in memory, from `start` to `close`."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.data = FakeServer(version=_VERSION)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server_address[1]}/0"

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, name="redis", daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
