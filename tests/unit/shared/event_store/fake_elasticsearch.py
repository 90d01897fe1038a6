"""A fake of Elasticsearch: it is NOT one, and shows only how our client behaves towards its answers.

It keeps documents by (data stream, id), answers bulk requests item by item as Elasticsearch does, and can be
set to answer otherwise. What a real node does with our templates and queries is tested on a real node.
"""

from __future__ import annotations

import json
import ssl
from collections import Counter
from typing import Any, Self

from aiohttp import web

from shared.domain.json_types import Json


class FakeElasticsearch:
    """Its address is `url` while it runs."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.documents: dict[tuple[str, str], Json] = {}
        self.templates: dict[str, Json] = {}
        self.mappings: dict[str, Json] = {}
        self.policies: dict[str, Json] = {}
        self.lifecycles: dict[str, Json] = {}
        """Of data streams, by the pattern that they were named with."""
        self.settings: dict[str, Json] = {}
        self.conflicts: set[str] = set()
        """Data streams whose mapping has another type, until their rollover."""
        self.rollovers: list[str] = []
        self.requests: Counter[str] = Counter()
        self.searches: list[Json] = []
        self.headers: dict[str, str] = {}
        self.answers: list[tuple[int, Json]] = []
        """The answers to the next requests instead of its own."""
        self.refuse: dict[str, tuple[int, Json]] = {}
        """Status and error of the documents with these ids."""
        self.health = "green"
        self.product = "Elasticsearch"
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application(middlewares=[self._middleware], client_max_size=2**27)
        application.add_routes(
            [
                web.put("/_bulk", self._bulk),
                web.post("/_bulk", self._bulk),
                web.get("/_cluster/health", self._health),
                web.get("/{kind:_component_template|_index_template}/{name}", self._get_template),
                web.put("/{kind:_component_template|_index_template}/{name}", self._put_template),
                web.put("/{index}/_mapping", self._put_mapping),
                web.put("/{index}/_settings", self._put_settings),
                web.post("/{index}/_rollover", self._rollover),
                web.put("/_data_stream/{name}/_lifecycle", self._put_lifecycle),
                web.delete("/_data_stream/{name}/_lifecycle", self._delete_lifecycle),
                web.get("/_ilm/policy/{name}", self._get_policy),
                web.put("/_ilm/policy/{name}", self._put_policy),
                web.post("/{indices}/_search", self._search),
            ]
        )
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        await self._runner.cleanup()

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests[f"{request.method} {request.path}"] += 1
        self.headers = dict(request.headers)
        if self.answers:
            status, body = self.answers.pop(0)
            return self._answer(body, status)
        response: web.StreamResponse = await handler(request)
        return response

    def _answer(self, body: Json, status: int = 200) -> web.Response:
        return web.json_response(
            body,
            status=status,
            headers={"X-Elastic-Product": self.product, "X-Is-A-Fake": "yes"},
            content_type="application/vnd.elasticsearch+json",
        )

    async def _bulk(self, request: web.Request) -> web.Response:
        lines = [json.loads(line) for line in (await request.text()).splitlines()]
        items = [
            self._create(action["create"], source)
            for action, source in zip(lines[::2], lines[1::2], strict=True)
        ]
        return self._answer(
            {"errors": any("error" in item for item in items), "items": [{"create": item} for item in items]}
        )

    def _create(self, target: Json, source: Json) -> Json:
        name = (target["_index"], target["_id"])
        if target["_id"] in self.refuse:
            status, error = self.refuse[target["_id"]]
            return {"status": status, "error": error}
        if name in self.documents:
            error = {"type": "version_conflict_engine_exception", "reason": "document already exists"}
            return {"status": 409, "error": error}
        self.documents[name] = source
        return {"status": 201}

    async def _health(self, _: web.Request) -> web.Response:
        return self._answer({"status": self.health})

    async def _get_template(self, request: web.Request) -> web.Response:
        name, kind = request.match_info["name"], request.match_info["kind"].removeprefix("_")
        if name not in self.templates:
            return self._answer({"error": {"type": "resource_not_found_exception"}, "status": 404}, 404)
        return self._answer({f"{kind}s": [{"name": name, kind: self.templates[name]}]})

    async def _put_template(self, request: web.Request) -> web.Response:
        self.templates[request.match_info["name"]] = await request.json()
        return self._answer({"acknowledged": True})

    async def _put_mapping(self, request: web.Request) -> web.Response:
        index = request.match_info["index"]
        if not any(name == index for name, _ in self.documents):
            return self._answer({"error": {"type": "index_not_found_exception"}, "status": 404}, 404)
        if index in self.conflicts:
            error = {"type": "illegal_argument_exception", "reason": "cannot be changed from type [long]"}
            return self._answer({"error": error, "status": 400}, 400)
        self.mappings[index] = await request.json()
        return self._answer({"acknowledged": True})

    async def _rollover(self, request: web.Request) -> web.Response:
        self.rollovers.append(request.match_info["index"])
        self.conflicts.discard(request.match_info["index"])
        return self._answer({"rolled_over": True})

    async def _put_settings(self, request: web.Request) -> web.Response:
        self.settings.setdefault(request.match_info["index"], {}).update(await request.json())
        return self._answer({"acknowledged": True})

    async def _put_lifecycle(self, request: web.Request) -> web.Response:
        self.lifecycles[request.match_info["name"]] = await request.json()
        return self._answer({"acknowledged": True})

    async def _delete_lifecycle(self, request: web.Request) -> web.Response:
        self.lifecycles.pop(request.match_info["name"], None)
        return self._answer({"acknowledged": True})

    async def _get_policy(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.policies:
            return self._answer({"error": {"type": "resource_not_found_exception"}, "status": 404}, 404)
        return self._answer({name: {"version": 1, **self.policies[name]}})

    async def _put_policy(self, request: web.Request) -> web.Response:
        self.policies[request.match_info["name"]] = await request.json()
        return self._answer({"acknowledged": True})

    async def _search(self, request: web.Request) -> web.Response:
        """Newest first, by timestamp alone; conditions are recorded and not evaluated."""
        body = await request.json()
        self.searches.append({"indices": request.match_info["indices"].split(","), **body})
        found = sorted(self.documents.values(), key=lambda source: str(source["@timestamp"]), reverse=True)
        hits = [
            {"_source": source, "sort": [source["@timestamp"], 0, source["event"]["id"]]} for source in found
        ]
        if after := body.get("search_after"):
            hits = [hit for hit in hits if hit["sort"] < after]
        return self._answer({"hits": {"hits": hits[: body["size"]]}})
