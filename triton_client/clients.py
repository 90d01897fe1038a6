"""The two clients, one for threads and one for asyncio: the same operations, sent by httpx."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import ssl
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypedDict, TypeVar, Unpack

import httpx

from triton_client import operations
from triton_client.errors import ConfigError
from triton_client.operations import Operation, Subscription
from triton_client.policy import Outcome, checked, pause_before_another, without_login
from triton_client.server_sent_events import SILENCE_SECONDS, Following, is_stream

CONNECT_SECONDS: Final = 5.0
P = ParamSpec("P")
T = TypeVar("T")


class Options(TypedDict, total=False):
    """The options of a client beside the URL of the server."""

    namespace: str
    token: str
    token_file: Path | str | None
    """Read for each request: the token in a pod is replaced from time to time."""
    requested_by: str
    """The name of the requester; used only by servers without authentication."""
    user_agent: str
    """The name of the program, as in `deployer/1.2`."""
    ca_file: Path | str | None
    """Certificates of the CA that signed the server's; default: those that the system trusts."""
    timeout: float
    """Seconds to wait for an answer."""
    retries: int
    """How often to send a request again while the server is unavailable or busy; a change takes effect once."""


class _Client:
    """The part that both clients share. Raises `ConfigError` for options that can't be used."""

    def __init__(
        self,
        server: str,
        *,
        namespace: str = "default",
        token: str = "",
        token_file: Path | str | None = None,
        requested_by: str = "",
        user_agent: str = "",
        ca_file: Path | str | None = None,
        timeout: float = 30.0,
        retries: int = 4,
    ) -> None:
        self.server = server.rstrip("/")
        self.namespace = namespace
        self._token = token
        self._token_file = Path(token_file) if token_file else None
        self._requested_by = requested_by
        self._user_agent = user_agent
        self._request_id = ""
        self._retries = retries
        connect = min(CONNECT_SECONDS, timeout)
        self._timeout = httpx.Timeout(timeout, connect=connect)
        self._silence = httpx.Timeout(timeout, connect=connect, read=SILENCE_SECONDS)
        self._tls = _tls(ca_file) if self.server.startswith("https://") else False
        try:
            url = httpx.URL(self.server)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in {"http", "https"} or not url.host:
            msg = f"{without_login(server)!r} is no URL of a server: use one like https://triton.example.com:8088"
            raise ConfigError(msg)

    def using(
        self,
        *,
        namespace: str | None = None,
        requested_by: str | None = None,
        request_id: str | None = None,
    ) -> Self:
        """Return the same client for another namespace or requester, over the same connections.

        `request_id` identifies its changes: the same call with the same id takes effect once, also from another process.
        """
        other = copy.copy(self)
        other.namespace = self.namespace if namespace is None else namespace
        other._requested_by = self._requested_by if requested_by is None else requested_by
        other._request_id = self._request_id if request_id is None else request_id
        return other

    def _headers(self) -> httpx.Headers:
        """Return the headers of a request; reads the token file each time, as tokens expire."""
        token = self._token
        if self._token_file:
            try:
                token = self._token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                msg = f"token file {self._token_file} can't be read: {error}"
                raise ConfigError(msg) from error
        if not (token.isascii() and token.isprintable()) or " " in token:
            # the error of the HTTP client would show it
            source = f"token file {self._token_file}" if self._token_file else "token"
            msg = f"{source}: a token has no spaces, line breaks or characters beyond ASCII: copy it again"
            raise ConfigError(msg)
        headers = {
            "Authorization": f"Bearer {token}" if token else "",
            "X-Requested-By": self._requested_by,
            "User-Agent": self._user_agent,
        }
        return httpx.Headers({name.encode(): value.encode() for name, value in headers.items() if value})

    def _request(
        self, http: httpx.Client | httpx.AsyncClient, operation: Operation[T], key: str
    ) -> httpx.Request:
        headers = self._headers()
        if operation.method != "GET":
            headers["Idempotency-Key"] = key
        if operation.if_match:
            headers["If-Match"] = operation.if_match
        url, query = self.server + operation.path, dict(operation.query)
        return http.build_request(
            operation.method, url, params=query, json=operation.body, headers=headers, timeout=self._timeout
        )

    def _listen(self, http: httpx.Client | httpx.AsyncClient, following: Following[T]) -> httpx.Request:
        headers = self._headers()
        headers.update(following.headers)
        return http.build_request("GET", self.server + following.path, headers=headers, timeout=self._silence)

    def _key(self) -> str:
        return self._request_id or uuid.uuid4().hex


