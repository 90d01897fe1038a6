"""The Kubernetes API as Triton uses it: plain JSON over the official client's connection and login.

The client's typed models cost most of a millisecond and 88 KiB for one pod, so requests and watches go
through its transport and are decoded into the few fields that a service reads.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from prometheus_client import Counter
from yaml import YAMLError

from shared.domain import bounded_yaml
from shared.domain.json_types import Json
from shared.domain.object_bounds import DEEPEST_READ, cut, is_deeper
from shared.domain.safe_text import without_login
from shared.errors import ConfigError, Unavailable

Body = Json | list[Json]
"""An object, a merge patch, or the operations of a JSON patch."""

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

REQUEST_TIMEOUT_SECONDS: Final = 30
"""Above the 30 s that a server gives its slowest webhook there is nothing to wait for."""
PAGE: Final = 500
IN_A_LIST: Final = 2
"""The object of a list, and its items, are around each object that it has."""
CONNECTIONS: Final = 64
"""Open to the API server at a time, for each client."""
CONNECTIONS_PER_CALLER: Final = 16
"""The part of them, and of the rate limit, that one caller can take: the rest stays for others."""
CALLER: Final = ContextVar("caller", default="")
"""Whom a request to the API server is for; empty: the service itself, which is not limited."""
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

_requests = Counter(
    "triton_kubernetes_requests_total", "Requests to the API server", ["verb", "resource", "code"]
)
_log = logging.getLogger(__name__)


CORE: Final = "/api/v1"


class Resource(NamedTuple):
    """A kind of object: where the API server keeps it."""

    api: str
    plural: str

    @property
    def keeps_unknown_fields(self) -> bool:
        """Return whether its objects may have fields that the API server does not know, of any depth."""
        return self.api != CORE

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """Return the path of a request, with each name as one segment, whatever is in it.

        Without `name` it is the path of the list. Raises `ApiError` (404) for a name that no object can have, and that
        would lead to another path: an empty one, "." and "..".
        """
        parts = [self.api]
        if namespace:
            parts += ["namespaces", _segment(namespace)]
        parts.append(self.plural)
        parts += [_segment(part) for part in (name, subresource) if part is not None]
        return "/".join(parts)


def _segment(name: str) -> str:
    if name in {"", ".", ".."}:
        raise ApiError(404, "NotFound", f"{name!r} is no name of an object")
    return quote(name, safe="", errors="replace")


def label_selector(labels: Mapping[str, str]) -> str:
    """Return the selector of objects with these labels; raise `ApiError` (400) for what is no value of a label."""
    for name, value in labels.items():
        if not _LABEL_VALUE.fullmatch(value):
            text = f"{value[:253]!r} is no value of the label {name}: at most 63 of a-z, A-Z, 0-9, -, _ and ."
            raise ApiError(400, "BadRequest", text)
    return ",".join(f"{name}={value}" for name, value in labels.items())


DEPLOYFLOWS = Resource("/apis/apps.triton.io/v1alpha1", "deployflows")
CLONESETS = Resource("/apis/apps.kruise.io/v1alpha1", "clonesets")
CONTROLLER_REVISIONS = Resource("/apis/apps/v1", "controllerrevisions")
PODS = Resource(CORE, "pods")
NAMESPACES = Resource(CORE, "namespaces")
EVENTS = Resource(CORE, "events")
ENDPOINT_SLICES = Resource("/apis/discovery.k8s.io/v1", "endpointslices")
CRDS = Resource("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions")
VERSION = Resource("", "version")


class ApiError(Exception):
    """The API server's refusal: its code, reason and message."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason

    @property
    def rights_missing(self) -> bool:
        """Return whether the account may not do this, or not yet.

        An API server that has just been started knows no rights for a moment. What a webhook, a quota or a policy
        refuses has the same code.
        """
        return self.code == 401 or (self.code == 403 and 'User "' in str(self) and "cannot" in str(self))

    def waited_for(self, service: str) -> Unavailable:
        """Return the error of missing rights: what the service waits for, and what to do about it."""
        return Unavailable(f"not allowed: {self} (give the {service} the rights of deploy/rbac)")

    @classmethod
    def read(cls, code: int, body: bytes) -> ApiError:
        try:
            status = json.loads(body)
            return cls(code, status.get("reason") or str(code), status.get("message") or body.decode()[:500])
        except (ValueError, AttributeError):
            return cls(code, str(code), body.decode(errors="replace")[:500] or f"HTTP {code}")


