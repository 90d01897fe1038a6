"""The routes of `/api/v2` for instances: what runs, releases of one or of many, and plans."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic.json_schema import SkipJsonSchema

from services.planner.api import models_v2 as m
from services.planner.api import v2_views
from services.planner.api.change_calls import ChangeRequest
from services.planner.api.rest_requests import (
    Instance,
    Moment,
    Namespace,
    StrictRoute,
    TheCaller,
    TheCalls,
    TheChange,
)
from services.planner.api.rest_responses import json_response
from services.planner.api.rest_v2_documentation import MADE, answers
from services.planner.api.rest_v2_responses import (
    V2_PREFIX,
    bulk_response,
    made_response,
    sent_fields,
    with_pods,
)
from shared.domain.json_types import Json

router = APIRouter(prefix=V2_PREFIX, route_class=StrictRoute)
INSTANCES: Final = "/namespaces/{namespace}/instances"
INSTANCE: Final = INSTANCES + "/{name}"


@router.get(INSTANCES, tags=["Instances"], response_model=m.Instances, responses=answers(404))
async def list_instances(
    calls: TheCalls,
    caller: TheCaller,
    namespace: Namespace,
    selector: Annotated[m.Labels | SkipJsonSchema[None], Query()] = None,
) -> Response:
    """List the instances that Triton made, by name."""
    found = await calls.queries.instances(caller, namespace, selector or "")
    if not found:
        await calls.queries.require_namespace(namespace)
    return json_response({"items": [v2_views.instance(cloneset) for cloneset in found]})


@router.get(INSTANCE, tags=["Instances"], response_model=m.Instance, responses=answers(404))
async def get_instance(calls: TheCalls, caller: TheCaller, namespace: Namespace, name: Instance) -> Response:
    """Return an instance as it is now."""
    return json_response(v2_views.instance(await calls.queries.instance(caller, namespace, name)))


@router.get(INSTANCE + "/pods", tags=["Instances"], response_model=m.Pods, responses=answers(404))
async def list_pods(calls: TheCalls, caller: TheCaller, namespace: Namespace, name: Instance) -> Response:
    """List its pods, oldest first."""
    await calls.queries.instance(caller, namespace, name)
    return json_response(
        {"items": [v2_views.pod(pod) for pod in await calls.queries.pods(caller, namespace, name)]}
    )


@router.get(INSTANCE + "/history", tags=["Instances"], response_model=m.History, responses=answers())
async def get_history(
    calls: TheCalls,
    caller: TheCaller,
    namespace: Namespace,
    name: Instance,
    since: Annotated[Moment | SkipJsonSchema[None], Query()] = None,
    until: Annotated[Moment | SkipJsonSchema[None], Query()] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="So many of the newest.")] = 1000,
) -> Response:
    """Return its events of the release log, oldest first: those of its releases, pods and CloneSet."""
    found = await calls.queries.history(caller, namespace, name, since=since, until=until, limit=limit)
    return json_response({"items": found})


_NEW_RELEASE: Final[dict[str, Any]] = {
    "tags": ["Instances"],
    "status_code": 201,
    "response_model": m.DeployFlow,
    "responses": answers(404, 409, 422, body=True, success=MADE),
}


@router.post(INSTANCE + "/updates", **_NEW_RELEASE)
async def update(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance, body: m.Update
) -> Response:
    """Release another image; all else stays as the last successful release has it."""
    return made_response(
        await calls.releases.update(
            change, namespace, name, body.wish, queue=body.queue, freeze_override=body.freeze_override
        )
    )


@router.post(INSTANCE + "/rollbacks", **_NEW_RELEASE)
async def roll_back(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance, body: m.Rollback | None = None
) -> Response:
    """Go back to the last successful release before this, or to the one named."""
    body = body or m.Rollback.model_construct()
    made = await calls.releases.rollback(
        change, namespace, name, body.deploy_name, sent_fields(body.strategy)
    )
    return made_response(made.flow)


@router.post(INSTANCE + "/restarts", **_NEW_RELEASE)
async def restart(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance, body: m.Restart | None = None
) -> Response:
    """Replace its pods by fresh ones."""
    body = body or m.Restart.model_construct()
    strategy = with_pods(body.strategy, body.pods)
    return made_response(await calls.releases.restart(change, namespace, name, strategy, queue=body.queue))


@router.post(INSTANCE + "/scales", **_NEW_RELEASE)
async def scale(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance, body: m.Scale
) -> Response:
    """Scale to more or fewer pods."""
    strategy = with_pods(body.strategy, body.pods)
    return made_response(
        await calls.releases.scale(change, namespace, name, body.replicas, strategy, queue=body.queue)
    )


@router.post(INSTANCE + "/stops", **_NEW_RELEASE)
async def stop(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance, body: m.Plain | None = None
) -> Response:
    """Delete all its pods; it remembers how many there were."""
    body = body or m.Plain.model_construct()
    return made_response(
        await calls.releases.stop(change, namespace, name, sent_fields(body.strategy), queue=body.queue)
    )


@router.post(INSTANCE + "/starts", **_NEW_RELEASE)
async def start(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance, body: m.Plain | None = None
) -> Response:
    """Start as many pods as before the stop."""
    body = body or m.Plain.model_construct()
    return made_response(
        await calls.releases.start(change, namespace, name, sent_fields(body.strategy), queue=body.queue)
    )


@router.post(
    INSTANCE + "/adoptions",
    tags=["Instances"],
    response_model=m.Instance,
    responses=answers(404, 422, body=True),
)
async def adopt(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance, body: m.Adoption
) -> Response:
    """Have Triton adopt a CloneSet that it did not make. Needs the right to `update` that CloneSet."""
    adopted = await calls.adoptions.adopt(change.caller, namespace, name, body.labels)
    return json_response(v2_views.instance(adopted))


@router.delete(
    INSTANCE,
    tags=["Instances"],
    status_code=202,
    response_model=m.DeployFlow,
    responses=answers(404, 409, 422, success=(202, MADE[1])),
)
async def delete_instance(
    calls: TheCalls, change: TheChange, namespace: Namespace, name: Instance
) -> Response:
    """Begin a release that takes all its pods away, drained, and then the instance."""
    return made_response(await calls.releases.delete_instance(change, namespace, name), 202)


@router.post(
    "/namespaces/{namespace}/plans",
    tags=["Plans"],
    response_model=m.Plan,
    responses=answers(404, 422, body=True),
)
async def plan(calls: TheCalls, caller: TheCaller, namespace: Namespace, body: m.PlanOf) -> Response:
    """Return the batches that a release would have now; nothing is started."""
    return json_response(await calls.queries.plan(caller, namespace, sent_fields(body.spec)))


_OF_MANY: Final[dict[str, Any]] = {
    "tags": ["Many at once"],
    "status_code": 207,
    "response_model": m.Many,
    "responses": answers(404, 422, body=True),
}


@router.post("/namespaces/{namespace}/restarts", **_OF_MANY)
async def restart_all(
    calls: TheCalls, change: TheChange, namespace: Namespace, body: m.RestartAll
) -> Response:
    """Restart every instance with such labels, at most 100; each answers for itself."""
    strategy = sent_fields(body.strategy)

    async def begin(own: ChangeRequest, name: str) -> Json:
        return await calls.releases.restart(own, namespace, name, strategy, queue=body.queue)

    return bulk_response(await calls.releases.each(change, namespace, body.selector, begin))


@router.post("/namespaces/{namespace}/scales", **_OF_MANY)
async def scale_all(calls: TheCalls, change: TheChange, namespace: Namespace, body: m.ScaleAll) -> Response:
    """Give every instance with such labels so many pods, at most 100 instances; each answers for itself."""
    strategy = sent_fields(body.strategy)

    async def begin(own: ChangeRequest, name: str) -> Json:
        return await calls.releases.scale(own, namespace, name, body.replicas, strategy, queue=body.queue)

    return bulk_response(await calls.releases.each(change, namespace, body.selector, begin))
