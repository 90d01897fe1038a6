"""The calls of the APIs on a cluster that is a dictionary: what they read and write is real, nothing decides."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc

from services.planner.api.access import Access, Caller, OpenAccess, Right
from services.planner.api.calls import Calls
from services.planner.api.flow_queries import FlowQueries
from services.planner.api.flow_streams import FlowStreams
from services.planner.api.grpc_server import start
from services.planner.api.problem import Kind, Problem
from services.planner.intake.flow_mutations import FlowMutations
from services.planner.runtime.flow_cache import FlowCache
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.kube.client import CLONESETS, DEPLOYFLOWS, NAMESPACES, PODS, ApiError, Client, Resource
from shared.settings import Settings

LABELS = {"app": "12122", "group": "10010", **df.MANAGED_BY}
TEMPLATE: Json = {"spec": {"containers": [{"name": "app", "image": "nginx:latest"}]}}


class Cluster:
    """The API server, as far as `Calls` talk to it."""

    def __init__(self) -> None:
        self.objects: dict[tuple[Resource, str, str], Json] = {}
        self.missing: set[str] | None = set()
        """The namespaces that do not exist; None: nobody may know."""
        self._versions = itertools.count(1)

    def put(self, resource: Resource, item: Json) -> Json:
        meta = item["metadata"]
        meta.setdefault("uid", f"uid-{meta['name']}")
        meta.setdefault("creationTimestamp", "2026-01-02T03:04:05Z")
        meta["generation"] = meta.get("generation", 0) + 1
        meta["resourceVersion"] = str(next(self._versions))
        self.objects[resource, meta["namespace"], meta["name"]] = item
        return item

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        try:
            return copy.deepcopy(self.objects[resource, namespace, name])
        except KeyError:
            raise ApiError(404, "NotFound", f"{resource.plural} {name} not found") from None

    async def list(self, resource: Resource, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        wanted = dict(label.split("=") for label in labels.split(",") if label)
        return [
            copy.deepcopy(item)
            for (kind, at, _), item in self.objects.items()
            if kind == resource and namespace in {None, "", at}
            if wanted.items() <= item["metadata"].get("labels", {}).items()
        ]

    async def list_page(self, resource: Resource, namespace: str | None, query: dict[str, str]) -> bytes:
        """Answer for Namespaces: all exist but `missing`."""
        assert resource is NAMESPACES
        if self.missing is None:
            raise ApiError(403, "Forbidden", "may not list namespaces")
        there = query["fieldSelector"].removeprefix("metadata.name=") not in self.missing
        return json.dumps({"items": [{}] if there else []}).encode()

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        if (resource, namespace, body["metadata"]["name"]) in self.objects:
            raise ApiError(409, "AlreadyExists", "it is there")
        return copy.deepcopy(self.put(resource, copy.deepcopy(body)))

    async def patch(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        item = await self.get(resource, namespace, name)
        for field, strategy in body.get("spec", {}).items():
            item["spec"][field] = {**(item["spec"].get(field) or {}), **strategy}
        item["metadata"]["annotations"] = body["metadata"]["annotations"]
        item["metadata"]["labels"] |= body["metadata"].get("labels") or {}
        return copy.deepcopy(self.put(resource, item))

    async def delete(self, resource: Resource, namespace: str, name: str, body: Json | None = None) -> None:
        there = (await self.get(resource, namespace, name))["metadata"]
        wanted = (body or {}).get("preconditions", {})
        if any(there[field] != value for field, value in wanted.items()):
            raise ApiError(409, "Conflict", "it is not that one")
        del self.objects[resource, namespace, name]


class NoStates:
    """Redis, which has nothing: the status of the resource is shown."""

    async def states(self, keys: list[Any]) -> list[bytes | None]:
        return [None for _ in keys]


class World:
    """`calls` on a cluster, and what Triton does there, done by a test."""

    def __init__(
        self, access: Access | None = None, *, store: object | None = None, namespaces: Sequence[str] = ()
    ) -> None:
        self.cluster = Cluster()
        client = cast("Client", self.cluster)
        settings = Settings(redis_url="redis://localhost", kafka="localhost:9092")
        self.flows = FlowCache(client, cast("Any", None), settings)
        reading = FlowQueries(cast("Any", store or NoStates()), self.flows, client)
        self.streams = FlowStreams(reading, self.flows)
        changes = FlowMutations(client, self.flows, reading.with_statuses)
        self.calls = Calls(
            access or OpenAccess(),
            reading,
            changes,
            self.streams,
            client,
            cast("Any", None),
            namespaces=namespaces,
        )

    def flow(self, name: str, *, status: Json | None = None, action: str = "update", **strategy: Any) -> Json:
        """A DeployFlow `name` of the instance `web` in the namespace `shop`."""
        updating = action in df.UPDATING
        template = {"template": TEMPLATE} if updating else {}
        identity = {"appID": 12122, "groupID": 10010, "appName": "hello", "instanceName": "web"}
        item = {
            "metadata": {"name": name, "namespace": "shop", "labels": LABELS, "annotations": {}},
            "spec": {
                "action": action,
                "application": {**identity, "replicas": 3, **template},
                "updateStrategy" if updating else "nonUpdateStrategy": strategy,
            },
            "status": status or {},
        }
        self.flows.reflector.put(self.cluster.put(DEPLOYFLOWS, item))
        return item

    def says(self, name: str, **status: Any) -> None:
        """The planner changes the status."""
        item = self.cluster.objects[DEPLOYFLOWS, "shop", name]
        item["status"] = {**item.get("status", {}), **status}
        self.flows.reflector.put(self.cluster.put(DEPLOYFLOWS, item))

    def gone(self, name: str) -> None:
        """Delete it, as the watch would report."""
        self.cluster.objects.pop((DEPLOYFLOWS, "shop", name), None)
        item = self.flows.get("shop", name)
        assert item is not None
        self.flows.reflector._forget(item)

    def cloneset(self, name: str = "web", **status: Any) -> None:
        container = {
            **TEMPLATE["spec"]["containers"][0],
            "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": 1, "memory": "512Mi"}},
        }
        item = {
            "metadata": {"name": name, "namespace": "shop", "labels": LABELS},
            "spec": {"replicas": 3, "template": {"spec": {"containers": [container]}}},
            "status": {"updateRevision": f"{name}-6b7", "updatedReadyReplicas": 2, **status},
        }
        self.cluster.put(CLONESETS, item)

    def pod(self, name: str, ip: str = "10.0.0.1", labels: Json = LABELS) -> None:
        revision = {df.INSTANCE_LABEL: "web", "controller-revision-hash": "web-6b7"}
        item = {
            "metadata": {"name": name, "namespace": "shop", "labels": {**labels, **revision}},
            "spec": {"containers": [{"name": "app", "image": "nginx:latest"}], "hostNetwork": True},
            "status": {"podIP": ip, "hostIP": "10.1.0.1", "phase": "Running"},
        }
        self.cluster.put(PODS, item)


def batch(number: int, phase: str, **fields: Any) -> Json:
    """A condition of a status."""
    return {"batch": number, "batchSize": 1, "phase": phase, **fields}


class Named(OpenAccess):
    """Who shows the token `secret` is `ada`, and may do what is in `may`; others may not come in."""

    def __init__(self, *may: Right) -> None:
        self._may = may

    async def caller(self, token: str | None, claimed: str = "") -> Caller:
        if token != "secret":
            raise Problem(Kind.UNAUTHENTICATED, "Unauthenticated", "no such token")
        return Caller("ada")

    async def allow(self, caller: Caller, right: Right, namespace: str, name: str = "") -> None:
        if right not in self._may:
            raise Problem(Kind.FORBIDDEN, "Forbidden", f"{caller.name} may not {right.verb}")


@asynccontextmanager
async def served(world: World, **options: Any) -> AsyncGenerator[grpc.aio.Channel]:
    """A channel to a server of its own."""
    server, port = await start(
        world.calls, **{"host": "127.0.0.1", "port": 0, "body_bytes": 100_000, **options}
    )
    # each a connection of its own
    alone = [("grpc.use_local_subchannel_pool", 1)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=alone) as channel:
            yield channel
    finally:
        await server.stop(0)
