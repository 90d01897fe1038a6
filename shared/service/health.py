"""Answers the probes of Kubernetes (alive, ready) and serves the metrics for Prometheus."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import make_asgi_app

from shared.service.browser_guard import refusal_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Health:
    """`/readyz` is true only while nothing that the service needs is missing; it names what is.

    `local`: it listens on this machine alone, where no web page may read it.
    """

    def __init__(self, *, local: bool = False) -> None:
        self._local = local
        self._missing: dict[str, str] = {"start": "starting"}
        self._metrics = make_asgi_app()

    @property
    def ready(self) -> bool:
        return not self._missing

    def missing(self, what: str, why: str) -> None:
        self._missing[what] = why

    def there(self, what: str) -> None:
        self._missing.pop(what, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self._local and (refusal := refusal_of(scope["headers"])):
            await _answer(send, 403, {"error": refusal.text})
            return
        match scope["path"]:
            case "/healthz":
                await _answer(send, 200, {"status": "ok"})
            case "/readyz":
                await _answer(
                    send, 200 if self.ready else 503, {"ready": self.ready, "missing": self._missing}
                )
            case "/metrics" | "/metrics/":
                await self._metrics(scope, receive, send)
            case _:
                await _answer(send, 404, {"error": "there are /healthz, /readyz and /metrics"})


async def _answer(send: Send, status: int, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
