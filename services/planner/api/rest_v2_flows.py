"""The routes of `/api/v2` for DeployFlows: lists, streams, new releases, changes and commands."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import StringConstraints
from pydantic.json_schema import SkipJsonSchema

from services.planner.api import models_v2 as m
from services.planner.api import sse
from services.planner.api.call_authorization import NAME
from services.planner.api.change_calls import etag
from services.planner.api.flow_queries import FlowFilter
from services.planner.api.problem import Kind, Problem
from services.planner.api.rest_requests import (
    Moment,
    Name,
    Namespace,
    StrictRoute,
    TheCaller,
    TheCalls,
    TheChange,
    TheFlowChange,
)
from services.planner.api.rest_v2_documentation import ETAG, MADE, ONE_FLOW, answers, event_stream
from services.planner.api.rest_v2_responses import (
    FLOW,
    FLOWS,
    V2_PREFIX,
    flow_response,
    made_response,
    page_response,
    release_events,
    sent_fields,
    state_events,
)
from shared.domain import deployflow as df
from shared.domain.deploy_commands import CommandType

router = APIRouter(prefix=V2_PREFIX, route_class=StrictRoute)
_CURSOR: Final = r"^[-0-9]{10}T[:0-9]{8}Z/[-a-z0-9]{1,63}/[-.a-z0-9]{1,253}$"

InstanceName = Annotated[
    Annotated[str, StringConstraints(pattern=NAME, max_length=df.LONGEST_STORED_NAME)] | SkipJsonSchema[None],
    Query(alias="instanceName", description="Of this instance."),
]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[
    Annotated[str, StringConstraints(pattern=_CURSOR)] | SkipJsonSchema[None],
    Query(alias="continue", description="The `continue` of the page before."),
]
After = Annotated[Moment | SkipJsonSchema[None], Query(description="Changed then or later.")]
OfAction = Annotated[df.Action | SkipJsonSchema[None], Query()]
OfPhase = Annotated[df.FlowPhase | SkipJsonSchema[None], Query()]


@router.get(FLOWS, tags=["DeployFlows"], response_model=m.DeployFlows, responses=answers(404))
async def list_flows(
    calls: TheCalls,
    caller: TheCaller,
    namespace: Namespace,
    instance: InstanceName = None,
    action: OfAction = None,
    phase: OfPhase = None,
    after: After = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List the releases of a namespace, newest first."""
    wanted = FlowFilter(namespace, instance or "", action or "", phase or "", after)
    found = await calls.queries.flows(caller, wanted)
    if not found:
        await calls.queries.require_namespace(namespace)
    return page_response(found, limit, cursor)


