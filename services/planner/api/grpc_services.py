"""The services of the gRPC API, as `protos/` describes them: each call is one of `Calls`."""
# ruff: noqa: N802 - the methods have the names that the protocol gives them

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from services.planner.api import grpc_messages as messages
from services.planner.api import v1_views
from services.planner.api.calls import Calls
from services.planner.api.change_calls import ChangeRequest
from services.planner.api.grpc_messages import Named, named
from services.planner.api.problem import Kind, Problem
from services.planner.api.protos import application_pb2, deployflow_pb2, pod_pb2, releases_v2_pb2
from services.planner.api.watch_targets import (
    approved_place,
    current_batch_number,
    has_reached,
    runs_past_approval,
)
from shared.domain.deploy_commands import CommandType
from shared.domain.deployflow import Action, BatchPhase, FlowPhase
from shared.domain.json_types import Json

DeployReplies = AsyncIterator[deployflow_pb2.DeployReply]


class DeployFlow:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Get(
        self, request: deployflow_pb2.DeployMetaRequest, change: ChangeRequest
    ) -> deployflow_pb2.DeployReply:
        return _reply(await self._calls.queries.flow(change.caller, *named(request.deploy, "deploy")))

    async def Gets(
        self, request: deployflow_pb2.DeploysRequest, change: ChangeRequest
    ) -> deployflow_pb2.DeploysReply:
        page = messages.page(request.filter)
        found = await self._calls.queries.flows(change.caller, messages.flow_filter(request.filter))
        return _replies(found[page])

    def Cancel(self, request: deployflow_pb2.DeployMetaRequest, change: ChangeRequest) -> DeployReplies:
        return self._until(request, change, CommandType.CANCEL, lambda s: s["phase"] == FlowPhase.CANCELED)

    def Pause(self, request: deployflow_pb2.DeployMetaRequest, change: ChangeRequest) -> DeployReplies:
        return self._until(request, change, CommandType.PAUSE, lambda s: bool(s.get("paused")))

    def Resume(self, request: deployflow_pb2.DeployMetaRequest, change: ChangeRequest) -> DeployReplies:
        return self._until(request, change, CommandType.RESUME, _is_resumed)

    async def Continue(
        self, request: deployflow_pb2.ContinueRequest, change: ChangeRequest
    ) -> deployflow_pb2.DeployReply:
        about, target = named(request.deploy, "deploy"), messages.target(request.target)
        if target is not None:
            return _reply(
                await self._calls.commands.command(change, *about, CommandType.CONTINUE, target=target)
            )
        if not request.HasField("target"):
            text = "target: continue needs a target (batches, stage or both)"
            raise Problem(Kind.INVALID, "Invalid", text)
        # an empty target approves nothing, and clients of Triton 0.1.x send it
        flow = await self._calls.queries.flow(change.caller, *about)
        if flow["status"]["finished"]:
            text = f"{about.name} has finished ({flow['status']['phase']}): there is nothing to continue"
            raise Problem(Kind.CONFLICT, "Finished", text)
        return _reply(flow)

    async def Next(
        self, request: deployflow_pb2.NextRequest, change: ChangeRequest
    ) -> deployflow_pb2.DeployReply:
        about = named(request.deploy, "deploy")
        try:
            return _reply(await self._calls.commands.command(change, *about, CommandType.NEXT))
        except Problem as problem:
            if problem.reason != "NotWaiting":
                raise
            flow = await self._calls.queries.flow(change.caller, *about)
            # a watch of it has ended with the batch before: the client sends the next in any case
            if not runs_past_approval(flow):
                raise
            return _reply(flow)

    async def Delete(
        self, request: deployflow_pb2.DeployMetaRequest, change: ChangeRequest
    ) -> deployflow_pb2.EmptyReply:
        about = named(request.deploy, "deploy")
        try:
            await self._calls.commands.delete(change, *about)
        except Problem as problem:
            if problem.reason != "NotFound":
                raise
        return deployflow_pb2.EmptyReply()

    async def Watch(self, request: deployflow_pb2.WatchRequest, change: ChangeRequest) -> DeployReplies:
        about, place = named(request.deploy, "deploy"), messages.place(request.target)
        async with aclosing(self._calls.streaming.watch(change.caller, *about)) as states:
            async for flow in states:
                yield _reply(flow)
                if place is not None and not place.batch:
                    place = place._replace(batch=current_batch_number(flow))
                if has_reached(flow, place or approved_place(flow)):
                    return

    async def ListAndWatch(
        self, request: deployflow_pb2.DeploysRequest, change: ChangeRequest
    ) -> AsyncIterator[deployflow_pb2.DeploysReply]:
        wanted = messages.flow_filter(request.filter)
        async with aclosing(self._calls.streaming.watch_all(change.caller, wanted)) as changes:
            async for flows in changes:
                yield _replies(flows)

    async def _until(
        self,
        request: deployflow_pb2.DeployMetaRequest,
        change: ChangeRequest,
        kind: CommandType,
        done: Callable[[Json], bool],
    ) -> DeployReplies:
        """Send the command and stream the release's states until its status shows the result."""
        about = named(request.deploy, "deploy")
        await self._calls.commands.command(change, *about, kind, watched=True)
        async with aclosing(self._calls.streaming.watch(change.caller, *about)) as states:
            async for flow in states:
                yield _reply(flow)
                if flow["status"]["finished"] or done(flow["status"]):
                    return


