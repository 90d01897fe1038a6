"""The other objects that the API returns, typed. Fields that a newer server adds are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple

from pydantic import Field

from triton_client.resources import DeployFlow, Json, Model


class Page(NamedTuple):
    """Some of the releases, newest first. `continue_token` leads to the next page; None: this is the last one."""

    items: list[DeployFlow]
    continue_token: str | None


class Container(Model):
    name: str
    image: str


class Instance(Model):
    """The current state of an instance. `status`: Ready, InProgress or Stopped."""

    name: str
    namespace: str
    app_id: Annotated[int, Field(alias="appID")]
    group_id: Annotated[int, Field(alias="groupID")]
    app_name: str
    labels: dict[str, str]
    status: str
    replicas: int
    current_replicas: int
    ready_replicas: int
    available_replicas: int
    updated_replicas: int
    updated_ready_replicas: int
    update_revision: str
    containers: list[Container]
    created_at: datetime


class Pod(Model):
    """A pod of an instance. `in_traffic`: its gate is open and it is Ready."""

    name: str
    namespace: str
    uid: str
    instance: str
    phase: str
    in_traffic: bool
    ip: str
    node: str
    revision: str
    restarts: int
    containers: list[Container]
    deleting: bool
    created_at: datetime


class PlannedBatch(Model):
    """One batch: `surge` new pods are made, `retire` old ones deleted.

    `gates`: the phases in which it waits for an approval; `pods`: the deleted pods, where the release names them.
    """

    number: int
    surge: int
    retire: int
    canary: bool
    gates: list[str]
    pods: list[str]


class Current(Model):
    """The instance that a plan starts from. `updated`: pods with the wanted template; `stopped`: replicas before a stop."""

    exists: bool
    replicas: int
    updated: int
    stopped: int


class Plan(Model):
    """The batches that a release would have if it started now."""

    instance: str
    action: str
    replicas: int
    current: Current
    starts_from: str
    to_process: int
    batches: list[PlannedBatch]
    warnings: list[str]


class ProblemDetails(Model):
    """A problem as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str
    reason: str


class OneOfMany(Model):
    """The result of a change of many instances for one of them: the name of its release, or a problem."""

    instance: str
    deploy_flow: str | None
    problem: ProblemDetails | None


class Event(NamedTuple):
    """An event of a release: the `FlowEvent` as it was published. `id`: its position, for `after`."""

    id: str
    value: Json
