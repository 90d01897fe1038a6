"""gRPC's messages: what a request says, and answers from DeployFlows, CloneSets and pods. Pure.

A field that is left out arrives as a zero value and means that it is not set. What does not fit is a `Problem` that
names the field.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ValidationError

from services.planner.api import v1_views
from services.planner.api.flow_queries import FlowFilter
from services.planner.api.problem import Kind, Problem
from services.planner.api.protos import application_pb2, deployflow_pb2, pod_pb2
from shared.domain import deployflow as df
from shared.domain.deploy_commands import Target

PAGE: Final = 10
"""So many where a request does not say how many."""
_TIMES: Final = frozenset({"startedAt", "finishedAt", "updatedAt", "creationTimestamp"})
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_COUNT = re.compile(r"[0-9]{1,10}")

Json = dict[str, Any]
Meta = deployflow_pb2.DeployMeta | application_pb2.InstanceMeta | pod_pb2.PodMeta
Strategy = deployflow_pb2.UpdateStrategy | deployflow_pb2.NonUpdateStrategy
M = TypeVar("M", bound=Message)


# --- what requests say ---


class Named(NamedTuple):
    namespace: str
    name: str


def named(meta: Meta, field: str) -> Named:
    """Of what the request is about; both have to be given."""
    return Named(
        _checked(meta.namespace, f"{field}.namespace", _LABEL), _checked(meta.name, f"{field}.name", _NAME)
    )


def scope(text: str, field: str) -> str:
    """A namespace or a name that restricts a list; not set, it does not."""
    return text and _checked(text, field, _NAME)


def wanted(given: deployflow_pb2.DeployFilter) -> FlowFilter:
    after: datetime | None = None
    if given.HasField("after"):
        try:
            after = given.after.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError) as error:
            raise _invalid("filter.after", str(error)) from error
    return FlowFilter(
        namespace=scope(given.namespace, "filter.namespace"),
        instance=scope(given.instanceName, "filter.instanceName"),
        action=given.action,
        after=after,
    )


def page(given: deployflow_pb2.DeployFilter) -> slice:
    """Which of those that fit."""
    for field in ("start", "pageSize"):
        if getattr(given, field) < 0:
            raise _invalid(f"filter.{field}", f"not below 0 (given: {getattr(given, field)})")
    return slice(given.start, given.start + (given.pageSize or PAGE))


def strategy(given: Strategy) -> Json:
    """The fields that are set, as the resource has them."""
    fields: Json = {
        field.name: list(value) if field.is_repeated else value for field, value in given.ListFields()
    }
    if _COUNT.fullmatch(given.batchSize):
        fields["batchSize"] = int(given.batchSize)
    return fields


def target(given: deployflow_pb2.TargetState) -> Target | None:
    """How far to go on; None: nothing is set."""
    fields = {field.name: value for field, value in given.ListFields()}
    try:
        return Target.model_validate(fields) if fields else None
    except ValidationError as error:
        raise _invalid("", df.problems(error, "target")) from error


class Place(NamedTuple):
    """In a release. `batch` 0: the one that it is at; `stage` None: Smoked in a canary, else Baked."""

    batch: int
    stage: df.BatchPhase | None


def place(given: deployflow_pb2.TargetState) -> Place | None:
    """How far to watch; None: nothing is set."""
    if given.batches < 0:
        raise _invalid("target.batches", f"not below 0 (given: {given.batches})")
    if given.stage and given.stage not in STAGES:
        raise _invalid("target.stage", f"one of {', '.join(STAGES)} (given: {given.stage!r})")
    stage = df.BatchPhase(given.stage) if given.stage else None
    return Place(given.batches, stage) if given.batches or stage else None


STAGES: Final = tuple(map(str, list(df.BatchPhase)[:5]))
"""The phases of a batch that does not fail, in their order."""


def _checked(text: str, field: str, pattern: re.Pattern[str]) -> str:
    if not text:
        raise _invalid(field, "it is missing")
    if not pattern.fullmatch(text):
        raise _invalid(field, f"it is no name of Kubernetes' (given: {text[:100]!r})")
    return text


def _invalid(field: str, problem: str) -> Problem:
    return Problem(Kind.INVALID, "Invalid", f"{field}: {problem}" if field else problem)


# --- answers ---


def deploy(flow: Json) -> deployflow_pb2.Deploy:
    """A DeployFlow of `FlowQueries`."""
    view, given = v1_views.deploy(flow), v1_views.strategy_of(flow)
    return _message(
        deployflow_pb2.Deploy,
        view
        | {
            "conditions": [_message(deployflow_pb2.Batch, batch) for batch in view["conditions"]],
            "batchSize": df.count_of(given.get("batchSize") or None, view["replicas"]),
            "batchIntervalSeconds": given.get("batchIntervalSeconds", 0),
            "timeoutSeconds": given.get("startupTimeoutSeconds", 0),
            "gracefulPeriodSeconds": given.get("pullOutSeconds", 0),
            "canary": given.get("canary", 0),
        },
    )


def instance(cloneset: Json) -> application_pb2.Instance:
    view = v1_views.instance(cloneset)
    view |= {"requestCPU": view["guaranteedCPU"], "requestMemory": view["guaranteedMemory"]}
    return _message(application_pb2.Instance, view)


def pod(item: Json) -> pod_pb2.PodInfo:
    return _message(pod_pb2.PodInfo, v1_views.pod(item))


def _message(kind: type[M], view: Json) -> M:
    """Of what the view has of the message's fields."""
    fields = kind.DESCRIPTOR.fields_by_name
    return kind(**{n: _time(value) if n in _TIMES else value for n, value in view.items() if n in fields})


def _time(text: str) -> Timestamp:
    time = Timestamp()
    time.FromJsonString(text)
    return time
