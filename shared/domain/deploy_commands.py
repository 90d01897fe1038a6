"""Commands of people and other systems, and the one change of the spec that each of them results in.

kubectl, Kafka, the command line and the APIs all result in the same thing: an absolute patch of the
DeployFlow's strategy, guarded by resourceVersion, with the id of the request in an annotation. The functions
here are pure: from a DeployFlow as it is and a command to a patch, or to a refusal that says why.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, model_validator

from shared.domain import deployflow as df
from shared.domain.deployflow import BatchPhase, FlowPhase
from shared.domain.json_types import Json
from shared.domain.messages import LastCommand
from shared.domain.object_bounds import count_in, json_in
from shared.domain.requesters import Origin

REMEMBERED: Final = 20
"""So many requests a DeployFlow remembers: far more than a repeated delivery brings back."""
UNKNOWN: Final = Origin()
LONGEST_REQUESTER: Final = 253
"""Characters of a requester's name. Every event of the release has it."""
_LONGEST_WORD: Final = 40
_OF_ONE_RELEASE: Final = df.inherited_by(df.InheritedBy.NONE)
"""Strategy fields that say where a release stood; a new one starts from its beginning."""
CHANGE: Final = "change"
"""The command of a request that changes the strategy in another way than the commands do."""
OBJECT_NAME: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
LONGEST_OBJECT_NAME: Final = 253
"""The names that Kubernetes gives to most objects."""
FlowName = Annotated[
    str, StringConstraints(pattern=OBJECT_NAME, min_length=1, max_length=LONGEST_OBJECT_NAME)
]
OfInstance = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", max_length=df.LONGEST_STORED_NAME)
]
"""The name of an instance that may be old; empty, as programs in Go send it, it counts as missing."""
TOPIC_NAME: Final = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"
TopicName = Annotated[str, StringConstraints(pattern=TOPIC_NAME, max_length=249)]
RequestId = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class CommandType(StrEnum):
    DEPLOY = "deploy"
    NEXT = "next"
    CONTINUE = "continue"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    PROMOTE = "promote"
    RETRY = "retry"
    ROLLBACK = "rollback"
    DELETE = "delete"


class Target(df.Wire):
    """The target of a `continue`: batches below `batches` to their end, batch `batches` to `stage` (or its end)."""

    batches: df.Positive | None = None
    stage: BatchPhase | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.batches is None and self.stage is None:
            msg = "target: give batches, stage or both"
            raise ValueError(msg)
        if self.stage not in {None, BatchPhase.SMOKED, BatchPhase.BAKING, BatchPhase.BAKED}:
            msg = f"target.stage: {self.stage} is no stage to continue to; one of Smoked, Baking, Baked"
            raise ValueError(msg)
        return self


def _needs(field: str) -> Json:
    """Return a JSON Schema that requires the field, neither null nor empty."""
    return {"required": [field], "properties": {field: {"not": {"enum": [None, ""]}}}}


def _where(types: Sequence[CommandType], then: Json, otherwise: Json | None = None) -> Json:
    condition = {"properties": {"type": {"enum": [str(kind) for kind in types]}}}
    return {"if": condition, "then": then} | ({"else": otherwise} if otherwise else {})


_RULES: Final[Json] = {
    "allOf": [
        _where([CommandType.DEPLOY], _needs("spec"), {"properties": {"freezeOverride": {"maxLength": 0}}}),
        _where([CommandType.CONTINUE], _needs("target")),
        _where([CommandType.ROLLBACK], _needs("instanceName")),
        _where(
            [CommandType.DEPLOY, CommandType.ROLLBACK],
            {},
            {"anyOf": [_needs("deployFlow"), _needs("instanceName")]},
        ),
    ]
}
"""The rules of `DeployCommand._complete` as JSON Schema."""


class CommandSender(df.Wire):
    """The parts of an invalid command by which it is answered."""

    model_config = ConfigDict(extra="ignore")

    id: RequestId
    reply_to: TopicName


