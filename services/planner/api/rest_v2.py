"""The second version of the REST API: DeployFlows as the cluster has them, problems as RFC 9457 has them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import BaseModel, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from services.planner.api import models_v2 as m
from services.planner.api import sse, v2_views
from services.planner.api.calls import NAME, One, etag
from services.planner.api.calls import Request as Asked
from services.planner.api.flow_queries import FlowFilter
from services.planner.api.problem import Kind, Problem
from services.planner.api.release_event_streams import StreamedEvent
from services.planner.api.rest import (
    PROBLEM,
    By,
    ByOfOne,
    Moment,
    Name,
    Namespace,
    StrictRoute,
    TheCalls,
    Who,
    problem_details,
)
from shared.domain import deployflow as df
from shared.domain.deploy_commands import CommandType

router = APIRouter(prefix="/api/v2", route_class=StrictRoute)
FLOWS: Final = "/namespaces/{namespace}/deployflows"
FLOW: Final = FLOWS + "/{name}"
INSTANCES: Final = "/namespaces/{namespace}/instances"
INSTANCE: Final = INSTANCES + "/{name}"
_CURSOR: Final = r"^[-0-9]{10}T[:0-9]{8}Z/[-a-z0-9]{1,63}/[-.a-z0-9]{1,253}$"
Json = dict[str, Any]

# --- what is said of the answers ---

_ETAG: Final = {
    "ETag": {
        "description": "Of this state of the DeployFlow, for If-Match and If-None-Match.",
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
}
_WORDS: Final = {
    400: "The request can't be read, or does not fit.",
    401: "No token, or none that the cluster knows.",
    403: "A right is missing: `detail` names it.",
    404: "There is none.",
    408: "The body did not come in time.",
    409: "The state of the release does not allow it: `reason` says why.",
    412: "The DeployFlow has changed since it was read (If-Match).",
    413: "The body is too large.",
    422: "It can be read but not be done.",
    429: "Too many requests of this caller.",
    503: "Something that is needed is away for now.",
}


def _problem(code: int) -> Json:
    told: Json = {
        "description": _WORDS[code],
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    }
    return told | ({"headers": _RETRY_AFTER} if code in {429, 503} else {})


def _answers(*codes: int, body: bool = False, success: tuple[int, Json] | None = None) -> Any:
    """What an operation may answer beside its plain success."""
    every = {400, 401, 403, 429, 503, *codes, *((408, 413) if body else ())}
    told: dict[int | str, Json] = {code: _problem(code) for code in sorted(every)}
    return told | (dict([success]) if success else {})


_ONE_FLOW: Final = (200, {"headers": _ETAG})
_MADE: Final = (
    201,
    {
        "headers": _ETAG
        | {
            "Location": {
                "description": "Of the DeployFlow.",
                "schema": {"type": "string", "format": "uri-reference"},
            }
        }
    },
)


def _stream(of: str) -> tuple[int, Json]:
    """Server-sent events: the schema is that of each."""
    data = {"contentMediaType": "application/json", "contentSchema": {"$ref": f"#/components/schemas/{of}"}}
    one = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "id": {"type": "string", "description": "For Last-Event-ID."},
            "event": {"enum": ["message", "end"], "description": "After `end` nothing comes."},
            "data": {"type": "string", **data},
        },
    }
    told = "Server-sent events, with a comment now and then."
    return 200, {"description": told, "content": {"text/event-stream": {"schema": one}}}


# --- reading releases ---

InstanceName = Annotated[
    Annotated[str, StringConstraints(pattern=NAME, max_length=57)] | SkipJsonSchema[None],
    Query(alias="instanceName", description="Of this instance."),
]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[
    Annotated[str, StringConstraints(pattern=_CURSOR)] | SkipJsonSchema[None],
    Query(alias="continue", description="What the page before said in `continue`."),
]
After = Annotated[Moment | SkipJsonSchema[None], Query(description="Changed then or later.")]
OfAction = Annotated[df.Action | SkipJsonSchema[None], Query()]
OfPhase = Annotated[df.FlowPhase | SkipJsonSchema[None], Query()]


@router.get(FLOWS, tags=["DeployFlows"], response_model=m.DeployFlows, responses=_answers())
async def list_flows(
    calls: TheCalls,
    who: Who,
    namespace: Namespace,
    instance: InstanceName = None,
    action: OfAction = None,
    phase: OfPhase = None,
    after: After = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The releases of a namespace, newest first."""
    wanted = FlowFilter(namespace, instance or "", action or "", phase or "", after)
    return _page(await calls.flows(who, wanted), limit, cursor)


