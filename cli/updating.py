"""`triton update`: a new release of an instance that differs from its last good one only in what is named."""

from __future__ import annotations

import copy
from typing import Any, Final, NamedTuple

from cli.exits import BadInput, Failure
from shared.commands import deployflow_name, manifest
from shared.deployflow import UPDATING, DeployFlowSpec, problems

Json = dict[str, Any]
_OF_ONE_RELEASE: Final = ("batches", "stage", "paused", "canceled")
"""Strategy fields that say where the last release stood; a new one starts from its beginning."""


class Wish(NamedTuple):
    """What the person wants changed; None keeps it as it is."""

    image: str
    container: str | None = None
    replicas: int | None = None
    batch_size: str | None = None
    canary: int | None = None
    mode: str | None = None
    interval: int | None = None


def last_good(releases: list[Json], instance: str) -> Json:
    """The newest successful create, update or rollback; `releases` are sorted, oldest first."""
    for flow in reversed(releases):
        status = flow.get("status") or {}
        if flow["spec"]["action"] in UPDATING and status.get("phase") == "Success":
            return flow
    hint = "its first one is not finished" if releases else "create it with `triton apply -f FILE`"
    msg = f"{instance} has no successful release to update from: {hint}"
    raise Failure(msg)


def spec_for(base: Json, wish: Wish) -> DeployFlowSpec:
    """The spec of the update; raises `BadInput` naming what does not fit."""
    from pydantic import ValidationError

    application: Json = copy.deepcopy(base["spec"]["application"])
    _set_image(application, wish)
    if wish.replicas is not None:
        application["replicas"] = wish.replicas
    strategy = {
        key: value
        for key, value in (base["spec"].get("updateStrategy") or {}).items()
        if key not in _OF_ONE_RELEASE
    }
    asked = {
        "batchSize": _batch_size(wish.batch_size),
        "canary": wish.canary,
        "mode": wish.mode,
        "batchIntervalSeconds": wish.interval,
    }
    strategy |= {key: value for key, value in asked.items() if value is not None}
    try:
        return DeployFlowSpec.model_validate(
            {"action": "update", "application": application, "updateStrategy": strategy}
        )
    except ValidationError as error:
        raise BadInput(problems(error, "spec")) from error


def _set_image(application: Json, wish: Wish) -> None:
    containers: list[Json] = application["template"]["spec"]["containers"]
    names = [container["name"] for container in containers]
    if wish.container is None and len(containers) > 1:
        msg = f"--container: say which container gets the image, one of {', '.join(names)}"
        raise BadInput(msg)
    name = wish.container or names[0]
    if name not in names:
        msg = f"--container: there is no {name}, only {', '.join(names)}"
        raise BadInput(msg)
    containers[names.index(name)]["image"] = wish.image


def _batch_size(text: str | None) -> int | str | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return text


def release(
    spec: DeployFlowSpec, *, namespace: str, request_id: str, requested_by: str, freeze_override: str = ""
) -> Json:
    """The DeployFlow to create; the same request gives the same name."""
    return manifest(
        spec,
        name=deployflow_name(spec.application.instance_name, request_id),
        namespace=namespace,
        request_id=request_id,
        requested_by=requested_by,
        freeze_override=freeze_override,
    )
