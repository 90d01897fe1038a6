"""The first version of the REST API, as the programs written for it expect: `{"code", "data", "msg"}`."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from services.planner.api import v1_bodies, v1_views
from services.planner.api.call_authorization import NAME
from services.planner.api.flow_queries import FlowFilter
from services.planner.api.problem import Problem
from services.planner.api.rest_requests import (
    Instance,
    JsonRoute,
    Moment,
    Name,
    Namespace,
    TheCaller,
    TheCalls,
    TheChange,
    TheFlowChange,
)
from services.planner.api.rest_responses import enveloped
from shared.domain import deployflow as df
from shared.domain.json_types import Json

router = APIRouter(prefix="/api/v1/namespaces/{namespace}", tags=["v1"], route_class=JsonRoute)
health_router = APIRouter(include_in_schema=False)
Count = Annotated[int, Field(ge=0, le=2**31 - 1), BeforeValidator(lambda text: text or 0)]
"""A number of a query; an empty one is 0."""


UpdateFields = Annotated[Json | None, Field(json_schema_extra={"x-schema": ["UpdateStrategy", "null"]})]
OtherFields = Annotated[Json | None, Field(json_schema_extra={"x-schema": ["NonUpdateStrategy", "null"]})]


class _Body(BaseModel):
    """Base of bodies. Null and unknown fields are ignored, as the original's clients are used to."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _drop(cls, body: Any) -> Any:
        keys = frozenset(str(info.alias) for info in cls.model_fields.values())
        return v1_bodies.with_known_keys(body, keys) if isinstance(body, dict) else body


class OldRelease(_Body):
    application_spec: Annotated[
        Json,
        Field(
            description="The application of the DeployFlow.",
            json_schema_extra={"x-schema": ["FirstVersionApplication"]},
        ),
    ]
    update_strategy: UpdateFields = None


class OldRollback(_Body):
    deploy_name: Annotated[
        str,
        Field(
            description="The release to go back to; else the last successful one before this.",
            pattern=f"^$|{NAME}",
            max_length=253,
        ),
    ] = ""
    update_strategy: UpdateFields = None


class OldScale(_Body):
    replicas: Annotated[
        int | None, Field(ge=0, le=2**31 - 1, description="Not set: as many as there are.")
    ] = None
    non_update_strategy: OtherFields = None


class Envelope(BaseModel):
    """The form of every answer."""

    code: Annotated[int, Field(description="0 for success.")]
    data: Any
    msg: str


class _Errors(dict[int | str, Any]):
    """Describes the errors that a call may answer, for the OpenAPI document."""

    def __init__(self, *codes: int) -> None:
        super().__init__({code: {"model": Envelope} for code in (400, 401, 403, *codes, 429, 503)})


_NEW_RELEASE: Final[dict[str, Any]] = {
    "status_code": 201,
    "response_model": Envelope,
    "responses": _Errors(404, 409, 408, 413, 422),
}


@health_router.get("/api/v1/health")
@health_router.get("/@in/api/health")
async def get_health() -> Response:
    """Say that the process answers; it needs no login."""
    return PlainTextResponse("ok")


@router.get("/deployflows", response_model=Envelope, responses=_Errors())
async def list_deployflows(
    calls: TheCalls,
    caller: TheCaller,
    namespace: Namespace,
    instance_name: Annotated[str, Query(alias="instanceName", pattern=f"^$|{NAME}", max_length=253)] = "",
    action: str = "",
    start: Annotated[Count, Query()] = 0,
    page_size: Annotated[Count, Query(alias="pageSize")] = 10,
    after: Annotated[
        Moment | SkipJsonSchema[None],
        BeforeValidator(lambda text: text or None),
        Query(description="Changed then or later."),
    ] = None,
) -> Response:
    """List the releases of the namespace, newest first."""
    found = await calls.queries.flows(caller, FlowFilter(namespace, instance_name, action, after=after))
    page = found[start : start + (page_size or 10)]
    return enveloped([v1_views.deploy(flow) for flow in page])


@router.post("/deployflows", **_NEW_RELEASE)
async def create_deployflow(
    calls: TheCalls, change: TheChange, namespace: Namespace, body: OldRelease
) -> Response:
    """Begin a release of a new template: a create where the instance does not exist, else an update."""
    application = v1_bodies.read_application(body.application_spec)
    strategy = v1_bodies.read_strategy(body.update_strategy, df.UpdateStrategy) or None
    return enveloped(
        v1_views.deploy(await calls.releases.release(change, namespace, application, strategy)), 201
    )