def sender_of(body: object) -> CommandSender | None:
    """Return who gets the answer to an invalid command; None where its id or its topic is missing or invalid too."""
    try:
        return CommandSender.model_validate(body)
    except ValidationError:
        return None


class DeployCommand(df.Wire):
    """A command that other systems publish on `triton.deploy-commands`, key `<namespace>/<instanceName>`.

    `id` makes a repeated delivery harmless: the same id again is the same request. `batch` and `stage` of a
    `next` name the place that it was meant for: once past it, the command has no effect. A `rollback` names its
    instanceName and, as deployFlow, the release to go back to (without: the last successful one before this).
    `freeze_override` of a `deploy` says why it shall begin in a freeze window too.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_RULES)

    id: RequestId
    type: CommandType
    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    deploy_flow: FlowName | None = None
    instance_name: OfInstance | None = None
    spec: df.DeployFlowSpec | None = None
    target: Target | None = None
    batch: df.Positive | None = None
    stage: BatchPhase | None = None
    requested_by: Annotated[str, Field(max_length=LONGEST_REQUESTER)] = ""
    freeze_override: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = ""
    reply_to: TopicName | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type == CommandType.DEPLOY:
            if self.spec is None:
                msg = "spec: a deploy needs the DeployFlow's spec"
                raise ValueError(msg)
        elif self.type == CommandType.ROLLBACK and not self.instance_name:
            msg = "instanceName: a rollback names the instance that goes back"
            raise ValueError(msg)
        elif not self.deploy_flow and not self.instance_name:
            msg = (
                f"deployFlow: a {self.type} names its deployFlow, or the instanceName whose release is meant"
            )
            raise ValueError(msg)
        if self.freeze_override and self.type != CommandType.DEPLOY:
            msg = f"freezeOverride: a {self.type} is held back by no freeze window: leave it out"
            raise ValueError(msg)
        if self.type == CommandType.CONTINUE and self.target is None:
            msg = "target: continue needs a target (batches, stage or both)"
            raise ValueError(msg)
        return self


class Refusal(Exception):
    """The command is sound but can't be done now. `reason` is one CamelCase word, the text is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def deployflow_name(instance: str, request_id: str) -> str:
    """Return `<instance>-<5 letters>`, the same for the same request: a redelivered deploy makes the same flow."""
    # without vowels no word comes up; the letters are the ones that Kubernetes uses for generated names
    letters = "bcdfghjklmnpqrstvwxz"
    number = int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8])
    suffix = ""
    for _ in range(5):
        number, at = divmod(number, len(letters))
        suffix += letters[at]
    return f"{instance}-{suffix}"


def manifest(
    spec: df.DeployFlowSpec,
    *,
    name: str,
    namespace: str,
    request_id: str,
    requested_by: str,
    origin: Origin = UNKNOWN,
    freeze_override: str = "",
    reply_to: str | None = None,
    unsaid: df.Unsaid = df.Unsaid.NOTHING,
    keep: bool = False,
) -> Json:
    """Return the DeployFlow to create for a deploy command; its end is reported to the topic `reply_to`.

    `origin`: where the name `requested_by` comes from. `unsaid`: what of the spec was not requested, and is read again when
    the release begins. `keep`: it is not deleted beyond the history limit.
    """
    annotations = requested(request_id, requested_by, freeze_override, origin)
    if not keep:
        annotations |= {df.PRUNE: "true"}
    if reply_to:
        annotations |= {df.REPLY_TO: reply_to, df.REPLY_ID: request_id}
    if unsaid:
        annotations |= {str(unsaid): "true"}
    return {
        "apiVersion": df.API_VERSION,
        "kind": df.KIND,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": spec.application.labels(),
            "annotations": annotations,
            # it stays until its end is reported, also where it ends before `.status` says to whom
            **({"finalizers": [df.FINALIZER]} if reply_to else {}),
        },
        "spec": spec.model_dump(mode="json", exclude_unset=True, exclude_none=True),
    }


