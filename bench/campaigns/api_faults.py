"""Trouble between the services and the API server: a proxy that closes watches and refuses requests.

Only the services connect through it; whoever plays and checks a story asks the API server itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import time
from enum import IntEnum
from pathlib import Path
from typing import Final

import aiohttp
import yaml
from aiohttp import web

from sandbox.environment import Stack
from sandbox.process import Parts, Reached
from shared.domain.json_types import Json

BEHIND: Final = ("planner", "executor", "readiness")
"""The services that ask the API server."""
_LARGEST_BODY: Final = 32 << 20
_PASSED: Final = ("Content-Type", "Accept", "Authorization", "User-Agent")
_SHARE: Final = 0.5
"""Of the requests of a storm that are refused."""


class Storm(IntEnum):
    """What a storm answers."""

    CONFLICT = 409
    GONE = 410
    BUSY = 429


_REASONS: Final = {Storm.CONFLICT: "Conflict", Storm.GONE: "Expired", Storm.BUSY: "TooManyRequests"}


class ApiFaults:
    """The proxy. Without a storm it passes everything on."""

    def __init__(self) -> None:
        self.url = ""
        self._upstream = ""
        self._tls: ssl.SSLContext | bool = True
        self._until: dict[Storm, float] = {}
        self._closing = asyncio.Event()
        self._last_words = b""
        self._runner: web.ServerRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self, kubeconfig: str) -> None:
        """Listen, in front of the server of that kubeconfig (its text)."""
        (cluster,) = yaml.safe_load(kubeconfig)["clusters"]
        self._upstream = cluster["cluster"]["server"]
        if authority := cluster["cluster"].get("certificate-authority"):
            self._tls = ssl.create_default_context(cafile=authority)
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        server = web.Server(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def close_watches(self, last_words: bytes = b"") -> None:
        """End every open watch in good order."""
        self._last_words = last_words
        self._closing.set()
        self._closing = asyncio.Event()

    async def storm(self, kind: Storm, seconds: float) -> None:
        """Refuse a share of the requests for so long."""
        self._until[kind] = time.monotonic() + seconds
        if kind == Storm.GONE:
            event = {"type": "ERROR", "object": _status(kind)}
            self.close_watches(json.dumps(event).encode() + b"\n")
        await asyncio.sleep(seconds)

    def _refusal(self, request: web.BaseRequest, body: bytes) -> Storm | None:
        now = time.monotonic()
        for kind, until in self._until.items():
            if until > now and _fits(kind, request, body) and random.random() < _SHARE:
                return kind
        return None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._session is not None
        body = await request.read()
        if (kind := self._refusal(request, body)) is not None:
            return web.json_response(_status(kind), status=kind, headers={"Retry-After": "1"})
        headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
        try:
            async with self._session.request(
                request.method, self._upstream + request.raw_path, data=body or None, headers=headers
            ) as upstream:
                if _is_watch(request):
                    return await self._stream(request, upstream)
                answer = await upstream.read()
                kept = {
                    name: upstream.headers[name] for name in ("Content-Type",) if name in upstream.headers
                }
                return web.Response(body=answer, status=upstream.status, headers=kept)
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionResetError(str(error)) from error

    async def _stream(self, request: web.BaseRequest, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=upstream.status)
        response.content_type = "application/json"
        await response.prepare(request)
        closing = asyncio.ensure_future(self._closing.wait())
        copying = asyncio.ensure_future(_copy(upstream, response))
        try:
            await asyncio.wait({copying, closing}, return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(ConnectionError):
                if closing.done():
                    await _end(copying)
                    await response.write(self._last_words)
                await response.write_eof()
        finally:
            closing.cancel()
            await _end(copying)
        return response


async def _copy(upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
        async for line in upstream.content:
            await response.write(line)


async def _end(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _is_watch(request: web.BaseRequest) -> bool:
    return request.query.get("watch") in {"1", "true"}


def _fits(kind: Storm, request: web.BaseRequest, body: bytes) -> bool:
    match kind:
        case Storm.GONE:
            return _is_watch(request)
        case Storm.CONFLICT:
            # only a write that names the version that it is about can meet another one
            return request.method in {"PATCH", "PUT"} and b'"resourceVersion"' in body
    return True


def _status(kind: Storm) -> Json:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"{_REASONS[kind]} (by the campaign)",
        "reason": _REASONS[kind],
        "code": int(kind),
    }


class Troubled:
    """A stack whose services reach the API server through `faults`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.faults = ApiFaults()

    @property
    def played(self) -> str:
        return self._stack.played

    async def start(self, parts: Parts, state: Path, kubeconfig: Path) -> Reached:
        reached = await self._stack.start(parts, state, kubeconfig)
        await self.faults.start(await asyncio.to_thread(kubeconfig.read_text))
        paths = dict(reached.kubeconfigs)
        for service in BEHIND:
            path = state / f"{service}-through-faults.kubeconfig"
            _redirect(paths.get(service, kubeconfig), path, self.faults.url)
            paths[service] = path
        return Reached(reached.settings, paths)

    async def versions(self) -> dict[str, str]:
        return await self._stack.versions()


def _redirect(kubeconfig: Path, to: Path, url: str) -> None:
    """Write the same kubeconfig for a server at that URL."""
    body = yaml.safe_load(kubeconfig.read_text())
    for cluster in body["clusters"]:
        cluster["cluster"] = {"server": url}
    to.write_text(yaml.safe_dump(body))