@router.get("/deployflows", tags=["DeployFlows"], response_model=m.DeployFlows, responses=answers())
async def list_all_flows(
    calls: TheCalls,
    caller: TheCaller,
    instance: InstanceName = None,
    action: OfAction = None,
    phase: OfPhase = None,
    after: After = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List the releases of all namespaces, newest first."""
    wanted = FlowFilter("", instance or "", action or "", phase or "", after)
    return page_response(await calls.queries.flows(caller, wanted), limit, cursor)


@router.get(
    FLOW,
    tags=["DeployFlows"],
    response_model=m.DeployFlow,
    responses=answers(404, success=ONE_FLOW)
    | {304: {"description": "It is still as If-None-Match says.", "headers": ETAG}},
)
async def get_flow(
    calls: TheCalls,
    caller: TheCaller,
    namespace: Namespace,
    name: Name,
    if_none_match: Annotated[
        str, Header(alias="If-None-Match", description="The `ETag` of the state that is known already.")
    ] = "",
) -> Response:
    """Return a release as it is now."""
    flow = await calls.queries.flow(caller, namespace, name)
    if if_none_match.strip() == "*" or etag(flow) in if_none_match:
        return Response(status_code=304, headers={"ETag": etag(flow)})
    return flow_response(flow)


@router.get(
    FLOW + "/watch",
    tags=["DeployFlows"],
    status_code=200,
    response_class=sse.EventStream,
    responses=answers(404, success=event_stream("DeployFlow")),
)
async def watch_flow(calls: TheCalls, caller: TheCaller, namespace: Namespace, name: Name) -> Response:
    """Stream a release as it is now and after each change, until it has finished: the newest state alone."""
    states = calls.streaming.watch_with_heartbeats(caller, namespace, name, sse.HEARTBEAT_SECONDS)
    first = await anext(states)
    return sse.EventStream(state_events([first], states))


@router.get(
    FLOW + "/events",
    tags=["DeployFlows"],
    status_code=200,
    response_class=sse.EventStream,
    responses=answers(404, success=event_stream("FlowEvent")),
)
async def follow_events(
    calls: TheCalls,
    caller: TheCaller,
    namespace: Namespace,
    name: Name,
    last_event_id: Annotated[
        Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")] | SkipJsonSchema[None],
        Header(
            alias="Last-Event-ID",
            description="Continues behind this event; without it from the beginning of the release.",
        ),
    ] = None,
) -> Response:
    """Stream the events of a release from its beginning until it has finished.

    Each event is a `FlowEvent` of the AsyncAPI document. What Kafka does not keep any more is left out.
    """
    events = await calls.streaming.events(
        caller, namespace, name, int(last_event_id) if last_event_id else None
    )
    return sse.EventStream(release_events(events))


@router.post(
    FLOWS,
    tags=["DeployFlows"],
    status_code=201,
    response_model=m.DeployFlow,
    responses=answers(404, 409, 422, body=True, success=MADE),
)
async def make_flow(calls: TheCalls, change: TheChange, namespace: Namespace, body: m.NewRelease) -> Response:
    """Begin a release of any action."""
    return made_response(
        await calls.releases.deploy(
            change,
            namespace,
            body.spec,
            name=body.name or "",
            queue=body.queue,
            freeze_override=body.freeze_override,
            keep=body.keep,
        )
    )


@router.patch(
    FLOW,
    tags=["DeployFlows"],
    response_model=m.DeployFlow,
    responses=answers(404, 409, 412, 422, body=True, success=ONE_FLOW),
)
async def patch_flow(
    calls: TheCalls, change: TheFlowChange, namespace: Namespace, name: Name, body: m.StrategyPatch
) -> Response:
    """Change the strategy of a release that runs; a field that is null is taken away."""
    return flow_response(await calls.commands.patch(change, namespace, name, sent_fields(body)))


@router.delete(FLOW, tags=["DeployFlows"], status_code=204, responses=answers(404, 409, 412))
async def delete_flow(calls: TheCalls, change: TheFlowChange, namespace: Namespace, name: Name) -> Response:
    """Delete a finished release from the list."""
    try:
        await calls.commands.delete(change, namespace, name)
    except Problem as problem:
        # the same request again is answered as the first time
        if not change.id or problem.kind != Kind.NOT_FOUND:
            raise
    return Response(status_code=204)


@router.post(
    FLOW + "/next",
    tags=["Commands"],
    response_model=m.DeployFlow,
    responses=answers(404, 409, 412, 422, body=True, success=ONE_FLOW),
)
async def next_step(
    calls: TheCalls, change: TheFlowChange, namespace: Namespace, name: Name, body: m.NextStep | None = None
) -> Response:
    """Let a release that waits continue by one step."""
    body = body or m.NextStep.model_construct()
    return flow_response(
        await calls.commands.command(
            change, namespace, name, CommandType.NEXT, batch=body.batch, stage=body.stage
        )
    )


@router.post(
    FLOW + "/continue",
    tags=["Commands"],
    response_model=m.DeployFlow,
    responses=answers(404, 409, 412, 422, body=True, success=ONE_FLOW),
)
async def continue_to(
    calls: TheCalls, change: TheFlowChange, namespace: Namespace, name: Name, body: m.Continue
) -> Response:
    """Let a release continue as far as a target."""
    return flow_response(
        await calls.commands.command(change, namespace, name, CommandType.CONTINUE, target=body.target)
    )


def _command(kind: CommandType, about: str) -> None:
    async def command(calls: TheCalls, change: TheFlowChange, namespace: Namespace, name: Name) -> Response:
        return flow_response(await calls.commands.command(change, namespace, name, kind))

    router.add_api_route(
        f"{FLOW}/{kind}",
        command,
        methods=["POST"],
        tags=["Commands"],
        name=f"{kind}_flow",
        description=about,
        response_model=m.DeployFlow,
        responses=answers(404, 409, 412, 422, success=ONE_FLOW),
    )


_command(CommandType.PROMOTE, "Approve all gates to the end; intervals and bakes keep their length.")
_command(CommandType.PAUSE, "No new batch begins, and no pod is made, until it is resumed.")
_command(CommandType.RESUME, "Continue after a pause.")
_command(CommandType.CANCEL, "End it: what was never baked goes, the rest keeps serving.")
_command(CommandType.RETRY, "Start the failed batch again.")
