"""The two clients: the same calls, sent and waited for in their two ways."""

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

from shared.errors import ConfigError
from triton_client import calls
from triton_client.calls import Ask, Listen
from triton_client.policy import Outcome, checked, pause_before_another
from triton_client.streams import SILENCE_SECONDS, Following, is_stream

CONNECT_SECONDS: Final = 5.0
P = ParamSpec("P")
T = TypeVar("T")


class Options(TypedDict, total=False):
    """How a client asks, beside the URL of the server."""

    namespace: str
    token: str
    token_file: Path | str | None
    """Read for each request: a token that is exchanged from time to time, as pods have it."""
    requested_by: str
    """Counts only where nobody has to log in."""
    ca_file: Path | str | None
    """Who signed the server's certificate; else who the system trusts."""
    timeout: float
    """Seconds for an answer."""
    retries: int
    """So often a request is sent again where the server is away for the moment or busy; changes are done once."""


class _Client:
    """What both have. Raises `ConfigError` for options that can't be meant."""

    def __init__(
        self,
        server: str,
        *,
        namespace: str = "default",
        token: str = "",
        token_file: Path | str | None = None,
        requested_by: str = "",
        ca_file: Path | str | None = None,
        timeout: float = 30.0,
        retries: int = 4,
    ) -> None:
        self.server = server.rstrip("/")
        self.namespace = namespace
        self._token = token
        self._token_file = Path(token_file) if token_file else None
        self._requested_by = requested_by
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
            msg = f"{server!r} is no URL of a server: give one like https://triton.example.com:8088"
            raise ConfigError(msg)

    def using(
        self,
        *,
        namespace: str | None = None,
        requested_by: str | None = None,
        request_id: str | None = None,
    ) -> Self:
        """The same client for another namespace or asker, over the same connections.

        `request_id` names its changes: the same call with the same id again is done once, also by another process.
        """
        other = copy.copy(self)
        other.namespace = self.namespace if namespace is None else namespace
        other._requested_by = self._requested_by if requested_by is None else requested_by
        other._request_id = self._request_id if request_id is None else request_id
        return other

    def _headers(self) -> httpx.Headers:
        """Read anew for each request: a token in a file is exchanged before it runs out."""
        token = self._token
        if self._token_file:
            try:
                token = self._token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                msg = f"token file {self._token_file} can't be read: {error}"
                raise ConfigError(msg) from error
        given = {"Authorization": f"Bearer {token}" if token else "", "X-Requested-By": self._requested_by}
        return httpx.Headers({name.encode(): value.encode() for name, value in given.items() if value})

    def _request(self, http: httpx.Client | httpx.AsyncClient, ask: Ask[T], key: str) -> httpx.Request:
        headers = self._headers()
        if ask.method != "GET":
            headers["Idempotency-Key"] = key
        if ask.match:
            headers["If-Match"] = ask.match
        url, query = self.server + ask.path, dict(ask.query)
        return http.build_request(
            ask.method, url, params=query, json=ask.body, headers=headers, timeout=self._timeout
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
        # what OpenSSL makes of a file without certificates is an OSError too
        msg = f"CA file {ca_file} can't be used: {error}"
        raise ConfigError(msg) from error


def _now(describe: Callable[Concatenate[str, P], Ask[T]]) -> Callable[Concatenate[Triton, P], T]:
    @functools.wraps(describe)
    def call(self: Triton, /, *given: P.args, **named: P.kwargs) -> T:
        return self._call(describe(self.namespace, *given, **named))

    return call


def _soon(
    describe: Callable[Concatenate[str, P], Ask[T]],
) -> Callable[Concatenate[AsyncTriton, P], Coroutine[Any, Any, T]]:
    @functools.wraps(describe)
    async def call(self: AsyncTriton, /, *given: P.args, **named: P.kwargs) -> T:
        return await self._call(describe(self.namespace, *given, **named))

    return call


def _each(
    describe: Callable[Concatenate[str, P], Listen[T]],
) -> Callable[Concatenate[Triton, P], Generator[T]]:
    @functools.wraps(describe)
    def call(self: Triton, /, *given: P.args, **named: P.kwargs) -> Generator[T]:
        return self._follow(describe(self.namespace, *given, **named))

    return call


def _each_soon(
    describe: Callable[Concatenate[str, P], Listen[T]],
) -> Callable[Concatenate[AsyncTriton, P], AsyncGenerator[T]]:
    @functools.wraps(describe)
    def call(self: AsyncTriton, /, *given: P.args, **named: P.kwargs) -> AsyncGenerator[T]:
        return self._follow(describe(self.namespace, *given, **named))

    return call


class Triton(_Client):
    """For programs that wait for each answer. Calls raise `TritonError`, the first one also `ConfigError`."""

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

    def _call(self, ask: Ask[T]) -> T:
        key, attempt = self._key(), 0
        while True:
            outcome: Outcome
            try:
                outcome = self._http.send(self._request(self._http, ask, key))
            except httpx.TransportError as error:
                outcome = error
            pause = pause_before_another(outcome, attempt, self._retries)
            if pause is None:
                return ask.read(checked(outcome, self.server))
            attempt += 1
            time.sleep(pause)

    def _follow(self, listen: Listen[T]) -> Generator[T]:
        following = Following(listen, self.server, self._retries)
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

    deployflows = _now(calls.deployflows)
    deployflow = _now(calls.deployflow)
    watch = _each(calls.watch)
    events = _each(calls.events)
    create = _now(calls.create)
    steer = _now(calls.steer)
    delete = _now(calls.delete)
    next = _now(calls.next)
    continue_ = _now(calls.continue_)
    promote = _now(calls.promote)
    pause = _now(calls.pause)
    resume = _now(calls.resume)
    cancel = _now(calls.cancel)
    retry = _now(calls.retry)
    instances = _now(calls.instances)
    instance = _now(calls.instance)
    pods = _now(calls.pods)
    history = _now(calls.history)
    update = _now(calls.update)
    rollback = _now(calls.rollback)
    restart = _now(calls.restart)
    scale = _now(calls.scale)
    stop = _now(calls.stop)
    start = _now(calls.start)
    delete_instance = _now(calls.delete_instance)
    plan = _now(calls.plan)
    restart_all = _now(calls.restart_all)
    scale_all = _now(calls.scale_all)


class AsyncTriton(_Client):
    """The same for asyncio."""

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

    async def _call(self, ask: Ask[T]) -> T:
        key, attempt = self._key(), 0
        while True:
            outcome: Outcome
            try:
                outcome = await self._http.send(self._request(self._http, ask, key))
            except httpx.TransportError as error:
                outcome = error
            pause = pause_before_another(outcome, attempt, self._retries)
            if pause is None:
                return ask.read(checked(outcome, self.server))
            attempt += 1
            await asyncio.sleep(pause)

    async def _follow(self, listen: Listen[T]) -> AsyncGenerator[T]:
        following = Following(listen, self.server, self._retries)
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

    deployflows = _soon(calls.deployflows)
    deployflow = _soon(calls.deployflow)
    watch = _each_soon(calls.watch)
    events = _each_soon(calls.events)
    create = _soon(calls.create)
    steer = _soon(calls.steer)
    delete = _soon(calls.delete)
    next = _soon(calls.next)
    continue_ = _soon(calls.continue_)
    promote = _soon(calls.promote)
    pause = _soon(calls.pause)
    resume = _soon(calls.resume)
    cancel = _soon(calls.cancel)
    retry = _soon(calls.retry)
    instances = _soon(calls.instances)
    instance = _soon(calls.instance)
    pods = _soon(calls.pods)
    history = _soon(calls.history)
    update = _soon(calls.update)
    rollback = _soon(calls.rollback)
    restart = _soon(calls.restart)
    scale = _soon(calls.scale)
    stop = _soon(calls.stop)
    start = _soon(calls.start)
    delete_instance = _soon(calls.delete_instance)
    plan = _soon(calls.plan)
    restart_all = _soon(calls.restart_all)
    scale_all = _soon(calls.scale_all)