@dataclass
class RateLimit:
    """A token bucket: `rate` requests a second, bursts of one second's worth."""

    rate: float
    _free_at: float = 0.0

    async def wait(self) -> None:
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 1.0) + 1.0 / self.rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class _Shares:
    """Bounds the requests of each caller that are in progress; those of the service itself are not counted."""

    def __init__(self) -> None:
        self._callers: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """Wait until the caller has less than its share; raise `Unavailable` when that takes too long."""
        if not caller:
            yield
            return
        free, users = self._callers.get(caller, (asyncio.Semaphore(CONNECTIONS_PER_CALLER), 0))
        self._callers[caller] = free, users + 1
        try:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                    await free.acquire()
            except TimeoutError as error:
                msg = (
                    f"{CONNECTIONS_PER_CALLER} requests of the same caller wait for Kubernetes already: "
                    "send fewer at a time"
                )
                raise Unavailable(msg) from error
            try:
                yield
            finally:
                free.release()
        finally:
            _, users = self._callers.pop(caller)
            if users > 1:
                self._callers[caller] = free, users - 1


class Client:
    """One connection to the API server. Objects are JSON as they come.

    Raises `ApiError` for a refusal and `Unavailable` when the server does not answer, asks to come back
    later (429) or fails (5xx).
    """

    def __init__(self, api_client: Any, *, agent: str, requests_per_second: float = 400) -> None:
        self._api = api_client
        self._api.user_agent = agent
        self._limit = RateLimit(requests_per_second)
        self._shares = _Shares()

    @classmethod
    async def connect(
        cls,
        kubeconfig: Path | None,
        *,
        agent: str,
        requests_per_second: float = 400,
        context: str | None = None,
    ) -> Client:
        """Connect by a service account, the passed kubeconfig, KUBECONFIG or ~/.kube/config; raise `ConfigError`.

        `context`: one of the kubeconfig; None: its current one.
        """
        from kubernetes.aio import client, config

        configuration = client.Configuration()
        configuration.connection_pool_maxsize = CONNECTIONS
        configuration.retries = None
        path = kubeconfig or _usual_kubeconfig()
        try:
            if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                if not path.is_file():
                    msg = f"kubeconfig {path} does not exist: set TRITON_KUBECONFIG or KUBECONFIG to one that does"
                    raise ConfigError(msg)
                read_kubeconfig(path)  # within bounds, which the client's own reader has not
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=str(path), context=context, client_configuration=configuration
                )
            if not str(configuration.host).startswith(("http://", "https://")):
                msg = f"its server {without_login(str(configuration.host))!r} is no URL"
                raise ValueError(msg)
            api_client = client.ApiClient(configuration)
        except (config.ConfigException, YAMLError, OSError, ValueError, TypeError, AttributeError) as error:
            # a file that is no kubeconfig fails in the client wherever it is looked into first
            why = str(error).replace("\n", " ")
            msg = (
                f"kubeconfig {path} can't be used: {why}: set TRITON_KUBECONFIG or KUBECONFIG to one that can"
            )
            raise ConfigError(msg) from error
        return cls(api_client, agent=agent, requests_per_second=requests_per_second)

    @property
    def server(self) -> str:
        """Return its address, without a login."""
        return without_login(str(self._api.configuration.host))

    async def close(self) -> None:
        await self._api.close()

    async def answers(self) -> None:
        """Ask for what every account may read; a refusal is an answer too. Raises `Unavailable`."""
        with suppress(ApiError):
            await self._request("GET", VERSION, VERSION.path())

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        return await self._json("GET", resource, resource.path(namespace, name))

    async def log(self, namespace: str, pod: str, query: dict[str, str]) -> str:
        """Return lines of the log of one of the pod's containers."""
        path = PODS.path(namespace, pod, "log")
        return (await self._request("GET", PODS, path, query=query)).decode(errors="replace")

    async def list_page(self, resource: Resource, namespace: str | None, query: dict[str, str]) -> bytes:
        """Return one page of a list, undecoded."""
        return await self._request("GET", resource, resource.path(namespace), query=query)

    async def list(self, resource: Resource, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        query = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        items: list[Json] = []
        while True:
            page = self._read(resource, await self.list_page(resource, namespace, query), IN_A_LIST)
            items += page["items"]
            if not (token := page["metadata"].get("continue")):
                return items
            query["continue"] = token

    async def create(
        self, resource: Resource, namespace: str | None, body: Json, *, dry_run: bool = False
    ) -> Json:
        return await self._json("POST", resource, resource.path(namespace), body=body, dry_run=dry_run)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Body,
        *,
        subresource: str | None = None,
        content_type: str = MERGE,
        dry_run: bool = False,
    ) -> Json:
        path = resource.path(namespace, name, subresource)
        return await self._json(
            "PATCH", resource, path, body=body, content_type=content_type, dry_run=dry_run
        )

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: Json) -> Json:
        return await self._json("PUT", resource, resource.path(namespace, name), body=body)

    async def delete(self, resource: Resource, namespace: str, name: str, body: Json | None = None) -> None:
        """Delete an object. `body`: DeleteOptions, such as the uid and resourceVersion that it must still have."""
        await self._request("DELETE", resource, resource.path(namespace, name), body=body)

    async def watch(
        self, resource: Resource, namespace: str | None, query: dict[str, str], *, silence_seconds: float
    ) -> AsyncGenerator[bytes]:
        """Yield the lines of a watch until the server ends it; raise `Unavailable` after too long a silence."""
        query = {**query, "watch": "1", "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silence_seconds)
        try:
            response = await self._send(
                "GET", resource.path(namespace), query, None, "application/json", timeout
            )
            async with response:
                if response.status != 200:
                    raise ApiError.read(response.status, await response.read())
                async for line in response.content:
                    yield line
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            msg = f"watch of {resource.plural} at {self.server} broke: {error or type(error).__name__}"
            raise Unavailable(msg) from error

    async def _json(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        body: Body | None = None,
        content_type: str = "application/json",
        dry_run: bool = False,
    ) -> Json:
        query = {"dryRun": "All"} if dry_run else {}
        data = await self._request(verb, resource, path, query=query, body=body, content_type=content_type)
        return self._read(resource, data)

    def _read(self, resource: Resource, data: bytes, around: int = 0) -> Json:
        """Return an answer as JSON; what is too deep in one of its objects is null. Raises `Unavailable`.

        `around`: the objects and lists that an object is inside of.
        """
        levels = DEEPEST_READ + around
        try:
            try:
                answer: Json = msgspec.json.decode(data)
                # the API server itself knows all fields of the others
                if resource.keeps_unknown_fields and is_deeper(answer, levels):
                    answer = msgspec.json.decode(cut(data, levels))
            except RecursionError:
                answer = msgspec.json.decode(cut(data, levels))
        except msgspec.DecodeError as error:
            msg = f"the answer of {self.server} about {resource.plural} cannot be read: {error}"
            raise Unavailable(msg) from error
        return answer

    async def _request(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Body | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        async with self._shares.of(CALLER.get()):
            await self._limit.wait()
            return await self._answer(verb, resource, path, query, body, content_type)

    async def _answer(
        self,
        verb: str,
        resource: Resource,
        path: str,
        query: dict[str, str] | None,
        body: Body | None,
        content_type: str,
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS, sock_connect=5)
        try:
            response = await self._send(verb, path, query or {}, body, content_type, timeout)
            async with response:
                data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            msg = f"Kubernetes at {self.server} does not answer: {error or type(error).__name__}"
            raise Unavailable(msg) from error
        _requests.labels(verb, resource.plural, str(response.status)).inc()
        if response.status < 400:
            return data
        refusal = ApiError.read(response.status, data)
        if response.status == 429 or response.status >= 500:
            msg = f"Kubernetes at {self.server} answered {response.status}: {refusal}"
            raise Unavailable(msg)
        raise refusal

    async def _send(
        self,
        verb: str,
        path: str,
        query: dict[str, str],
        body: Body | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {**self._api.default_headers, "Content-Type": content_type, "Accept": "application/json"}
        await self._api.update_params_for_auth(headers, {}, ["BearerToken"], path, verb, body)
        url = self._api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        response = await self._api.rest_client.request(
            verb, url, headers=headers, body=body, _request_timeout=timeout
        )
        raw: aiohttp.ClientResponse = response.response
        return raw


def read_kubeconfig(path: Path) -> Any:
    """Return what the file has; raise `OSError`, or `Unreadable` for one that is no YAML or beyond its bounds."""
    with path.open("rb") as file:
        documents = bounded_yaml.read_all(file.read(bounded_yaml.MOST_BYTES + 1))
    return documents[0] if documents else None


def _usual_kubeconfig() -> Path:
    return Path(os.environ.get("KUBECONFIG", "~/.kube/config")).expanduser()
