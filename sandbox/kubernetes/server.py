"""The HTTP side: takes requests apart, lets the rules decide, and puts answers and refusals into Kubernetes'
form.

One handler for all paths, since they are data here and not routes. There is no authentication, which is why
it only ever listens on a loopback address: for trying and testing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml
from aiohttp import web

from shared.domain.json_types import Json

from . import discovery, errors, patches, protobuf
from .api import Api, Options
from .audit import Audit
from .container_logs import log_text
from .definitions import plain
from .errors import ApiError
from .lists import Lists, list_body, list_metadata
from .objects import encode
from .requests import (
    Target,
    is_true,
    number,
    options_of,
    parse_target,
    scope_of,
    wants_aggregated,
    wants_table,
)
from .scale import read_scale, with_replicas
from .store import Record
from .streams import stream_watch
from .tables import Table
from .watches import Watch

MAX_BODY = 3 * 1024 * 1024
"""The size of a request that the real server still takes."""

_log = logging.getLogger(__name__)
_PATCHES: dict[str, Callable[[Any, Any], Json]] = {
    "application/merge-patch+json": patches.merge,
    "application/strategic-merge-patch+json": patches.strategic,
    "application/json-patch+json": patches.json_patch,
}
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass
class Settings:
    """Times of the server, in seconds."""

    bookmark_seconds: float = 3.0


class Server:
    """Answers requests; `handle` is the whole of it."""

    def __init__(self, api: Api, settings: Settings) -> None:
        self.api = api
        self.audit = Audit()
        self._watches: set[Watch] = set()
        self._settings = settings
        self.lists = Lists(api.store)

    def end_watches(self) -> None:
        """End every open watch in good order, as a server does before it stops."""
        for watch in list(self._watches):
            watch.stop()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        verb, resource = _VERBS.get(request.method, request.method.lower()), ""
        code = 500
        try:
            if request.path.startswith(("/api/v1/", "/apis/")) and (target := self._target(request.path)):
                resource = f"{target.resource.key}/{target.subresource}".rstrip("/")
                verb = _verb(request, target)
                response = await self._object_request(request, target)
            else:
                response = self._about(request)
            code = response.status
        except ApiError as error:
            code = error.code
            response = _json(error.status(), error.code)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.path)
            response = _json(
                ApiError(500, "InternalError", f"Internal error occurred: {error!r}").status(), 500
            )
        finally:
            self.audit.count(verb, resource, request.headers.get("User-Agent", ""), code)
        return response

    def _target(self, path: str) -> Target | None:
        """Return the target of a path; None for discovery paths, which have a group and a version but no resource."""
        if path.startswith("/apis/") and len([part for part in path.split("/") if part]) <= 3:
            return None
        if path.rstrip("/") == "/api/v1":
            return None
        return parse_target(self.api.registry, path)

    async def _object_request(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        match request.method:
            case "GET" if is_true(request.query, "watch"):
                return await stream_watch(
                    request, target, self.api.store, self._settings.bookmark_seconds, self._watches
                )
            case "GET":
                return self._read(request, target)
            case "POST":
                return self._create(request, target, await _body(request))
            case "PUT" | "PATCH" if target.name:
                return self._write(request, target, await _body(request))
            case "DELETE":
                return self._delete(request, target, await _body(request))
        raise errors.method_not_allowed()

    def _read(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        if not target.name:
            return self._list(request, target)
        record = self.api.get(target.resource, target.namespace, target.name)
        if target.subresource == "log":
            return web.Response(text=log_text(record.obj, request.query))
        if target.subresource == "scale":
            return _json(read_scale(target.resource, record.obj))
        return _object(request, target, record)

    def _list(self, request: web.BaseRequest, target: Target) -> web.Response:
        query = request.query
        page = self.lists.page(
            target.resource, scope_of(target, query), number(query, "limit"), query.get("continue", "")
        )
        if wants_table(request.headers.get("Accept", "")):
            table = Table(target.resource).of(
                page.records, list_metadata(page), query.get("includeObject", "Metadata")
            )
            return _json(table)
        return web.Response(body=list_body(target.resource, page), content_type="application/json")

    def _create(self, request: web.BaseRequest, target: Target, body: Any) -> web.Response:
        options = options_of(request.query)
        if target.subresource == "eviction":
            eviction = {"metadata": {}, **(body or {})}
            dry_run = options.dry_run or "All" in ((eviction.get("deleteOptions") or {}).get("dryRun") or ())
            self.api.evict(target.namespace, target.name, eviction, dry_run)
            return _json(
                {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201
            )
        if target.name or not isinstance(body, dict):
            raise (
                errors.method_not_allowed()
                if target.name
                else errors.bad_request("the body must be an object")
            )
        namespace = target.namespace
        if target.resource.namespaced and not namespace:
            raise errors.method_not_allowed()
        record = self.api.create(target.resource, namespace, body, options)
        return _object(request, target, record, 201, options)

    def _write(self, request: web.BaseRequest, target: Target, body: Any) -> web.Response:
        options = options_of(request.query)
        part = target.subresource
        change: Callable[[Json], Json] | None = None
        if request.method == "PATCH":
            change = _patch(request, target, body)
        elif not isinstance(body, dict):
            raise errors.bad_request("the body must be an object")
        if part == "scale":
            return self._write_scale(target, change, body, options)
        if change is None:
            record = self.api.update(target.resource, target.namespace, target.name, body, options, part)
        else:
            record = self.api.patch(target.resource, target.namespace, target.name, change, options, part)
        return _object(request, target, record, 200, options)

    def _write_scale(
        self, target: Target, change: Callable[[Json], Json] | None, body: Json, options: Options
    ) -> web.Response:
        resource = target.resource

        def scaled(live: Json) -> Json:
            wanted = body if change is None else change(read_scale(resource, live))
            return with_replicas(resource, live, wanted)

        record = self.api.patch(resource, target.namespace, target.name, scaled, options, "scale")
        return _json(read_scale(resource, record.obj))

    def _delete(self, request: web.BaseRequest, target: Target, body: Any) -> web.Response:
        query = request.query
        options: Json = dict(body) if isinstance(body, dict) else {}
        for name in ("propagationPolicy", "gracePeriodSeconds"):
            if query.get(name):
                options[name] = query[name]
        dry_run = options_of(query).dry_run or "All" in (options.get("dryRun") or ())
        if target.name:
            record, gone = self.api.delete(target.resource, target.namespace, target.name, options, dry_run)
            return (
                _json(_deleted(target, record.obj))
                if gone and target.resource.key != "pods"
                else _object(request, target, record)
            )
        page = self.lists.page(target.resource, scope_of(target, query), None, "")
        for record in page.records:
            metadata = record.obj["metadata"]
            self.api.delete(
                target.resource, metadata.get("namespace", ""), metadata["name"], options, dry_run
            )
        return web.Response(body=list_body(target.resource, page), content_type="application/json")

    def _about(self, request: web.BaseRequest) -> web.Response:
        """Serve health, versions, metrics and discovery."""
        path = request.path.rstrip("/") or "/"
        accept = request.headers.get("Accept", "")
        registry = self.api.registry
        parts = path.split("/")[1:]
        match parts:
            case ["healthz" | "readyz" | "livez", *_]:
                return web.Response(text="ok")
            case ["version"]:
                return _json(discovery.VERSION)
            case ["metrics"]:
                return web.Response(text=self.audit.text())
            case ["api" | "apis"] if wants_aggregated(accept):
                return _json(
                    discovery.aggregated(registry, parts[0] == "api"),
                    200,
                    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                )
            case ["api"]:
                return _json(discovery.core_versions(request.host))
            case ["apis"]:
                return _json(discovery.groups(registry))
            case ["openapi", "v3"]:
                return _json(discovery.openapi_index(registry))
            case ["openapi", "v3", "api", version]:
                return _json(discovery.openapi(registry, "", version))
            case ["openapi", "v3", "apis", group, version]:
                return _json(discovery.openapi(registry, group, version))
            case ["api", "v1"]:
                return _json(discovery.resource_list(registry, "", "v1"))
            case ["apis", group, version] if registry.of_version(group, version):
                return _json(discovery.resource_list(registry, group, version))
            case ["apis", group] if found := discovery.group(registry, group):
                return _json(found)
        raise errors.no_such_path()


def _verb(request: web.BaseRequest, target: Target) -> str:
    if request.method == "GET" and not target.name:
        return "watch" if is_true(request.query, "watch") else "list"
    if request.method == "DELETE" and not target.name:
        return "deletecollection"
    return _VERBS.get(request.method, request.method.lower())


def _json(body: Any, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(body=encode(body) + b"\n", status=status, headers={"Content-Type": content_type})


def _object(
    request: web.BaseRequest,
    target: Target,
    record: Record,
    status: int = 200,
    options: Options | None = None,
) -> web.Response:
    """Answer with one object, as itself or as a table of one row, with the warnings of the write."""
    if wants_table(request.headers.get("Accept", "")):
        metadata = {"resourceVersion": record.obj["metadata"].get("resourceVersion", "")}
        response = _json(
            Table(target.resource).of([record], metadata, request.query.get("includeObject", "Metadata")),
            status,
        )
    else:
        response = web.Response(body=record.data + b"\n", status=status, content_type="application/json")
    for warning in options.warnings if options else ():
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def _deleted(target: Target, obj: Json) -> Json:
    resource = target.resource
    details = {
        "name": obj["metadata"]["name"],
        "group": resource.group,
        "kind": resource.plural,
        "uid": obj["metadata"].get("uid"),
    }
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }


def _patch(request: web.BaseRequest, target: Target, body: Any) -> Callable[[Json], Json]:
    kind = request.content_type
    offered = [name for name in _PATCHES if not (target.resource.custom and "strategic" in name)]
    if kind == "application/apply-patch+yaml":
        raise errors.unsupported_media_type(
            "the sandbox does not do server-side apply: use a merge, JSON or "
            "strategic merge patch, or kubectl apply without --server-side"
        )
    if kind not in offered:
        raise errors.unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types "
            f"include: {', '.join(sorted(offered))}"
        )
    return lambda live: _PATCHES[kind](live, body)


async def _body(request: web.BaseRequest) -> Any:
    if not request.can_read_body:
        return None
    data = b""
    async for part in request.content.iter_any():
        data += part
        if len(data) > MAX_BODY:
            raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BODY}")
    if not data:
        return None
    try:
        if request.content_type == "application/vnd.kubernetes.protobuf":
            return protobuf.decode(data)
        if "yaml" in request.content_type:
            return plain(yaml.safe_load(data))
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise errors.bad_request(f"couldn't get version/kind; json parse error: {error}") from error
