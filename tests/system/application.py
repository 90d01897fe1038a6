"""The application in the pods of a test: an HTTP server of this process, whose address the pods get."""

from __future__ import annotations

import time
from types import TracebackType
from typing import NamedTuple, Self

from aiohttp import web

from shared.domain.json_types import Json


class Request(NamedTuple):
    """`at`: seconds since 1970."""

    path: str
    at: float


class Application:
    """`connections`: how many each pod says that it has left; None: it is broken."""

    def __init__(self, connections: int | None = 0) -> None:
        self.connections = connections
        self.requests: list[Request] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        served = web.Application()
        served.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(served, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append(Request(request.path, time.time()))
        if self.connections is None:
            return web.Response(status=503)
        return web.Response(text=str(self.connections))

    def requests_to(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    def in_pods(self, flow: Json, **annotations: str) -> Json:
        """The DeployFlow with pods that it answers for."""
        template = flow["spec"]["application"]["template"]
        template["metadata"]["annotations"] |= {
            "sandbox.triton.io/pod-ip": "127.0.0.1",
            **{f"apps.triton.io/{name.replace('_', '-')}": value for name, value in annotations.items()},
        }
        template["spec"]["containers"][0]["ports"] = [{"containerPort": self.port}]
        return flow
