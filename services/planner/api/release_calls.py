"""The calls that begin a release: of a whole spec, or of an instance by one verb (update, restart, scale, …)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from services.planner.api import access
from services.planner.api.call_authorization import NAME, Authorization, check_name, is_name
from services.planner.api.call_errors import errors_as_problems
from services.planner.api.change_calls import ChangeCalls, ChangeRequest
from services.planner.api.flow_queries import FlowQueries
from services.planner.api.problem import Kind, Problem
from services.planner.api.query_calls import QueryCalls
from services.planner.intake.flow_mutations import FlowMutations, made_by
from shared.domain import deployflow as df
from shared.domain.deploy_commands import CommandType, DeployCommand, Refusal
from shared.domain.json_types import Json
from shared.releases import history, specs
from shared.releases.specs import Known, Wish

CONCURRENT_INSTANCES: Final = 4
"""Instances of one bulk request that are worked on at the same time."""
BULK_INSTANCES: Final = 100
"""The most instances of one bulk request."""


class RollbackResult(NamedTuple):
    """A new release, and the name of the release that it goes back to."""

    flow: Json
    back_to: str = ""


class InstanceResult(NamedTuple):
    """The result of a bulk request for one instance: its release, or the problem."""

    instance: str
    flow: Json | None = None
    problem: Problem | None = None


class ReleaseCalls(ChangeCalls):
    """Every call returns the new DeployFlow, in the shape of `FlowQueries`, and raises `Problem`.

    `queue`: the release may wait for one that runs; else a running one is a conflict. `strategy`: the fields that
    differ from those that the last create or update requested.
    """

    def __init__(
        self,
        authorization: Authorization,
        flow_queries: FlowQueries,
        mutations: FlowMutations,
        queries: QueryCalls,
    ) -> None:
        super().__init__(authorization, flow_queries, mutations)
        self._queries = queries

    async def deploy(
        self,
        change: ChangeRequest,
        namespace: str,
        spec: df.DeployFlowSpec,
        *,
        name: str = "",
        queue: bool = False,
        freeze_override: str = "",
        unsaid: df.Unsaid = df.Unsaid.NOTHING,
        keep: bool = False,
    ) -> Json:
        """Begin a release of any action. `keep`: it is not deleted beyond the history limit."""
        await self._authorization.require_release(change.caller, namespace, spec.action)
        with errors_as_problems():
            releases = await self._mutations.releases(namespace, spec.application.instance_name)
            if made := _made_before(change, releases):
                return await self._flow_queries.with_status(made)
        return await self._begin(
            change,
            namespace,
            spec,
            releases,
            name=name,
            queue=queue,
            freeze_override=freeze_override,
            unsaid=unsaid,
            keep=keep,
        )

    async def release(
        self, change: ChangeRequest, namespace: str, application: Json, strategy: Json | None
    ) -> Json:
        """Create the instance where it does not exist or is being deleted, else update it."""
        await self._authorization.require(change.caller, access.CREATE, namespace)
        with errors_as_problems():
            instance = application.get("instanceName")
            exists = False
            # what is no name is refused below, with the name of its field
            if isinstance(instance, str) and is_name(NAME, instance):
                known = await self._mutations.known(namespace, instance)
                there = known.cloneset
                exists = there is not None and not history.is_being_deleted(known.releases, there)
            action = df.Action.UPDATE if exists else df.Action.CREATE
            counted = "replicas" in application or not exists
            application = await self._completed(namespace, application, exists=exists)
            spec = {"action": action, "application": application, "updateStrategy": strategy}
            wanted = specs.checked({key: value for key, value in spec.items() if value is not None})
        unsaid = df.Unsaid.NOTHING if counted else df.Unsaid.REPLICAS
        return await self.deploy(change, namespace, wanted, unsaid=unsaid)

    async def _completed(self, namespace: str, application: Json, *, exists: bool) -> Json:
        """Return the application with the ids and the count that were left out: of the instance, where it exists."""
        left_out: Json = {"appID": 0, "groupID": 0, "appName": ""}
        if exists:
            known = await self._mutations.known(namespace, application["instanceName"])
            left_out["replicas"] = specs.replicas_of(known)
            # a CloneSet without our labels has no ids
            with suppress(Refusal):
                left_out |= history.identity(known.releases, known.instance, known.cloneset)
        return {**left_out, **application}

    async def update(
        self,
        change: ChangeRequest,
        namespace: str,
        instance: str,
        wish: Wish,
        *,
        queue: bool = False,
        freeze_override: str = "",
    ) -> Json:
        """Release another image; all else is as in its last successful release, the strategy as it was requested last."""
        return await self._begin_for(
            change,
            namespace,
            instance,
            lambda known: specs.update(known, wish),
            queue=queue,
            freeze_override=freeze_override,
            unsaid=df.Unsaid.REPLICAS if wish.replicas is None else df.Unsaid.NOTHING,
        )

    async def rollback(
        self, change: ChangeRequest, namespace: str, instance: str, to: str | None, strategy: Json | None
    ) -> RollbackResult:
        """Go back to the release named, else to the last successful one before this; a running one is taken over."""
        check_name(NAME, to or "")
        back: list[str] = []

        def build(known: Known) -> df.DeployFlowSpec:
            base, spec = specs.rollback(known, to, strategy or {})
            back.append(base["metadata"]["name"])
            return spec

        flow = await self._begin_for(
            change, namespace, instance, build, queue=True, unsaid=df.Unsaid.REPLICAS
        )
        if not back:
            # the same request again: the release that it went back to is the one with its template
            releases = await self._mutations.releases(namespace, instance)
            back += [found["metadata"]["name"] for found in releases if specs.brought_by(flow, found)]
        return RollbackResult(flow, back[-1] if back else "")

    async def restart(
        self, change: ChangeRequest, namespace: str, instance: str, strategy: Json, *, queue: bool = False
    ) -> Json:
        return await self._begin_with(specs.restart, change, namespace, instance, strategy, queue=queue)

    async def scale(
        self,
        change: ChangeRequest,
        namespace: str,
        instance: str,
        replicas: int | None,
        strategy: Json,
        *,
        queue: bool = False,
        even_if_same: bool = False,
    ) -> Json:
        """Scale in or out; raise `Problem` where it has that many replicas already.

        `even_if_same`: a release is made all the same, with nothing to do.
        """

        def build(known: Known) -> df.DeployFlowSpec:
            spec = specs.scale(known, replicas, strategy)
            if spec is None and not even_if_same:
                raise Refusal("NothingToDo", f"{instance} has {replicas} replicas already")
            return spec or specs.keeping(known, df.Action.SCALE_OUT, strategy, replicas)

        unsaid = df.Unsaid.NOTHING if strategy.get("podsToDelete") else df.Unsaid.DIRECTION
        return await self._begin_for(change, namespace, instance, build, queue=queue, unsaid=unsaid)

    async def stop(
        self, change: ChangeRequest, namespace: str, instance: str, strategy: Json, *, queue: bool = False
    ) -> Json:
        return await self._begin_with(specs.stop, change, namespace, instance, strategy, queue=queue)

    async def start(
        self, change: ChangeRequest, namespace: str, instance: str, strategy: Json, *, queue: bool = False
    ) -> Json:
        return await self._begin_with(specs.start, change, namespace, instance, strategy, queue=queue)

    async def delete_instance(self, change: ChangeRequest, namespace: str, instance: str) -> Json:
        """Delete all its pods, drained, then its CloneSet; its DeployFlows stay."""
        return await self._begin_with(specs.delete, change, namespace, instance, {}, queue=False)

    async def each(
        self,
        change: ChangeRequest,
        namespace: str,
        labels: str,
        begin: Callable[[ChangeRequest, str], Awaitable[Json]],
    ) -> list[InstanceResult]:
        """Call `begin` for every instance with such labels, a few at a time: each succeeds or fails on its own."""
        await self._authorization.require(change.caller, access.CREATE, namespace)
        found = await self._queries.instances(change.caller, namespace, labels)
        if len(found) > BULK_INSTANCES:
            text = (
                f"{len(found)} instances fit, {BULK_INSTANCES} at most may be changed at once: select fewer"
            )
            raise Problem(Kind.UNPROCESSABLE, "TooManyInstances", text)
        slots = asyncio.Semaphore(CONCURRENT_INSTANCES)

        async def begin_one(instance: str) -> InstanceResult:
            own = change._replace(id=f"{change.id} {instance}" if change.id else "")
            async with slots:
                try:
                    return InstanceResult(instance, await begin(own, instance))
                except Problem as problem:
                    return InstanceResult(instance, problem=problem)

        return await asyncio.gather(*(begin_one(cloneset["metadata"]["name"]) for cloneset in found))

    async def _begin_with(
        self,
        build: Callable[[Known, Json], df.DeployFlowSpec],
        change: ChangeRequest,
        namespace: str,
        instance: str,
        strategy: Json,
        *,
        queue: bool,
    ) -> Json:
        return await self._begin_for(
            change, namespace, instance, lambda known: build(known, strategy), queue=queue
        )

    async def _begin_for(
        self,
        change: ChangeRequest,
        namespace: str,
        instance: str,
        build: Callable[[Known], df.DeployFlowSpec],
        *,
        queue: bool = False,
        freeze_override: str = "",
        unsaid: df.Unsaid = df.Unsaid.NOTHING,
    ) -> Json:
        """Begin the release that `build` makes from what is known of the instance."""
        await self._authorization.require(change.caller, access.CREATE, namespace)
        check_name(NAME, instance)
        with errors_as_problems():
            known = await self._mutations.known(namespace, instance, pods=True)
            if made := _made_before(change, known.releases):
                return await self._flow_queries.with_status(made)
            if not known.releases and known.cloneset is None:
                await self._queries.require_namespace(namespace)
            spec = build(known)
        await self._authorization.require_release(change.caller, namespace, spec.action)
        return await self._begin(
            change,
            namespace,
            spec,
            known.releases,
            queue=queue,
            freeze_override=freeze_override,
            unsaid=unsaid,
        )

    async def _begin(
        self,
        change: ChangeRequest,
        namespace: str,
        spec: df.DeployFlowSpec,
        releases: Sequence[Json],
        *,
        name: str = "",
        queue: bool,
        freeze_override: str,
        unsaid: df.Unsaid = df.Unsaid.NOTHING,
        keep: bool = False,
    ) -> Json:
        """Begin a release that is authorized and not made yet. `releases`: all of its instance."""
        with errors_as_problems():
            if not queue and (running := _blocking_release(releases, spec)):
                text = (
                    f"{running['metadata']['name']} is releasing {spec.application.instance_name} "
                    f"({running['status']['phase']}): wait for its end, cancel it, or pause it"
                )
                raise Problem(Kind.CONFLICT, "InProgress", text)
            command = DeployCommand(
                id=change.key,
                type=CommandType.DEPLOY,
                namespace=namespace,
                deploy_flow=name or None,
                spec=spec,
                requested_by=change.caller.name,
                freeze_override=freeze_override,
            )
            made = await self._mutations.carry_out(command, unsaid=unsaid, keep=keep, origin=change.origin)
            return await self._record(change, spec.action, made)


def _blocking_release(releases: Sequence[Json], spec: df.DeployFlowSpec) -> Json | None:
    """Return the release that the new one would have to wait for."""
    for flow in releases:
        taken_over = spec.updating and flow["status"].get("paused")
        # nobody who creates an instance again wants the deleted one to stay
        awaited = spec.action == df.Action.CREATE and history.is_deletion(flow)
        if not (flow["status"]["finished"] or taken_over or awaited):
            return flow
    return None


def _made_before(change: ChangeRequest, releases: Sequence[Json]) -> Json | None:
    """Return the release that the same request has made already."""
    if not change.id:
        return None
    return next((flow for flow in releases if made_by(flow, change.key)), None)