def requested(
    request_id: str, requested_by: str, freeze_override: str = "", origin: Origin = UNKNOWN
) -> dict[str, str]:
    """Return the annotations of the request of a release: its id, who made it, how it came, why it overrides freezes."""
    override = {df.FREEZE_OVERRIDE: freeze_override} if freeze_override else {}
    unchecked = {df.REQUESTED_BY_CLAIMED: "true"} if origin.claimed and requested_by else {}
    via = {df.REQUESTED_VIA: origin.via} if origin.via else {}
    return {df.LAST_REQUEST: request_id, df.REQUESTED_BY: requested_by, **unchecked, **via, **override}


def changed_by(request_id: str, requested_by: str, command: str, origin: Origin = UNKNOWN) -> dict[str, str]:
    """Return the annotations of a request that changes a release: its requester is not the one of the release."""
    step: Json = {"request": request_id, "command": command}
    step |= ({"via": origin.via} if origin.via else {}) | (
        {"claimed": True} if origin.claimed and requested_by else {}
    )
    return {df.LAST_REQUEST: request_id, df.LAST_STEP: json.dumps(step), df.LAST_STEP_BY: requested_by}


def last_command_of(annotations: Mapping[str, str]) -> LastCommand | None:
    """Return the request that changed a release last; None where the last request says nothing of this.

    Older versions write no such annotations, and leave those of an earlier request.
    """
    try:
        step = json_in(annotations.get(df.LAST_STEP, "null"))
    except ValueError:
        return None
    if not isinstance(step, dict) or step.get("request") != annotations.get(df.LAST_REQUEST):
        return None
    return LastCommand(
        command=str(step.get("command", ""))[:_LONGEST_WORD],
        requested_by=annotations.get(df.LAST_STEP_BY, "")[:LONGEST_REQUESTER],
        requested_by_claimed=step.get("claimed") is True,
        requested_via=str(step.get("via", ""))[:_LONGEST_WORD],
    )


def requested_strategy_of(flow: Json) -> Json:
    """Return the strategy of a create or update as it was requested, without what says where that release stood.

    The planner records it in `.status` when it first sees the release. What approves before that, as a promote of a
    release that has just been made, leaves it in an annotation; that of a spec that nobody has changed is not read.
    """
    recorded = (flow.get("status") or {}).get("requestedStrategy")
    if recorded is None and flow["metadata"].get("generation", 1) > 1:
        recorded = strategy_in(flow["metadata"].get("annotations") or {})
    strategy = recorded if isinstance(recorded, dict) else flow["spec"].get("updateStrategy") or {}
    return {key: value for key, value in strategy.items() if key not in _OF_ONE_RELEASE and value is not None}


def strategy_in(annotations: Mapping[str, str]) -> Json | None:
    """Return the strategy that the annotation keeps; None where there is none that can be used."""
    try:
        found = json_in(annotations.get(df.REQUESTED_STRATEGY, "null"))
        return df.UpdateStrategy.model_validate(found).model_dump(mode="json", exclude_unset=True)
    except ValueError:
        return None


def _is_unrecorded(flow: Json) -> bool:
    """Return whether the planner has not seen the release, and no request has changed it."""
    recorded = (flow.get("status") or {}).get("requestedStrategy") is not None
    known = recorded or df.REQUESTED_STRATEGY in (flow["metadata"].get("annotations") or {})
    return flow["spec"].get("action") in df.PASSING_ON and not known


def is_canary(strategy: df.Strategy, conditions: list[df.Condition]) -> bool:
    """Return whether the first batch of this release is a canary: by the plan, before there is one by the strategy."""
    if conditions:
        return conditions[0].canary
    return bool(isinstance(strategy, df.UpdateStrategy) and strategy.canary)