@router.get("/deployflows", tags=["DeployFlows"], response_model=m.DeployFlows, responses=_answers())
async def list_all_flows(
    calls: TheCalls,
    who: Who,
    instance: InstanceName = None,
    action: OfAction = None,
    phase: OfPhase = None,
    after: After = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The releases of all namespaces, newest first."""
    wanted = FlowFilter("", instance or "", action or "", phase or "", after)
    return _page(await calls.flows(who, wanted), limit, cursor)


@router.get(
    FLOW,
    tags=["DeployFlows"],
    response_model=m.DeployFlow,
    responses=_answers(404, success=_ONE_FLOW)
    | {304: {"description": "It is still as If-None-Match says.", "headers": _ETAG}},
)
async def get_flow(
    calls: TheCalls,
    who: Who,
    namespace: Namespace,
    name: Name,
    if_none_match: Annotated[
        str, Header(alias="If-None-Match", description="The `ETag` of the state that is known already.")
    ] = "",
) -> Response:
    """A release as it is now."""
    flow = await calls.flow(who, namespace, name)
    if if_none_match.strip() == "*" or etag(flow) in if_none_match:
        return Response(status_code=304, headers={"ETag": etag(flow)})
    return _flow(flow)


@router.get(
    FLOW + "/watch",
    tags=["DeployFlows"],
    status_code=200,
    response_class=sse.EventStream,
    responses=_answers(404, success=_stream("DeployFlow")),
)
async def watch_flow(calls: TheCalls, who: Who, namespace: Namespace, name: Name) -> Response:
    """A release as it is now, and again whenever it has changed, until it is over: the newest state alone."""
    states = calls.beats(who, namespace, name, sse.HEARTBEAT_SECONDS)
    first = await anext(states)
    return sse.EventStream(_states([first], states))


@router.get(
    FLOW + "/events",
    tags=["DeployFlows"],
    status_code=200,
    response_class=sse.EventStream,
    responses=_answers(404, success=_stream("FlowEvent")),
)
async def follow_events(
    calls: TheCalls,
    who: Who,
    namespace: Namespace,
    name: Name,
    last_event_id: Annotated[
        Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")] | SkipJsonSchema[None],
        Header(
            alias="Last-Event-ID",
            description="Goes on behind this event; without it from the beginning of the release.",
        ),
    ] = None,
) -> Response:
    """What has happened to a release from its beginning, and then what happens, until it is over.

    Each event is a `FlowEvent` of the AsyncAPI document. What Kafka does not keep any more is left out.
    """
    story = await calls.story(who, namespace, name, int(last_event_id) if last_event_id else None)
    return sse.EventStream(_events(story))


# --- making and changing releases ---


@router.post(
    FLOWS,
    tags=["DeployFlows"],
    status_code=201,
    response_model=m.DeployFlow,
    responses=_answers(404, 409, 422, body=True, success=_MADE),
)
async def make_flow(calls: TheCalls, by: By, namespace: Namespace, body: m.NewRelease) -> Response:
    """Begin a release of any action."""
    return _made(
        await calls.deploy(
            by,
            namespace,
            body.spec,
            name=body.name or "",
            queue=body.queue,
            freeze_override=body.freeze_override,
        )
    )


@router.patch(
    FLOW,
    tags=["DeployFlows"],
    response_model=m.DeployFlow,
    responses=_answers(404, 409, 412, 422, body=True, success=_ONE_FLOW),
)
async def patch_flow(
    calls: TheCalls, by: ByOfOne, namespace: Namespace, name: Name, body: m.StrategyPatch
) -> Response:
    """Change the strategy of a release that runs; a field that is null is taken away."""
    return _flow(await calls.patch(by, namespace, name, _fields(body)))


@router.delete(FLOW, tags=["DeployFlows"], status_code=204, responses=_answers(404, 409, 412))
async def delete_flow(calls: TheCalls, by: ByOfOne, namespace: Namespace, name: Name) -> Response:
    """Take a release that is over from the list."""
    try:
        await calls.delete(by, namespace, name)
    except Problem as problem:
        # one with a key that comes again is answered as before
        if not by.id or problem.kind != Kind.NOT_FOUND:
            raise
    return Response(status_code=204)


@router.post(
    FLOW + "/next",
    tags=["Commands"],
    response_model=m.DeployFlow,
    responses=_answers(404, 409, 412, 422, body=True, success=_ONE_FLOW),
)
async def next_step(
    calls: TheCalls, by: ByOfOne, namespace: Namespace, name: Name, body: m.NextStep | None = None
) -> Response:
    """Let a release that waits go one step on."""
    body = body or m.NextStep.model_construct()
    return _flow(
        await calls.command(by, namespace, name, CommandType.NEXT, batch=body.batch, stage=body.stage)
    )


@router.post(
    FLOW + "/continue",
    tags=["Commands"],
    response_model=m.DeployFlow,
    responses=_answers(404, 409, 412, 422, body=True, success=_ONE_FLOW),
)
async def continue_to(
    calls: TheCalls, by: ByOfOne, namespace: Namespace, name: Name, body: m.Continue
) -> Response:
    """Let a release go on as far as a target."""
    return _flow(await calls.command(by, namespace, name, CommandType.CONTINUE, target=body.target))


def _command(kind: CommandType, about: str) -> None:
    async def command(calls: TheCalls, by: ByOfOne, namespace: Namespace, name: Name) -> Response:
        return _flow(await calls.command(by, namespace, name, kind))

    router.add_api_route(
        f"{FLOW}/{kind}",
        command,
        methods=["POST"],
        tags=["Commands"],
        name=f"{kind}_flow",
        description=about,
        response_model=m.DeployFlow,
        responses=_answers(404, 409, 412, 422, success=_ONE_FLOW),
    )


_command(
    CommandType.PROMOTE, "Past all gates to the end; intervals and bakes still last as long as they last."
)
_command(CommandType.PAUSE, "No new batch begins, and no pod is made, until it is resumed.")
_command(CommandType.RESUME, "Go on after a pause.")
_command(CommandType.CANCEL, "End it: what was never baked goes, the rest keeps serving.")
_command(CommandType.RETRY, "Start the batch that failed anew.")

# --- instances ---


@router.get(INSTANCES, tags=["Instances"], response_model=m.Instances, responses=_answers())
async def list_instances(
    calls: TheCalls,
    who: Who,
    namespace: Namespace,
    selector: Annotated[m.Labels | SkipJsonSchema[None], Query()] = None,
) -> Response:
    """The instances that Triton made, by name."""
    found = await calls.instances(who, namespace, selector or "")
    return _json({"items": [v2_views.instance(cloneset) for cloneset in found]})


@router.get(INSTANCE, tags=["Instances"], response_model=m.Instance, responses=_answers(404))
async def get_instance(calls: TheCalls, who: Who, namespace: Namespace, name: Name) -> Response:
    """An instance as it is now."""
    return _json(v2_views.instance(await calls.instance(who, namespace, name)))


@router.get(INSTANCE + "/pods", tags=["Instances"], response_model=m.Pods, responses=_answers(404))
async def list_pods(calls: TheCalls, who: Who, namespace: Namespace, name: Name) -> Response:
    """Its pods, oldest first."""
    await calls.instance(who, namespace, name)
    return _json({"items": [v2_views.pod(pod) for pod in await calls.pods(who, namespace, name)]})


@router.get(INSTANCE + "/history", tags=["Instances"], response_model=m.History, responses=_answers())
async def get_history(
    calls: TheCalls,
    who: Who,
    namespace: Namespace,
    name: Name,
    since: Annotated[Moment | SkipJsonSchema[None], Query()] = None,
    until: Annotated[Moment | SkipJsonSchema[None], Query()] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="So many of the newest.")] = 1000,
) -> Response:
    """What the release log says of it, oldest first: its releases, pods and CloneSet."""
    found = await calls.history(who, namespace, name, since=since, until=until, limit=limit)
    return _json({"items": found})


_STARTS: Final[dict[str, Any]] = {
    "tags": ["Instances"],
    "status_code": 201,
    "response_model": m.DeployFlow,
    "responses": _answers(404, 409, 422, body=True, success=_MADE),
}


@router.post(INSTANCE + "/updates", **_STARTS)
async def update(calls: TheCalls, by: By, namespace: Namespace, name: Name, body: m.Update) -> Response:
    """Release another image; all else stays as the last successful release has it."""
    return _made(
        await calls.update(
            by, namespace, name, body.wish, queue=body.queue, freeze_override=body.freeze_override
        )
    )


@router.post(INSTANCE + "/rollbacks", **_STARTS)
async def roll_back(
    calls: TheCalls, by: By, namespace: Namespace, name: Name, body: m.Rollback | None = None
) -> Response:
    """Go back to the last successful release before this, or to the one named."""
    body = body or m.Rollback.model_construct()
    made = await calls.rollback(by, namespace, name, body.deploy_name, _fields(body.strategy))
    return _made(made.flow)


@router.post(INSTANCE + "/restarts", **_STARTS)
async def restart(
    calls: TheCalls, by: By, namespace: Namespace, name: Name, body: m.Restart | None = None
) -> Response:
    """Replace its pods by fresh ones."""
    body = body or m.Restart.model_construct()
    strategy = _naming(body.strategy, body.pods)
    return _made(await calls.restart(by, namespace, name, strategy, queue=body.queue))


@router.post(INSTANCE + "/scales", **_STARTS)
async def scale(calls: TheCalls, by: By, namespace: Namespace, name: Name, body: m.Scale) -> Response:
    """More or fewer pods."""
    strategy = _naming(body.strategy, body.pods)
    return _made(await calls.scale(by, namespace, name, body.replicas, strategy, queue=body.queue))


@router.post(INSTANCE + "/stops", **_STARTS)
async def stop(
    calls: TheCalls, by: By, namespace: Namespace, name: Name, body: m.Plain | None = None
) -> Response:
    """No pods; it remembers how many there were."""
    body = body or m.Plain.model_construct()
    return _made(await calls.stop(by, namespace, name, _fields(body.strategy), queue=body.queue))


@router.post(INSTANCE + "/starts", **_STARTS)
async def start(
    calls: TheCalls, by: By, namespace: Namespace, name: Name, body: m.Plain | None = None
) -> Response:
    """As many pods as before the stop."""
    body = body or m.Plain.model_construct()
    return _made(await calls.start(by, namespace, name, _fields(body.strategy), queue=body.queue))


@router.delete(
    INSTANCE,
    tags=["Instances"],
    status_code=202,
    response_model=m.DeployFlow,
    responses=_answers(404, 409, 422, success=(202, _MADE[1])),
)
async def delete_instance(calls: TheCalls, by: By, namespace: Namespace, name: Name) -> Response:
    """Begin a release that takes all its pods away, drained, and then the instance."""
    return _made(await calls.remove(by, namespace, name, {}), 202)


# --- plans, and many at once ---


@router.post(
    "/namespaces/{namespace}/plans",
    tags=["Plans"],
    response_model=m.Plan,
    responses=_answers(404, 422, body=True),
)
async def plan(calls: TheCalls, who: Who, namespace: Namespace, body: m.PlanOf) -> Response:
    """The batches that a release would have now; nothing is started."""
    return _json(await calls.plan(who, namespace, _fields(body.spec)))


@router.post(
    "/namespaces/{namespace}/restarts",
    tags=["Many at once"],
    status_code=207,
    response_model=m.Many,
    responses=_answers(404, 422, body=True),
)
async def restart_all(calls: TheCalls, by: By, namespace: Namespace, body: m.RestartAll) -> Response:
    """Restart every instance with such labels, at most 100; each answers for itself."""
    strategy = _fields(body.strategy)

    async def begin(own: Asked, name: str) -> Json:
        return await calls.restart(own, namespace, name, strategy, queue=body.queue)

    return _many(await calls.each(by, namespace, body.selector, begin))


@router.post(
    "/namespaces/{namespace}/scales",
    tags=["Many at once"],
    status_code=207,
    response_model=m.Many,
    responses=_answers(404, 422, body=True),
)
async def scale_all(calls: TheCalls, by: By, namespace: Namespace, body: m.ScaleAll) -> Response:
    """Give every instance with such labels so many pods, at most 100 instances; each answers for itself."""
    strategy = _fields(body.strategy)

    async def begin(own: Asked, name: str) -> Json:
        return await calls.scale(own, namespace, name, body.replicas, strategy, queue=body.queue)

    return _many(await calls.each(by, namespace, body.selector, begin))


# --- answers ---


def _json(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(data), status, headers, media_type="application/json")


def _flow(flow: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return _json(flow, status, {"ETag": etag(flow), **(headers or {})})


def _made(flow: Json, status: int = 201) -> Response:
    meta = flow["metadata"]
    path = FLOW.format(namespace=meta["namespace"], name=meta["name"])
    return _flow(flow, status, {"Location": router.prefix + path})


def _page(flows: list[Json], limit: int, cursor: str | None) -> Response:
    """Newest first, behind the one that the cursor names; which may be gone meanwhile."""
    placed = sorted(((_place(flow), flow) for flow in flows), key=lambda pair: pair[0], reverse=True)
    behind = tuple((cursor or "").split("/"))
    left = [pair for pair in placed if not cursor or pair[0] < behind]
    page = left[:limit]
    go_on = "/".join(page[-1][0]) if len(left) > limit else None
    return _json({"items": [flow for _, flow in page], "continue": go_on})


def _place(flow: Json) -> tuple[str, ...]:
    """It never changes, so that nothing is shown twice or left out."""
    meta = flow["metadata"]
    return meta["creationTimestamp"], meta["namespace"], meta["name"]


def _many(done: list[One]) -> Response:
    items = [
        {
            "instance": one.instance,
            "deployFlow": one.flow["metadata"]["name"] if one.flow else None,
            "problem": problem_details(one.problem) if one.problem else None,
        }
        for one in done
    ]
    return _json({"items": items}, 207)


def _fields(body: BaseModel | None) -> Json:
    """What was sent, without what was left out."""
    return {} if body is None else body.model_dump(mode="json", exclude_unset=True)


def _naming(strategy: BaseModel | None, pods: list[str] | None) -> Json:
    return _fields(strategy) | ({"podsToDelete": pods} if pods else {})


async def _states(first: list[Json | None], states: AsyncGenerator[Json | None]) -> AsyncGenerator[bytes]:
    """`first` is emptied: a stream that waits keeps no state."""
    async with aclosing(states):
        state = first.pop()
        while True:
            finished = bool(state and state["status"]["finished"])
            data = sse.event(msgspec.json.encode(state)) if state else b""
            del state
            yield data
            del data
            if finished:
                break
            try:
                state = await anext(states)
            except StopAsyncIteration:
                break
        yield sse.END


async def _events(story: AsyncGenerator[StreamedEvent | None]) -> AsyncGenerator[bytes]:
    async with aclosing(story):
        async for told in story:
            if told is None or told.value:
                yield sse.event(told.value, told.id) if told else b""
            if told and told.last:
                yield sse.END