@router.get("/deployflows/{name}", response_model=Envelope, responses=_Errors(404))
async def get_deployflow(calls: TheCalls, caller: TheCaller, namespace: Namespace, name: Name) -> Response:
    """Return a release as it is now."""
    return enveloped(v1_views.deploy(await calls.queries.flow(caller, namespace, name)))


@router.patch("/deployflows/{name}", response_model=Envelope, responses=_Errors(404, 409, 412, 408, 413, 422))
async def patch_deployflow(
    calls: TheCalls,
    change: TheFlowChange,
    namespace: Namespace,
    name: Name,
    body: Annotated[Json, Body(json_schema_extra={"x-schema": ["StrategyPatch"]})],
) -> Response:
    """Change the strategy of a running release: the body is the strategy alone, of the release's kind."""
    changed = await calls.commands.patch_as_first_version(change, namespace, name, body)
    return enveloped(v1_views.deploy(changed))


@router.delete("/deployflows/{name}", status_code=204, responses=_Errors(409, 412))
async def delete_deployflow(
    calls: TheCalls, change: TheFlowChange, namespace: Namespace, name: Name
) -> Response:
    """Delete a finished release from the list; one that is gone already is fine."""
    try:
        await calls.commands.delete(change, namespace, name)
    except Problem as problem:
        if problem.reason != "NotFound":
            raise
    return Response(status_code=204)


@router.post("/instances/{name}/rollbacks", **_NEW_RELEASE)
async def roll_back(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance, body: OldRollback | None = None
) -> Response:
    """Go back to an earlier release."""
    body = body or OldRollback()
    strategy = (
        None
        if body.update_strategy is None
        else v1_views.with_manual_mode(v1_bodies.read_strategy(body.update_strategy, df.UpdateStrategy))
    )
    made = await calls.releases.rollback(change, namespace, name, body.deploy_name or None, strategy)
    return enveloped({"deployName": made.flow["metadata"]["name"], "rollbackTo": made.back_to}, 201)


@router.post("/instances/{name}/restarts", **_NEW_RELEASE)
async def restart(
    calls: TheCalls,
    change: TheChange,
    namespace: Namespace,
    name: Instance,
    body: Annotated[Json | None, Body(json_schema_extra={"x-schema": ["NonUpdateStrategy", "null"]})] = None,
) -> Response:
    """Replace the pods, or those that `podsToDelete` names; the body is the nonUpdateStrategy itself."""
    strategy = v1_views.with_manual_mode(v1_bodies.read_strategy(body, df.NonUpdateStrategy))
    made = await calls.releases.restart(change, namespace, name, strategy)
    return enveloped({"deployName": made["metadata"]["name"]}, 201)


@router.post("/instances/{name}/scales", **_NEW_RELEASE)
async def scale(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance, body: OldScale | None = None
) -> Response:
    """Scale to more or fewer pods; those that `podsToDelete` names go first."""
    body = body or OldScale()
    strategy = v1_views.with_manual_mode(
        v1_bodies.read_strategy(body.non_update_strategy, df.NonUpdateStrategy)
    )
    made = await calls.releases.scale(change, namespace, name, body.replicas, strategy, even_if_same=True)
    return enveloped({"deployName": made["metadata"]["name"]}, 201)


@router.get("/instances", response_model=Envelope, responses=_Errors())
async def list_instances(calls: TheCalls, caller: TheCaller, namespace: Namespace) -> Response:
    """List the instances of the namespace that Triton made."""
    return enveloped([v1_views.instance(found) for found in await calls.queries.instances(caller, namespace)])


@router.get("/instances/{name}", response_model=Envelope, responses=_Errors(404))
async def get_instance(calls: TheCalls, caller: TheCaller, namespace: Namespace, name: Instance) -> Response:
    """Return an instance as it is now."""
    return enveloped(v1_views.instance(await calls.queries.instance(caller, namespace, name)))


@router.delete("/instances/{name}", status_code=204, responses=_Errors(409))
async def delete_instance(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance
) -> Response:
    """Delete all its pods, drained, then its CloneSet; one that is gone already is fine."""
    try:
        await calls.releases.delete_instance(change, namespace, name)
    except Problem as problem:
        if problem.reason != "NotFound":
            raise
    return Response(status_code=204)