def waiting_at(flow: Json) -> tuple[int, BatchPhase | None]:
    """Return the approval that the next `next` sets, from where the release waits.

    Raises `Refusal` where the release does not wait for one.
    """
    status = df.DeployFlowStatus.model_validate(flow.get("status") or {}, extra="ignore")
    name = flow["metadata"]["name"]
    if status.finished:
        raise Refusal("Finished", f"{name} has finished ({status.phase}): there is nothing to continue")
    if not status.conditions:
        if status.phase == FlowPhase.PENDING and status.reason:
            raise Refusal("NotWaiting", f"{name} is Pending: {status.message or status.reason}")
        raise Refusal("NotWaiting", f"{name} has not started its first batch yet: wait for it")
    batch = status.conditions[-1]
    if batch.phase in {BatchPhase.SMOKE_FAILED, BatchPhase.BAKE_FAILED}:
        raise Refusal(
            "BatchFailed",
            f"batch {batch.batch} of {name} is {batch.phase} ({batch.message}): retry, roll back or cancel",
        )
    if status.finished_batches >= batch.batch:
        return batch.batch + 1, None
    if batch.phase == BatchPhase.SMOKED:
        return batch.batch, BatchPhase.BAKING
    if batch.phase == BatchPhase.BAKING:
        return batch.batch, BatchPhase.BAKED
    raise Refusal(
        "NotWaiting",
        f"batch {batch.batch} of {name} is {batch.phase} and continues without approval: wait for it",
    )


_STAGES = (BatchPhase.PENDING, BatchPhase.SMOKING, BatchPhase.SMOKED, BatchPhase.BAKING, BatchPhase.BAKED)


def rank(batches: int, stage: BatchPhase | None) -> tuple[int, int]:
    """Return the sort key of an approval: a later batch, then a later stage; no stage is past all stages."""
    return batches, len(_STAGES) if stage not in _STAGES else _STAGES.index(stage)


def cursor(batches: int, stage: BatchPhase | None, *, canary: bool) -> tuple[int, BatchPhase | None]:
    """Return how far the spec allows the release to go. A canary that nobody has approved yet stops at Smoked."""
    if canary and batches == 1 and stage is None:
        return 1, BatchPhase.SMOKED
    return batches, stage


def change(flow: Json, command: DeployCommand) -> Json | None:
    """Return the strategy fields that `command` sets on `flow`, absolute; None when it has no effect any more.

    Raises `Refusal` when the release has finished or the command does not fit its state.
    """
    spec = df.DeployFlowSpec.model_validate(flow["spec"], context=df.STORED)
    status = df.DeployFlowStatus.model_validate(flow.get("status") or {}, extra="ignore")
    name = flow["metadata"]["name"]
    if status.finished and command.type != CommandType.DELETE:
        raise Refusal(
            "Finished", f"{name} has finished ({status.phase}): {command.type} has nothing to act on"
        )
    match command.type:
        case CommandType.PAUSE:
            return {"paused": True}
        case CommandType.RESUME:
            return {"paused": False}
        case CommandType.CANCEL:
            return {"canceled": True}
        case CommandType.PROMOTE:
            return _all_the_way(spec)
        case CommandType.RETRY:
            if not has_failed(spec, status):
                raise Refusal("NotFailed", f"{name} has no failed batch ({status.phase}): nothing to retry")
            return {"retries": _most_retries(flow, spec) + 1}
        case CommandType.NEXT:
            if _is_past(status, command):
                return None
            batches, stage = waiting_at(flow)
        case CommandType.CONTINUE:
            if command.target is None:
                raise Refusal("InvalidArgument", "continue needs a target")
            current = status.conditions[-1].batch if status.conditions else 1
            batches, stage = command.target.batches or current, command.target.stage
        case _:
            raise Refusal("NotSupported", f"{command.type}: this version does not carry it out")
    strategy = spec.strategy
    approved_stage = strategy.stage if isinstance(strategy, df.UpdateStrategy) else None
    now = cursor(strategy.batches, approved_stage, canary=is_canary(strategy, status.conditions))
    # a spec that somebody lowered since takes nothing back of what has begun
    if rank(batches, stage) <= max(rank(*now), rank(*_reached(status))):
        return None
    if stage is not None and not spec.updating:
        raise Refusal("InvalidArgument", f"target.stage: a {spec.action} has no stages, give batches")
    return {"batches": batches, "stage": stage} if spec.updating else {"batches": batches}


