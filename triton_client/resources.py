"""A DeployFlow as the API returns it: the parts of its spec and status, typed.

The package is published apart from the server, so it has these types itself. A test of the repository holds them
equal to the server's. They accept what a newer server adds: unknown fields are ignored, unknown phases stay strings.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

Json = dict[str, Any]


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    ROLLBACK = "rollback"
    RESTART = "restart"
    SCALE_IN = "scale_in"
    SCALE_OUT = "scale_out"
    START = "start"
    STOP = "stop"
    DELETE = "delete"


class FlowPhase(StrEnum):
    PENDING = "Pending"
    INITIALIZING = "Initializing"
    BATCH_STARTED = "BatchStarted"
    BATCH_FINISHED = "BatchFinished"
    SUCCESS = "Success"
    FAILED = "Failed"
    ABORTED = "Aborted"
    CANCELED = "Canceled"


class BatchPhase(StrEnum):
    PENDING = "Pending"
    SMOKING = "Smoking"
    SMOKED = "Smoked"
    BAKING = "Baking"
    BAKED = "Baked"
    SMOKE_FAILED = "SmokeFailed"
    BAKE_FAILED = "BakeFailed"


class PodPhase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    CONTAINERS_READY = "ContainersReady"
    READY = "Ready"
    FAILED = "Failed"
    OUTDATED = "Outdated"


class PullInStatus(StrEnum):
    NONE = ""
    SUCCEEDED = "PullInSucceeded"
    FAILED = "PullInFailed"


class Model(BaseModel):
    """Base of all types: camelCase in JSON, snake_case in Python."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


_NEWER = Field(union_mode="left_to_right")
"""A value that only a newer server knows stays a string."""


def _empty_for_null(value: Any) -> Any:
    return [] if value is None else value


class Application(Model):
    """The application instance of a release; `template` is the pod template that a release may bring."""

    app_id: Annotated[int, Field(alias="appID")]
    group_id: Annotated[int, Field(alias="groupID")]
    app_name: str
    instance_name: str
    selector: Json | None = None
    template: Json | None = None
    replicas: int = 1
    application_type: str | None = None
    volume_claim_templates: list[Json] | None = None
    application_label: dict[str, str] | None = None


class DeployFlowSpec(Model):
    """The wanted release. Its strategy is JSON, as `create` and `steer` take it; so is what it inherits when it begins."""

    action: Annotated[Action | str, _NEWER]
    application: Application
    update_strategy: Json | None = None
    non_update_strategy: Json | None = None
    inherits: Json | None = None

    @property
    def strategy(self) -> Json:
        """Return the strategy of the action; it has only the fields that somebody set."""
        return self.update_strategy or self.non_update_strategy or {}


class PodStatus(Model):
    """One pod of a batch. Only the first pods that failed the batch have `message`, `event`, `log` and `since`."""

    name: str
    ip: str = ""
    port: int = 0
    phase: Annotated[PodPhase | str, _NEWER] = PodPhase.PENDING
    pull_in_status: Annotated[PullInStatus | str, _NEWER] = PullInStatus.NONE
    uid: str = ""
    reason: str = ""
    message: str = ""
    event: str = ""
    log: str = ""
    since: datetime | None = None


class Condition(Model):
    """One batch. It is listed from its start on; times that are not known yet are None."""

    batch: int
    batch_size: int
    canary: bool = False
    phase: Annotated[BatchPhase | str, _NEWER]
    failed_replicas: int = 0
    pods: Annotated[list[PodStatus], BeforeValidator(_empty_for_null)] = Field(default_factory=list)
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    pulled_in_at: datetime | None = None
    finished_at: datetime | None = None


class LastCommand(Model):
    """The last request that changed a release: its command, and who sent it, by which way."""

    command: str = ""
    requested_by: str = ""
    requested_by_claimed: bool = False
    requested_via: str = ""


class ImageChange(Model):
    """The image of one container before the release, and the one that it brings; empty: there is no such container."""

    container: str = ""
    from_image: str = ""
    to_image: str = ""


class DeployFlowStatus(Model):
    """The state of a release. `version` rises with every change."""

    replicas: int = 0
    replicas_to_process: int = 0
    available_replicas: int = 0
    updated_replicas: int = 0
    updated_ready_replicas: int = 0
    update_revision: str = ""
    conditions: Annotated[list[Condition], BeforeValidator(_empty_for_null)] = Field(default_factory=list)
    pods: Annotated[list[str], BeforeValidator(_empty_for_null)] = Field(default_factory=list)
    paused: bool = False
    phase: Annotated[FlowPhase | str, _NEWER] = FlowPhase.PENDING
    finished: bool = False
    batches: int = 0
    finished_batches: int = 0
    finished_replicas: int = 0
    failed_replicas: int = 0
    started_at: datetime | None = None
    updated_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str = ""
    message: str = ""
    requested_by: str = ""
    requested_by_claimed: bool = False
    requested_via: str = ""
    last_command: LastCommand | None = None
    requested_strategy: dict[str, Any] | None = None
    images: Annotated[list[ImageChange], BeforeValidator(_empty_for_null)] = Field(default_factory=list)
    freeze_override: str = ""
    reply_to: str = ""
    reply_id: str = ""
    sequence: int = 0
    version: int = 0
    observed_generation: int = 0


@dataclass(frozen=True)
class DeployFlow:
    """A release. `resource` is the whole object as JSON; `etag` identifies this state of it, for `if_match`."""

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
        """Parse the spec; raises pydantic's `ValidationError` for one that was written past the server's checks."""
        return DeployFlowSpec.model_validate(self.resource["spec"])

    @cached_property
    def status(self) -> DeployFlowStatus:
        return DeployFlowStatus.model_validate(self.resource.get("status") or {})