class Application:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Get(
        self, request: application_pb2.InstanceMetaRequest, change: ChangeRequest
    ) -> application_pb2.InstanceReply:
        found = await self._calls.queries.instance(change.caller, *_instance(request))
        return application_pb2.InstanceReply(instance=messages.instance(found))

    async def Gets(
        self, request: application_pb2.GetsRequest, change: ChangeRequest
    ) -> application_pb2.InstancesReply:
        namespace = messages.scope(request.filter.namespace, "filter.namespace")
        found = await self._calls.queries.instances(change.caller, namespace)
        return application_pb2.InstancesReply(instances=map(messages.instance, found))

    async def Restart(
        self, request: application_pb2.RestartRequest, change: ChangeRequest
    ) -> application_pb2.RestartReply:
        flow = await self._calls.releases.restart(
            change, *_instance(request), v1_views.with_manual_mode(messages.strategy(request.strategy))
        )
        return application_pb2.RestartReply(deployName=flow["metadata"]["name"])

    async def Scale(
        self, request: application_pb2.ScaleRequest, change: ChangeRequest
    ) -> application_pb2.ScaleReply:
        about = _instance(request)
        if not request.HasField("replicas"):
            raise Problem(Kind.INVALID, "Invalid", "replicas: it is missing (to have none, say 0)")
        flow = await self._calls.releases.scale(
            change,
            *about,
            request.replicas,
            v1_views.with_manual_mode(messages.strategy(request.strategy)),
            even_if_same=True,
        )
        return application_pb2.ScaleReply(deployName=flow["metadata"]["name"])

    async def Rollback(
        self, request: application_pb2.RollbackRequest, change: ChangeRequest
    ) -> application_pb2.RollbackReply:
        to = messages.scope(request.deployName, "deployName") or None
        strategy = None
        if request.HasField("strategy"):
            strategy = v1_views.with_manual_mode(messages.strategy(request.strategy))
        made = await self._calls.releases.rollback(change, *_instance(request), to, strategy)
        return application_pb2.RollbackReply(
            deployName=made.flow["metadata"]["name"], rollbackTo=made.back_to
        )

    async def Delete(
        self, request: application_pb2.InstanceMetaRequest, change: ChangeRequest
    ) -> application_pb2.EmptyReply:
        about = _instance(request)
        try:
            await self._calls.releases.delete_instance(change, *about)
        except Problem as problem:
            if problem.reason != "NotFound":
                raise
        return application_pb2.EmptyReply()


class Pod:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Get(self, request: pod_pb2.PodMetaRequest, change: ChangeRequest) -> pod_pb2.PodReply:
        found = await self._calls.queries.pod(change.caller, *named(request.pod, "pod"))
        return pod_pb2.PodReply(pod=messages.pod(found))

    async def Gets(self, request: pod_pb2.GetsRequest, change: ChangeRequest) -> pod_pb2.PodsReply:
        wanted = request.filter
        namespace = messages.scope(wanted.namespace, "filter.namespace")
        instance = messages.scope(wanted.instanceName, "filter.instanceName")
        found = await self._calls.queries.pods(change.caller, namespace, instance, wanted.ip)
        return pod_pb2.PodsReply(pods=map(messages.pod, found))


def _is_resumed(status: Json) -> bool:
    """Decide whether it is resumed: not paused, or paused by a failure, which no resume ends."""
    batches = status.get("conditions") or [{}]
    return not status.get("paused") or batches[-1].get("phase") in {
        BatchPhase.SMOKE_FAILED,
        BatchPhase.BAKE_FAILED,
    }


class Releases:
    """The service `triton.v2.Releases`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Create(
        self, request: releases_v2_pb2.NewRelease, change: ChangeRequest
    ) -> releases_v2_pb2.ReleaseReply:
        return await self._begin(request, change, Action.CREATE)

    async def Update(
        self, request: releases_v2_pb2.NewRelease, change: ChangeRequest
    ) -> releases_v2_pb2.ReleaseReply:
        return await self._begin(request, change, Action.UPDATE)

    async def _begin(
        self, request: releases_v2_pb2.NewRelease, change: ChangeRequest, action: Action
    ) -> releases_v2_pb2.ReleaseReply:
        namespace, wanted = messages.new_release(request, action)
        flow = await self._calls.releases.deploy(
            change,
            namespace,
            wanted.spec,
            name=wanted.name or "",
            queue=wanted.queue,
            freeze_override=wanted.freeze_override,
            keep=wanted.keep,
        )
        return releases_v2_pb2.ReleaseReply(deploy=messages.deploy(flow))


def _instance(
    request: application_pb2.InstanceMetaRequest
    | application_pb2.RestartRequest
    | application_pb2.ScaleRequest
    | application_pb2.RollbackRequest,
) -> Named:
    return named(request.instance, "instance")


def _reply(flow: Json) -> deployflow_pb2.DeployReply:
    return deployflow_pb2.DeployReply(deploy=messages.deploy(flow))


def _replies(flows: list[Json]) -> deployflow_pb2.DeploysReply:
    return deployflow_pb2.DeploysReply(deploys=map(messages.deploy, flows))
