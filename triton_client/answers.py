"""What the API answers, typed. A field that a newer server has beside these is left out of account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from shared.domain.deployflow import DeployFlowSpec, DeployFlowStatus

Json = dict[str, Any]


class TritonError(Exception):
    """The API's refusal, or that it could not be asked.

    `status` is HTTP's, 0 where nothing was answered; `reason` one CamelCase word for programs; `detail`, the text of
    the exception, is for people.
    """

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class DeployFlow:
    """A release as the API has it. `resource` is all of it; `etag` names this state, for `if_match`."""

    resource: Json
    etag: str = ""

    @property
    def name(self) -> str:
        return str(self.resource["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.resource["metadata"]["namespace"])

    @property
    def instance(self) -> str:
        return str(self.resource["spec"]["application"]["instanceName"])

    @cached_property
    def spec(self) -> DeployFlowSpec:
        """Raises pydantic's `ValidationError` for one that somebody wrote past the checks."""
        return DeployFlowSpec.model_validate(self.resource["spec"], extra="ignore")

    @cached_property
    def status(self) -> DeployFlowStatus:
        return DeployFlowStatus.model_validate(self.resource["status"], extra="ignore")


class Page(NamedTuple):
    """Some of the releases, newest first. `go_on` leads to the next page; None: this is the last one."""

    items: list[DeployFlow]
    go_on: str | None


class Answer(BaseModel):
    """Base of the rest."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class Container(Answer):
    name: str
    image: str


class Instance(Answer):
    """An instance as it is now. `status`: Ready, InProgress or Stopped."""

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


class Pod(Answer):
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


class PlannedBatch(Answer):
    """`surge` pods come, `retire` go; `gates`: where it waits for a person; `pods`: the named ones that go."""

    number: int
    surge: int
    retire: int
    canary: bool
    gates: list[str]
    pods: list[str]


class Current(Answer):
    """What a plan starts from. `updated`: pods with the wanted template; `stopped`: replicas before a stop."""

    exists: bool
    replicas: int
    updated: int
    stopped: int


class Plan(Answer):
    """The batches that a release would have now."""

    instance: str
    action: str
    replicas: int
    current: Current
    starts_from: str
    to_process: int
    batches: list[PlannedBatch]
    warnings: list[str]


class ProblemDetails(Answer):
    """What is the matter (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    reason: str


class OneOfMany(Answer):
    """What a change of many came to for one instance: the name of its release, or a problem."""

    instance: str
    deploy_flow: str | None
    problem: ProblemDetails | None


class Event(NamedTuple):
    """What happened to a release: the `FlowEvent` as it was published. `id`: its place, for `after`."""

    id: str
    value: Json