def _reached(status: df.DeployFlowStatus) -> tuple[int, BatchPhase | None]:
    """Return how far the release has come, as an approval."""
    if not status.conditions:
        return 0, None
    batch = status.conditions[-1]
    if status.finished_batches >= batch.batch:
        return batch.batch, None
    failed_in = {BatchPhase.SMOKE_FAILED: BatchPhase.SMOKING, BatchPhase.BAKE_FAILED: BatchPhase.BAKING}
    return batch.batch, failed_in.get(batch.phase, batch.phase)


def _most_retries(flow: Json, spec: df.DeployFlowSpec) -> int:
    """Return the most retries that were requested so far: the spec may have been lowered since, unseen by the planner."""
    requested_before = (flow["metadata"].get("annotations") or {}).get(df.RETRIES, "")
    return max(spec.strategy.retries, count_in(requested_before) or 0)


def _all_the_way(spec: df.DeployFlowSpec) -> Json | None:
    """Return the fields that approve every gate to the end; intervals and bakes keep their length."""
    strategy = spec.strategy
    fields: Json = {"mode": str(df.Mode.AUTO), "batches": max(strategy.batches, 2)}
    if spec.updating:
        fields["stage"] = None
    approved_stage = strategy.stage if isinstance(strategy, df.UpdateStrategy) else None
    now = {"mode": str(strategy.mode), "batches": strategy.batches, "stage": approved_stage}
    return None if all(now[field] == value for field, value in fields.items()) else fields


def has_failed(spec: df.DeployFlowSpec, status: df.DeployFlowStatus) -> bool:
    """Return whether a failure stopped the release, and somebody has to decide what comes next."""
    phase = status.conditions[-1].phase if status.conditions else None
    failed = phase in {BatchPhase.SMOKE_FAILED, BatchPhase.BAKE_FAILED}
    return not status.finished and (failed or (status.paused and not spec.strategy.paused))


def _is_past(status: df.DeployFlowStatus, command: DeployCommand) -> bool:
    """Return whether the release has left the batch, or the phase of it, that a `next` was meant for."""
    if command.batch is None or not status.conditions:
        return False
    at = status.conditions[-1]
    if at.batch != command.batch or command.stage is None:
        return at.batch > command.batch
    return rank(at.batch, at.phase) > rank(command.batch, command.stage)


def requests_of(annotations: Mapping[str, str]) -> list[str]:
    """Return the ids of the last requests that created or changed a DeployFlow, oldest first."""
    try:
        stored = json_in(annotations.get(df.REQUESTS, "[]"))
    except ValueError:
        stored = []
    requests = [str(request) for request in stored] if isinstance(stored, list) else []
    last = annotations.get(df.LAST_REQUEST)
    return [*requests, last] if last and last not in requests else requests


def patch(
    flow: Json,
    fields: Json,
    *,
    request_id: str,
    requested_by: str,
    command: str = CHANGE,
    origin: Origin = UNKNOWN,
) -> Json:
    """Return a merge patch of the flow's strategy, guarded by the resourceVersion that `flow` was read with."""
    spec = df.DeployFlowSpec.model_validate(flow["spec"], context=df.STORED)
    requests = [*requests_of(flow["metadata"].get("annotations") or {}), request_id][-REMEMBERED:]
    retries = fields.get("retries")
    most = {df.RETRIES: str(max(retries, _most_retries(flow, spec)))} if retries else {}
    before = json.dumps(requested_strategy_of(flow)) if "mode" in fields and _is_unrecorded(flow) else None
    return {
        "metadata": {
            "resourceVersion": flow["metadata"]["resourceVersion"],
            "annotations": {
                **changed_by(request_id, requested_by, command, origin),
                df.REQUESTS: json.dumps(requests),
                **most,
                **({df.REQUESTED_STRATEGY: before} if before else {}),
            },
        },
        "spec": {spec.strategy_field: fields},
    }
