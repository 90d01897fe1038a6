"""Sends a watch to its client until one of them has had enough."""

from __future__ import annotations

import asyncio
import random

from aiohttp import web

from shared.domain.json_types import Json

from .errors import ApiError, bad_request
from .objects import encode
from .requests import Target, is_true, number, scope_of, wants_table
from .store import Record, Store
from .tables import Table
from .watches import Render, Watch, error_line

DEFAULT_SECONDS = (1800, 3600)
"""How long a watch lives that names no timeout: a random while, as on the real server, so that not all end at
once."""

RESTS_SECONDS = 0.002
"""A short rest between writes lets a burst of events leave in one piece instead of a packet each."""


async def stream_watch(
    request: web.BaseRequest, target: Target, store: Store, bookmark_seconds: float, open_watches: set[Watch]
) -> web.StreamResponse:
    """Stream the watch as a chunked response of one JSON object a line."""
    query = request.query
    scope = scope_of(target, query)
    if target.name:
        raise bad_request("watch a single object with a fieldSelector on metadata.name")
    table = wants_table(request.headers.get("Accept", ""))
    render = _table_lines(target, query.get("includeObject", "Metadata")) if table else None
    watch = Watch(store, store.collection(target.resource.key), scope, render)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    open_watches.add(watch)
    try:
        _start(watch, target, query.get("resourceVersion", ""), is_true(query, "sendInitialEvents"))
        lifetime = number(query, "timeoutSeconds") or random.uniform(*DEFAULT_SECONDS)
        every = bookmark_seconds if is_true(query, "allowWatchBookmarks") and not table else 0.0
        await _send(response, watch, target, lifetime, every)
    except ApiError as error:
        await response.write(error_line(error))
    except ConnectionError:
        return response
    finally:
        watch.stop()
        open_watches.discard(watch)
    return response


def _start(watch: Watch, target: Target, version: str, initial: bool) -> None:
    if initial or version in ("", "0"):
        watch.start(None)
        if initial:
            watch.bookmark(target.resource.kind, target.resource.api_version, initial_end=True)
    elif version.isdigit():
        watch.start(int(version))
    else:
        raise bad_request(f'resourceVersion: Invalid value: "{version}": must be a number')


async def _send(
    response: web.StreamResponse, watch: Watch, target: Target, lifetime: float, every: float
) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + lifetime
    bookmark = loop.time() + every if every else end
    while True:
        now = loop.time()
        chunk = await watch.lines(max(min(end, bookmark) - now, 0.0))
        if chunk:
            await response.write(chunk)
            await asyncio.sleep(RESTS_SECONDS)
        if watch.closed or loop.time() >= end:
            break
        if every and loop.time() >= bookmark:
            watch.bookmark(target.resource.kind, target.resource.api_version)
            bookmark = loop.time() + every


def _table_lines(target: Target, include: str) -> Render:
    table = Table(target.resource)

    def line(kind: str, record: Record) -> bytes:
        metadata: Json = {"resourceVersion": str(record.version)}
        return encode({"type": kind, "object": table.of([record], metadata, include)}) + b"\n"

    return line
