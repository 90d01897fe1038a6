"""`next`, `continue`, `pause`, `resume`, `cancel`, `retry`, `promote`: what a person lets a running release do.

Each is an absolute change of the spec, guarded by the version that was read: pressed twice, or by two people
at once, it takes effect once.
"""

from __future__ import annotations

import getpass
import os
import uuid
from typing import Any, Final

from cli.connection import Cluster
from cli.exits import Failure
from shared.domain.deploy_commands import CommandType, DeployCommand, Target, change, patch
from shared.domain.deployflow import BatchPhase
from shared.kube.client import DEPLOYFLOWS, ApiError

Json = dict[str, Any]
ATTEMPTS: Final = 10
"""Each conflict means that somebody else's write came first; ten in a row do not happen to a person."""

NO_EFFECT: Final = "{name}: no effect any more, the release is past that already"
_SAID = {
    CommandType.PAUSE: "is paused: no new batch begins and no pod is made until `triton resume {name}`",
    CommandType.RESUME: "goes on",
    CommandType.CANCEL: "is being canceled: what was never baked goes, the rest keeps serving",
    CommandType.RETRY: "starts its failed batch anew",
    CommandType.PROMOTE: "goes on to its end: it asks nobody any more, `triton cancel {name}` still ends it",
}
_AHEAD = (CommandType.NEXT, CommandType.CONTINUE, CommandType.PROMOTE)


def requester(given: str | None) -> str:
    """Who asks: as given, else the user of this machine."""
    if given:
        return given
    if user := os.environ.get("USER"):
        return user
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def new_request_id() -> str:
    return uuid.uuid4().hex


def command_for(
    flow: Json,
    kind: CommandType,
    requested_by: str,
    *,
    batch: int | None = None,
    stage: BatchPhase | None = None,
    target: Target | None = None,
) -> DeployCommand:
    return DeployCommand(
        id=new_request_id(),
        type=kind,
        namespace=flow["metadata"]["namespace"],
        deploy_flow=flow["metadata"]["name"],
        batch=batch,
        stage=stage,
        target=target,
        requested_by=requested_by,
    )


def place_of(flow: Json) -> tuple[int | None, BatchPhase | None]:
    """Where the release stands when a bare `next` is pressed: that is the place it is meant for."""
    conditions = (flow.get("status") or {}).get("conditions") or []
    if not conditions:
        return None, None
    return conditions[-1]["batch"], BatchPhase(conditions[-1]["phase"])


async def act(cluster: Cluster, flow: Json, command: DeployCommand) -> str:
    """Carry the command out; returns the line that says what it came to. Raises `Refusal`."""
    name = flow["metadata"]["name"]
    for _ in range(ATTEMPTS):
        fields = change(flow, command)
        if fields is None:
            return NO_EFFECT.format(name=name)
        body = patch(flow, fields, request_id=command.id, requested_by=command.requested_by)
        try:
            await cluster.ask(cluster.client.patch(DEPLOYFLOWS, cluster.namespace, name, body))
        except ApiError as error:
            if error.code != 409:
                raise
            flow = await cluster.ask(cluster.client.get(DEPLOYFLOWS, cluster.namespace, name))
            continue
        return f"{name} {said(command, fields)}".format(name=name)
    msg = f"{name} was changed by others {ATTEMPTS} times meanwhile: try again"
    raise Failure(msg)


def came_to(before: Json, after: Json, command: DeployCommand) -> str:
    """The line that says what the command came to, from the release before and after it."""
    name = after["metadata"]["name"]
    field = (
        "updateStrategy" if "updateStrategy" in {**before["spec"], **after["spec"]} else "nonUpdateStrategy"
    )
    was, now = before["spec"].get(field) or {}, after["spec"].get(field) or {}
    ahead = ("mode", "batches", "stage")
    if command.type in _AHEAD and [was.get(key) for key in ahead] == [now.get(key) for key in ahead]:
        return NO_EFFECT.format(name=name)
    fields = {"batches": now.get("batches", 1), "stage": now.get("stage")}
    return f"{name} {said(command, fields)}".format(name=name)


def said(command: DeployCommand, fields: Json) -> str:
    """What the change means, in words."""
    if command.type in _SAID:
        return _SAID[command.type]
    batch, stage = fields["batches"], fields.get("stage")
    if stage is None:
        return f"goes on with batch {batch}"
    return f"goes on: batch {batch} to {stage}"