def _tls(ca_file: Path | str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        # OpenSSL raises an OSError for a file without certificates too
        msg = f"CA file {ca_file} can't be used: {error}"
        raise ConfigError(msg) from error


def _now(describe: Callable[Concatenate[str, P], Operation[T]]) -> Callable[Concatenate[Triton, P], T]:
    @functools.wraps(describe)
    def call(self: Triton, /, *arguments: P.args, **named: P.kwargs) -> T:
        return self._call(describe(self.namespace, *arguments, **named))

    return call


def _soon(
    describe: Callable[Concatenate[str, P], Operation[T]],
) -> Callable[Concatenate[AsyncTriton, P], Coroutine[Any, Any, T]]:
    @functools.wraps(describe)
    async def call(self: AsyncTriton, /, *arguments: P.args, **named: P.kwargs) -> T:
        return await self._call(describe(self.namespace, *arguments, **named))

    return call


def _each(
    describe: Callable[Concatenate[str, P], Subscription[T]],
) -> Callable[Concatenate[Triton, P], Generator[T]]:
    @functools.wraps(describe)
    def call(self: Triton, /, *arguments: P.args, **named: P.kwargs) -> Generator[T]:
        return self._follow(describe(self.namespace, *arguments, **named))

    return call


def _each_soon(
    describe: Callable[Concatenate[str, P], Subscription[T]],
) -> Callable[Concatenate[AsyncTriton, P], AsyncGenerator[T]]:
    @functools.wraps(describe)
    def call(self: AsyncTriton, /, *arguments: P.args, **named: P.kwargs) -> AsyncGenerator[T]:
        return self._follow(describe(self.namespace, *arguments, **named))

    return call


class Triton(_Client):
    """The client that blocks until each answer. Calls raise `TritonError`; an unreadable token file, `ConfigError`."""

    def __init__(self, server: str, **options: Unpack[Options]) -> None:
        super().__init__(server, **options)
        self._http = httpx.Client(verify=self._tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _call(self, operation: Operation[T]) -> T:
        key, attempt = self._key(), 0
        while True:
            outcome: Outcome
            try:
                outcome = self._http.send(self._request(self._http, operation, key))
            except httpx.TransportError as error:
                outcome = error
            pause = pause_before_another(outcome, attempt, self._retries)
            if pause is None:
                return operation.read(checked(outcome, self.server))
            attempt += 1
            time.sleep(pause)

    def _follow(self, subscription: Subscription[T]) -> Generator[T]:
        following = Following(subscription, self.server, self._retries)
        while not following.over:
            outcome: Outcome | None = None
            try:
                answer = self._http.send(self._listen(self._http, following), stream=True)
                with contextlib.closing(answer):
                    if is_stream(answer):
                        following.opened()
                        for some in answer.iter_bytes():
                            yield from following.feed(some)
                            if following.over:
                                return
                    else:
                        answer.read()
                        outcome = answer
            except httpx.TransportError as error:
                outcome = error
            time.sleep(following.again_in(outcome))

    deployflows = _now(operations.deployflows)
    deployflow = _now(operations.deployflow)
    watch = _each(operations.watch)
    events = _each(operations.events)
    create = _now(operations.create)
    steer = _now(operations.steer)
    delete = _now(operations.delete)
    next = _now(operations.next)
    continue_ = _now(operations.continue_)
    promote = _now(operations.promote)
    pause = _now(operations.pause)
    resume = _now(operations.resume)
    cancel = _now(operations.cancel)
    retry = _now(operations.retry)
    instances = _now(operations.instances)
    instance = _now(operations.instance)
    pods = _now(operations.pods)
    history = _now(operations.history)
    update = _now(operations.update)
    rollback = _now(operations.rollback)
    restart = _now(operations.restart)
    scale = _now(operations.scale)
    stop = _now(operations.stop)
    start = _now(operations.start)
    adopt = _now(operations.adopt)
    delete_instance = _now(operations.delete_instance)
    plan = _now(operations.plan)
    restart_all = _now(operations.restart_all)
    scale_all = _now(operations.scale_all)


class AsyncTriton(_Client):
    """The client for asyncio, with the same methods."""

    def __init__(self, server: str, **options: Unpack[Options]) -> None:
        super().__init__(server, **options)
        self._http = httpx.AsyncClient(verify=self._tls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def _call(self, operation: Operation[T]) -> T:
        key, attempt = self._key(), 0
        while True:
            outcome: Outcome
            try:
                outcome = await self._http.send(self._request(self._http, operation, key))
            except httpx.TransportError as error:
                outcome = error
            pause = pause_before_another(outcome, attempt, self._retries)
            if pause is None:
                return operation.read(checked(outcome, self.server))
            attempt += 1
            await asyncio.sleep(pause)

    async def _follow(self, subscription: Subscription[T]) -> AsyncGenerator[T]:
        following = Following(subscription, self.server, self._retries)
        while not following.over:
            outcome: Outcome | None = None
            try:
                answer = await self._http.send(self._listen(self._http, following), stream=True)
                async with contextlib.aclosing(answer):
                    if is_stream(answer):
                        following.opened()
                        async for some in answer.aiter_bytes():
                            for item in following.feed(some):
                                yield item
                            if following.over:
                                return
                    else:
                        await answer.aread()
                        outcome = answer
            except httpx.TransportError as error:
                outcome = error
            await asyncio.sleep(following.again_in(outcome))

    deployflows = _soon(operations.deployflows)
    deployflow = _soon(operations.deployflow)
    watch = _each_soon(operations.watch)
    events = _each_soon(operations.events)
    create = _soon(operations.create)
    steer = _soon(operations.steer)
    delete = _soon(operations.delete)
    next = _soon(operations.next)
    continue_ = _soon(operations.continue_)
    promote = _soon(operations.promote)
    pause = _soon(operations.pause)
    resume = _soon(operations.resume)
    cancel = _soon(operations.cancel)
    retry = _soon(operations.retry)
    instances = _soon(operations.instances)
    instance = _soon(operations.instance)
    pods = _soon(operations.pods)
    history = _soon(operations.history)
    update = _soon(operations.update)
    rollback = _soon(operations.rollback)
    restart = _soon(operations.restart)
    scale = _soon(operations.scale)
    stop = _soon(operations.stop)
    start = _soon(operations.start)
    adopt = _soon(operations.adopt)
    delete_instance = _soon(operations.delete_instance)
    plan = _soon(operations.plan)
    restart_all = _soon(operations.restart_all)
    scale_all = _soon(operations.scale_all)
