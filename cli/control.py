"""Commands on a running release: `next`, `continue`, `pause`, `resume`, `cancel`, `retry`, `promote`.

Each is an absolute change of the spec, guarded by the version that was read: pressed twice, or by two people
at once, it takes effect once.
"""

from __future__ import annotations

import getpass
import os
import uuid
from typing import Final

from cli.connection import Cluster
from cli.exits import Failure
from shared.domain.deploy_commands import CommandType, DeployCommand, Target, change, patch
from shared.domain.deployflow import BatchPhase, set_fields
from shared.domain.json_types import Json
from shared.domain.requesters import Origin, Via
from shared.kube.client import DEPLOYFLOWS, ApiError

ATTEMPTS: Final = 10
"""Each conflict means that somebody else's write came first; ten in a row do not happen to a person."""

NO_EFFECT: Final = "{name}: no effect, the release is past that already"
_RESULTS: Final = {
    CommandType.PAUSE: "is paused: no new batch starts and no pod is made until `triton resume {name}`",
    CommandType.RESUME: "is resumed",
    CommandType.CANCEL: "is being canceled: new pods that are not baked are deleted, the others keep serving",
    CommandType.RETRY: "starts its failed batch again",
    CommandType.PROMOTE: "is approved to its end: it waits for no more approvals, `triton cancel {name}` still ends it",
}
_APPROVALS: Final = (CommandType.NEXT, CommandType.CONTINUE, CommandType.PROMOTE)


_STEPS: Final[dict[str | None, str]] = {
    BatchPhase.BAKING: "takes traffic",
    BatchPhase.BAKED: "is accepted",
    None: "may start",
}
"""The effect of a `next`, by the stage that it sets."""


def local_user() -> str:
    """Return the user of this machine."""
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
    """Return the batch and phase of the release now: the place that a `next` without --batch is meant for."""
    conditions = (flow.get("status") or {}).get("conditions") or []
    if not conditions:
        return None, None
    return conditions[-1]["batch"], BatchPhase(conditions[-1]["phase"])


async def act(
    cluster: Cluster,
    flow: Json,
    command: DeployCommand,
    origin: Origin = Origin(Via.CLI),  # noqa: B008
) -> str:
    """Carry out the command and return the line that reports its result. Raises `Refusal`."""
    name = flow["metadata"]["name"]
    for _ in range(ATTEMPTS):
        fields = change(flow, command)
        if fields is None:
            return NO_EFFECT.format(name=name)
        body = patch(
            flow,
            fields,
            request_id=command.id,
            requested_by=command.requested_by,
            command=command.type,
            origin=origin,
        )
        try:
            await cluster.call(cluster.client.patch(DEPLOYFLOWS, cluster.namespace, name, body))
        except ApiError as error:
            if error.code != 409:
                raise
            flow = await cluster.call(cluster.client.get(DEPLOYFLOWS, cluster.namespace, name))
            continue
        return result(name, command, fields)
    msg = f"{name} was changed by others {ATTEMPTS} times in the meantime: try again"
    raise Failure(msg)


def result_of(before: Json, after: Json, command: DeployCommand) -> str:
    """Return the line that reports the result of the command, from the release before and after it."""
    name = after["metadata"]["name"]
    field = (
        "updateStrategy" if "updateStrategy" in {**before["spec"], **after["spec"]} else "nonUpdateStrategy"
    )
    was, now = (set_fields(flow["spec"].get(field) or {}) for flow in (before, after))
    approval = ("mode", "batches", "stage")
    if command.type in _APPROVALS and [was.get(key) for key in approval] == [
        now.get(key) for key in approval
    ]:
        return NO_EFFECT.format(name=name)
    fields = {"batches": now.get("batches", 1), "stage": now.get("stage")}
    return result(name, command, fields)


def result(name: str, command: DeployCommand, fields: Json) -> str:
    """Return the line that says what the changed fields of the strategy mean for the release."""
    if command.type in _RESULTS:
        return f"{name} {_RESULTS[command.type]}".format(name=name)
    batch, stage = fields["batches"], fields.get("stage")
    if command.type == CommandType.NEXT:
        return f"{name}: batch {batch} {_STEPS.get(stage, f'may reach {stage}')}"
    limit = f"{stage} of batch {batch}" if stage else f"batch {batch}"
    return f"{name}: approved up to {limit}"
