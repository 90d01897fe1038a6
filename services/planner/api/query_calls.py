"""The calls that read: releases, instances, pods, the release log, and the plan of a release."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Protocol

from services.planner.api import access
from services.planner.api.access import Caller
from services.planner.api.call_authorization import NAME, Authorization, check_name
from services.planner.api.call_errors import errors_as_problems
from services.planner.api.flow_queries import FlowFilter, FlowQueries
from services.planner.api.problem import Kind, Problem
from services.planner.intake.flow_mutations import FlowMutations
from services.planner.views import plan_preview
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.event_store.interface import Query
from shared.kube.client import CLONESETS, NAMESPACES, PODS, ApiError, Client, label_selector
from shared.releases import specs


class EventSearch(Protocol):
    """The part of the event store that is read here."""

    async def search(self, query: Query) -> list[Json]:
        """Search as `EventStore.search` does."""


class QueryCalls:
    """Every call raises `Problem`. A DeployFlow in an answer has the shape of `FlowQueries`."""

    def __init__(
        self,
        authorization: Authorization,
        flow_queries: FlowQueries,
        mutations: FlowMutations,
        client: Client,
        events: EventSearch,
    ) -> None:
        self._authorization = authorization
        self._flow_queries = flow_queries
        self._mutations = mutations
        self._client = client
        self._events = events

    async def flow(self, caller: Caller, namespace: str, name: str) -> Json:
        await self._authorization.require(caller, access.GET, namespace, name)
        with errors_as_problems():
            return await self._flow_queries.flow(namespace, name)

    async def flows(self, caller: Caller, wanted: FlowFilter) -> list[Json]:
        """Return the releases that match, newest first."""
        await self._authorization.require(caller, access.LIST, wanted.namespace)
        check_name(NAME, wanted.instance)
        with errors_as_problems():
            return await self._flow_queries.flows(wanted)

    async def require_namespace(self, namespace: str) -> None:
        """Raise `Problem` where the namespace does not exist; one that may not be looked up is taken to exist."""
        query = {"fieldSelector": f"metadata.name={namespace}", "limit": "1"}
        with errors_as_problems():
            try:
                page = json.loads(await self._client.list_page(NAMESPACES, None, query))
            except ApiError as error:
                if error.code == 403:
                    return
                raise
        if not page["items"]:
            raise Problem(Kind.NOT_FOUND, "NotFound", f"namespace {namespace} does not exist")

    async def instance(self, caller: Caller, namespace: str, name: str) -> Json:
        """Return its CloneSet."""
        await self._authorization.require(caller, access.GET, namespace)
        check_name(NAME, name)
        with errors_as_problems():
            found = await self._mutations.cloneset(namespace, name)
        if found is None or not _is_managed(found):
            text = f"there is no instance {name} in namespace {namespace}"
            raise Problem(Kind.NOT_FOUND, "NotFound", text)
        return found

    async def instances(self, caller: Caller, namespace: str, labels: str = "") -> list[Json]:
        """Return the CloneSets that Triton made, by name. `labels`: a selector, as `kubectl -l` takes it."""
        await self._authorization.require(caller, access.LIST, namespace)
        selector = ",".join(filter(None, [label_selector(df.MANAGED_BY), labels]))
        with errors_as_problems():
            found = await self._client.list(CLONESETS, namespace, labels=selector)
        return sorted(found, key=lambda cloneset: str(cloneset["metadata"]["name"]))

    async def pod(self, caller: Caller, namespace: str, name: str) -> Json:
        await self._authorization.require(caller, access.GET, namespace)
        check_name(NAME, name)
        missing = Problem(
            Kind.NOT_FOUND, "NotFound", f"there is no pod {name} of Triton's in namespace {namespace}"
        )
        with errors_as_problems():
            try:
                found = await self._client.get(PODS, namespace, name)
            except ApiError as error:
                if error.code == 404:
                    raise missing from error
                raise
        if not _is_managed(found):
            raise missing
        return found

    async def pods(self, caller: Caller, namespace: str, instance: str = "", ip: str = "") -> list[Json]:
        """Return the pods of instances that Triton manages, oldest first."""
        await self._authorization.require(caller, access.LIST, namespace)
        check_name(NAME, instance)
        labels = df.MANAGED_BY | ({df.INSTANCE_LABEL: instance} if instance else {})
        with errors_as_problems():
            found = await self._client.list(PODS, namespace or None, labels=label_selector(labels))
        found = [pod for pod in found if ip in {"", (pod.get("status") or {}).get("podIP")}]
        return sorted(found, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    async def history(
        self,
        caller: Caller,
        namespace: str,
        instance: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1000,
    ) -> list[Json]:
        """Return the events of an instance in the release log, oldest first: the newest `limit` of them."""
        await self._authorization.require(caller, access.LIST, namespace)
        check_name(NAME, instance)
        query = Query(namespace=namespace, instance=instance, since=since, until=until, limit=limit)
        with errors_as_problems():
            return await self._events.search(query)

    async def plan(self, caller: Caller, namespace: str, spec: Json) -> Json:
        """Return the batches that a release of this spec would have now; nothing is started."""
        await self._authorization.require(caller, access.GET, namespace)
        with errors_as_problems():
            wanted = specs.checked(spec)
            instance = wanted.application.instance_name
            cloneset = await self._mutations.cloneset(namespace, instance)
            pods = await self._client.list(
                PODS, namespace, labels=label_selector({df.INSTANCE_LABEL: instance})
            )
            assumed = plan_preview.assume(wanted, cloneset, pods)
            try:
                return plan_preview.plan_object(wanted, assumed, plan_preview.make(wanted, assumed))
            except ValueError as error:
                raise Problem(Kind.UNPROCESSABLE, "NoPlan", str(error)) from error


def _is_managed(item: Json) -> bool:
    labels = item["metadata"].get("labels") or {}
    return df.MANAGED_BY.items() <= labels.items()
