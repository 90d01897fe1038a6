"""Reads gRPC's requests, and makes its answers from DeployFlows, CloneSets and pods. Pure.

A field that is left out arrives as a zero value and means that it is not set. An invalid field raises a `Problem` that
names it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ValidationError

from services.planner.api import v1_views
from services.planner.api.flow_queries import FlowFilter
from services.planner.api.models_v2 import NewRelease
from services.planner.api.problem import Kind, Problem
from services.planner.api.protos import application_pb2, deployflow_pb2, pod_pb2, releases_v2_pb2
from shared.domain import deployflow as df
from shared.domain.deploy_commands import Target
from shared.domain.json_types import Json

PAGE: Final = 10
"""The page size where a request has none."""
_TIMES: Final = frozenset({"startedAt", "finishedAt", "updatedAt", "creationTimestamp"})
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_COUNT = re.compile(r"[0-9]{1,10}")

Meta = deployflow_pb2.DeployMeta | application_pb2.InstanceMeta | pod_pb2.PodMeta
Strategy = deployflow_pb2.UpdateStrategy | deployflow_pb2.NonUpdateStrategy
M = TypeVar("M", bound=Message)


# --- requests ---


class Named(NamedTuple):
    namespace: str
    name: str


def named(meta: Meta, field: str) -> Named:
    """Return the namespace and name that the request is for; both are required."""
    return Named(
        _checked(meta.namespace, f"{field}.namespace", _LABEL), _checked(meta.name, f"{field}.name", _NAME)
    )


def scope(text: str, field: str) -> str:
    """Return a namespace or a name that restricts a list; empty: it does not."""
    return text and _checked(text, field, _NAME)


def flow_filter(message: deployflow_pb2.DeployFilter) -> FlowFilter:
    after: datetime | None = None
    if message.HasField("after"):
        try:
            after = message.after.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError) as error:
            raise _invalid("filter.after", str(error)) from error
    return FlowFilter(
        namespace=scope(message.namespace, "filter.namespace"),
        instance=scope(message.instanceName, "filter.instanceName"),
        action=message.action,
        after=after,
    )


def page(message: deployflow_pb2.DeployFilter) -> slice:
    """Return the part of the matching list that is requested."""
    for field in ("start", "pageSize"):
        if getattr(message, field) < 0:
            raise _invalid(f"filter.{field}", f"not below 0 (received: {getattr(message, field)})")
    return slice(message.start, message.start + (message.pageSize or PAGE))


def strategy(message: Strategy) -> Json:
    """Return the fields that are set, as the resource has them."""
    fields: Json = {
        field.name: list(value) if field.is_repeated else value for field, value in message.ListFields()
    }
    if _COUNT.fullmatch(message.batchSize):
        fields["batchSize"] = int(message.batchSize)
    return fields


def new_release(message: releases_v2_pb2.NewRelease, action: df.Action) -> tuple[str, NewRelease]:
    """Return the namespace and the release to make, checked as those of REST are."""
    namespace = _checked(message.namespace, "namespace", _LABEL)
    spec: Json = {"action": str(action), "application": _fields(message.application)}
    if message.HasField("updateStrategy"):
        spec["updateStrategy"] = _fields(message.updateStrategy)
    body: Json = {"spec": spec, "queue": message.queue, "keep": message.keep}
    body |= {field: text for field in ("name", "freezeOverride") if (text := getattr(message, field))}
    return namespace, NewRelease.model_validate(body)


def _fields(struct: Struct) -> Json:
    return {name: _json(value) for name, value in struct.fields.items()}


def _json(value: Value) -> Any:
    """Return what a value has in JSON. A whole number is an integer, as Kubernetes requires of a count."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return _fields(value.struct_value)
        case "list_value":
            return [_json(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
    return None


def target(message: deployflow_pb2.TargetState) -> Target | None:
    """Return how far to continue; None: nothing is set."""
    fields = {field.name: value for field, value in message.ListFields()}
    try:
        return Target.model_validate(fields) if fields else None
    except ValidationError as error:
        raise _invalid("", df.problems(error, "target")) from error


class Place(NamedTuple):
    """A place in a release. `batch` 0: the current one; `stage` None: Smoked in a canary, else Baked."""

    batch: int
    stage: df.BatchPhase | None


def place(message: deployflow_pb2.TargetState) -> Place | None:
    """Return how far to watch; None: nothing is set."""
    if message.batches < 0:
        raise _invalid("target.batches", f"not below 0 (received: {message.batches})")
    if message.stage and message.stage not in STAGES:
        raise _invalid("target.stage", f"one of {', '.join(STAGES)} (received: {message.stage!r})")
    stage = df.BatchPhase(message.stage) if message.stage else None
    return Place(message.batches, stage) if message.batches or stage else None


STAGES: Final = tuple(map(str, list(df.BatchPhase)[:5]))
"""The phases of a batch that does not fail, in their order."""


def _checked(text: str, field: str, pattern: re.Pattern[str]) -> str:
    if not text:
        raise _invalid(field, "it is missing")
    if not pattern.fullmatch(text):
        raise _invalid(field, f"it is no name of Kubernetes' (received: {text[:100]!r})")
    return text


def _invalid(field: str, problem: str) -> Problem:
    return Problem(Kind.INVALID, "Invalid", f"{field}: {problem}" if field else problem)


# --- answers ---


def deploy(flow: Json) -> deployflow_pb2.Deploy:
    """Convert a DeployFlow of `FlowQueries`."""
    view, fields, status = v1_views.deploy(flow), v1_views.strategy_of(flow), flow["status"]
    last = status.get("lastCommand")
    return _message(
        deployflow_pb2.Deploy,
        view
        | {
            "conditions": [_message(deployflow_pb2.Batch, batch) for batch in view["conditions"]],
            "batchSize": df.count_of(fields.get("batchSize") or None, view["replicas"]),
            "batchIntervalSeconds": fields.get("batchIntervalSeconds", 0),
            "timeoutSeconds": fields.get("startupTimeoutSeconds", 0),
            "gracefulPeriodSeconds": fields.get("pullOutSeconds", 0),
            "canary": fields.get("canary", 0),
            **_requester(status),
            "lastCommand": _message(deployflow_pb2.LastCommand, last) if last else None,
        },
    )


def _requester(status: Json) -> Json:
    names = ("requestedBy", "requestedByClaimed", "requestedVia")
    return {name: status[name] for name in names if status.get(name)}


def instance(cloneset: Json) -> application_pb2.Instance:
    view = v1_views.instance(cloneset)
    view |= {"requestCPU": view["guaranteedCPU"], "requestMemory": view["guaranteedMemory"]}
    return _message(application_pb2.Instance, view)


def pod(item: Json) -> pod_pb2.PodInfo:
    return _message(pod_pb2.PodInfo, v1_views.pod(item))


def _message(kind: type[M], view: Json) -> M:
    """Make a message of the fields that both it and the view have."""
    fields = kind.DESCRIPTOR.fields_by_name
    return kind(**{n: _time(value) if n in _TIMES else value for n, value in view.items() if n in fields})


def _time(text: str | None) -> Timestamp:
    time = Timestamp()
    time.FromJsonString(text or v1_views.NEVER)
    return time
