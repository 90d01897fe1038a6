"""The DeployFlow custom resource, `apps.triton.io/v1alpha1`: one release action on one application instance.

The models are the single source of the CRD (`shared.kube.crd`), of what deploy commands may carry and of what
the planner accepts. Field names are the resource's own (camelCase), reached from Python in snake_case.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import SimpleNamespace
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from shared.domain.json_types import Json
from shared.domain.object_bounds import DEEPEST, TooDeep, is_deeper
from shared.domain.safe_text import shortened

GROUP = "apps.triton.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DeployFlow"
PLURAL = "deployflows"

READINESS_GATE = "apps.triton.io/ready"
MANAGED_BY = {"managed-by": "triton-io"}
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
FINALIZER = "apps.triton.io/deployflow"
LAST_REQUEST = "apps.triton.io/last-request"
REQUESTS = "apps.triton.io/requests"
RETRIES = "apps.triton.io/retries"
"""The most retries that a command has requested of a DeployFlow, also after somebody lowered `retries` in its spec."""
REQUESTED_BY = "apps.triton.io/requested-by"
REQUESTED_BY_CLAIMED = "apps.triton.io/requested-by-claimed"
"""`true`: whoever sent the request wrote that name, and nobody checked it; the planner writes this."""
REQUESTED_VIA = "apps.triton.io/requested-via"
"""How the request of the release came: cli, rest, grpc or kafka; kubectl writes none."""
LAST_STEP = "apps.triton.io/last-step"
"""JSON: the last request that changed the release, its `command`, `request`, `via` and `claimed`; who sent it is `LAST_STEP_BY`."""
LAST_STEP_BY = "apps.triton.io/last-step-by"
REQUESTED_STRATEGY = "apps.triton.io/requested-strategy"
"""JSON: the strategy as it was before a request changed it which the planner had not seen yet; see `requestedStrategy`."""
REPLY_TO = "apps.triton.io/reply-to"
REPLY_ID = "apps.triton.io/reply-id"
"""Who requested the release over Kafka, for people. The planner answers to what `.status` says: it alone writes there."""
KEEPS_REPLICAS = "apps.triton.io/keeps-replicas"
"""`true`: nobody said how many replicas; the release takes the count that the instance has when it begins."""
EITHER_DIRECTION = "apps.triton.io/either-direction"
"""`true`: nobody said whether the scale goes in or out; the count that there is when it begins decides."""
PRUNE = "apps.triton.io/prune"
"""`true`: Triton may delete it, once it has finished, beyond the history limit; anything else: it stays."""
REVISION_HISTORY_LIMIT = "apps.triton.io/revision-history-limit"
"""How many finished releases of its instance are kept; the newest release that says it decides."""
FREEZE_WINDOWS = "apps.triton.io/freeze-windows"
FREEZE_OVERRIDE = "apps.triton.io/freeze-override"


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


UPDATING = (Action.CREATE, Action.UPDATE, Action.ROLLBACK)
"""The actions that write a template; they carry `updateStrategy`, all others `nonUpdateStrategy`."""
PASSING_ON = (Action.CREATE, Action.UPDATE)
"""The actions whose requested strategy the next update inherits: that of a rollback is its own."""
SHRINKING = (Action.SCALE_IN, Action.STOP, Action.DELETE)
"""The actions that make no pod."""
KEEPING = (Action.RESTART, Action.SCALE_OUT, Action.START)
"""The actions that make pods of the template that the CloneSet has."""
SCALING = (Action.SCALE_IN, Action.SCALE_OUT)
"""The actions that change the count alone."""
NAMING = (Action.RESTART, Action.SCALE_IN)
"""The actions for which pods may be named."""


class Unsaid(StrEnum):
    """What a requester left open: it is read when the release begins. The values are the annotations that say so."""

    NOTHING = ""
    REPLICAS = KEEPS_REPLICAS
    DIRECTION = EITHER_DIRECTION


class Mode(StrEnum):
    AUTO = "auto"
    MANUAL = "manual"


class FlowPhase(StrEnum):
    PENDING = "Pending"
    INITIALIZING = "Initializing"
    BATCH_STARTED = "BatchStarted"
    BATCH_FINISHED = "BatchFinished"
    SUCCESS = "Success"
    FAILED = "Failed"
    ABORTED = "Aborted"
    CANCELED = "Canceled"

    @property
    def finished(self) -> bool:
        return self in {FlowPhase.SUCCESS, FlowPhase.FAILED, FlowPhase.ABORTED, FlowPhase.CANCELED}


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


class OnFailure(StrEnum):
    PAUSE = "pause"
    ROLLBACK = "rollback"
    CANCEL = "cancel"


class PullInStatus(StrEnum):
    NONE = ""
    SUCCEEDED = "PullInSucceeded"
    FAILED = "PullInFailed"


class FailureReason(StrEnum):
    """Why a batch failed. A kubelet or a webhook may have a reason of its own: metrics count that as `OTHER`.

    The planner's rules, the metrics, the table of docs/deployflow.md and the alerts have their reasons from here.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    STARTUP_TIMEOUT = (
        "StartupTimeout",
        "containers of a new pod were not ready within `startupTimeoutSeconds`, or it was never made",
    )
    PULL_IN_FAILED = (
        "PullInFailed",
        "the gate of a new pod was open and it was not Ready for `pullInTimeoutSeconds`",
    )
    FLAPPING = (
        "Flapping",
        "new pods kept losing Ready: the batch was not baked within 2 × `bakeSeconds` + `pullInTimeoutSeconds`",
    )
    PODS_MISSING = "PodsMissing", "new pods that had traffic are gone, and no others came in their place"
    PODS_FAILED = "PodsFailed", "new pods failed, and the cluster says no reason"
    PROGRESS_DEADLINE_EXCEEDED = (
        "ProgressDeadlineExceeded",
        "a step of the batch took longer than `progressDeadlineSeconds`",
    )
    INVALID_TEMPLATE = (
        "InvalidTemplate",
        "Triton cannot use the pod template; `message` names the field",
    )
    CRASH_LOOP_BACK_OFF = "CrashLoopBackOff", "a container of a new pod keeps exiting"
    IMAGE_PULL_BACK_OFF = "ImagePullBackOff", "the image of a new pod cannot be pulled"
    INVALID_IMAGE_NAME = "InvalidImageName", "the name of the image is not valid"
    ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull", "the image is not on the node, and must not be pulled"
    CREATE_CONTAINER_CONFIG_ERROR = (
        "CreateContainerConfigError",
        "what the container needs is missing, a ConfigMap or a Secret",
    )
    CREATE_CONTAINER_ERROR = "CreateContainerError", "the node cannot make the container"
    RUN_CONTAINER_ERROR = "RunContainerError", "the node cannot start the container"
    OTHER = "Other", "in metrics and alerts: any other reason, which `message` and `.status` have as it is"


Percent = Annotated[str, StringConstraints(pattern=r"^(100|[1-9][0-9]?)%$")]
ThresholdPercent = Annotated[str, StringConstraints(pattern=r"^(100|[1-9]?[0-9])%$")]
BatchSize = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)] | Percent
"""How many pods a batch has: a count from 1, or a share of the wanted replicas from "1%" to "100%"."""
# the API of Triton 0.1.x wrote "" where nobody gave a size
OptionalBatchSize = Annotated[BatchSize | None, BeforeValidator(lambda size: None if size == "" else size)]
Threshold = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)] | ThresholdPercent
NonNegative = Annotated[int, Field(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
LONGEST_NAME: Final = 52
"""OpenKruise labels pods with the name of their revision: the instance's, a dash and up to ten digits, of which a label
holds 63 characters in all."""
LONGEST_STORED_NAME: Final = 57
"""What Triton accepted before."""
STORED: Final[Json] = {"stored": True}
"""The validation context for what the cluster has accepted: it may have a name that is refused today."""


def _fits_label(name: str, info: ValidationInfo) -> str:
    longest = LONGEST_STORED_NAME if (info.context or {}).get("stored") else LONGEST_NAME
    if len(name) > longest:
        msg = (
            f"{len(name)} characters are too long, {longest} are possible, since OpenKruise labels the pods with this "
            "name and up to 11 more characters. Choose a shorter name"
        )
        raise ValueError(msg)
    return name


InstanceName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1),
    AfterValidator(_fits_label),
    Field(json_schema_extra={"maxLength": LONGEST_NAME}),
]


def count_of(size: int | str | None, replicas: int) -> int:
    """Return `size` as a count of pods out of `replicas`: percentages round up, unset is all of them, never below 1."""
    if size is None:
        return max(replicas, 1)
    if isinstance(size, int):
        return size
    return max(math.ceil(replicas * int(size.removesuffix("%")) / 100), 1)


class Wire(BaseModel):
    """Base of everything that is part of the resource: camelCase outside, unknown fields refused by name."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        extra="forbid",
    )


def keys_of(model: type[Wire]) -> SimpleNamespace:
    """Return the resource's names of the fields of `model`, as attributes with their Python names."""
    return SimpleNamespace(**{name: info.alias for name, info in model.model_fields.items()})


FreeForm = TypeVar("FreeForm", dict[str, Any] | None, list[dict[str, Any]] | None)
AROUND_FREE_FORM: Final = 3
"""The objects of a DeployFlow that a template is inside of: itself, its spec and its application."""


class LabelSelectorRequirement(Wire):
    key: str
    operator: str
    values: list[str] | None = None


class LabelSelector(Wire):
    match_labels: dict[str, str] | None = None
    match_expressions: list[LabelSelectorRequirement] | None = None


AppName = Annotated[
    str, StringConstraints(pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$", max_length=63)
]
"""A value of the label `app.kubernetes.io/name`."""


def _not_too_deep(value: FreeForm) -> FreeForm:
    if is_deeper(value, DEEPEST - AROUND_FREE_FORM):
        raise TooDeep
    return value


class Application(Wire):
    """The application: the identity of the instance and, for a create, update or rollback, its pod template."""

    app_id: Annotated[int, Field(alias="appID", ge=0, le=2**31 - 1)]
    group_id: Annotated[int, Field(alias="groupID", ge=0, le=2**31 - 1)]
    # the API of Triton 0.1.x left it empty in restarts and scales
    app_name: AppName
    instance_name: InstanceName
    selector: LabelSelector | None = None
    template: Annotated[dict[str, Any] | None, AfterValidator(_not_too_deep)] = None
    replicas: NonNegative = 1
    application_type: str | None = None
    volume_claim_templates: Annotated[list[dict[str, Any]] | None, AfterValidator(_not_too_deep)] = None
    application_label: dict[str, str] | None = None

    def labels(self) -> dict[str, str]:
        """Return the labels that the CloneSet, its pods and the DeployFlow carry, whoever made the DeployFlow."""
        return {
            "app": str(self.app_id),
            "group": str(self.group_id),
            NAME_LABEL: self.app_name,
            INSTANCE_LABEL: self.instance_name,
            **MANAGED_BY,
        }


class InheritedBy(StrEnum):
    """The later releases of an instance that take a strategy field over as the last create or update requested it."""

    NONE = "none"
    """It says where this release stands: a new one starts from its default."""
    UPDATES = "updates"
    """It says how carefully updates go: a rollback and the other actions start from its default."""
    ALL = "all"
    """It describes the application, whatever the action."""


class Strategy(Wire):
    """The fields that both strategies have. Seconds are whole seconds.

    A field is declared here and nowhere else: its description goes to the CRD, the OpenAPI document and the table of
    docs/deployflow.md. `tests/unit/shared/domain/test_strategy_fields.py` names each place that a new one has to go to.
    """

    batch_size: Annotated[
        OptionalBatchSize,
        Field(description="pods in each batch; percentages of `replicas`, rounded up"),
        InheritedBy.UPDATES,
    ] = None
    batch_interval_seconds: Annotated[
        NonNegative,
        Field(description="from the end of a batch to the start of the next; none after the canary"),
        InheritedBy.UPDATES,
    ] = 0
    mode: Annotated[
        Mode,
        Field(
            description=(
                "auto continues without approval, manual waits for `next` before each batch except the first"
            ),
        ),
        InheritedBy.UPDATES,
    ] = Mode.MANUAL
    batches: Annotated[
        Positive,
        Field(description="the approval: how many batches may run; `next` and `continue` raise it"),
        InheritedBy.NONE,
    ] = 1
    paused: Annotated[
        bool, Field(description="nothing new starts, no pod is created or deleted"), InheritedBy.NONE
    ] = False
    canceled: Annotated[bool, Field(description="ends the release for good"), InheritedBy.NONE] = False
    startup_timeout_seconds: Annotated[
        Positive, Field(description="maximum time from a pod's creation to ready containers"), InheritedBy.ALL
    ] = 600
    pull_in_timeout_seconds: Annotated[
        Positive,
        Field(
            description=(
                "maximum time from the opened gate to Ready; also how long a pod may later be not Ready"
            )
        ),
        InheritedBy.ALL,
    ] = 60
    bake_seconds: Annotated[
        NonNegative,
        Field(description="how long all pods of a batch must stay Ready before it is Baked"),
        InheritedBy.UPDATES,
    ] = 0
    pull_out_seconds: Annotated[
        NonNegative,
        Field(
            description="how long old pods wait with a closed gate before they are deleted; 0: no such step, "
            "unless they report their connections"
        ),
        InheritedBy.UPDATES,
    ] = 0
    failure_threshold: Annotated[
        Threshold,
        Field(
            description=(
                "how many pods of a batch may fail, as a count or a share of the batch (rounded "
                "down): the batch continues without them, and a later batch, which tolerates no "
                "failure, creates them again. A batch of which every pod fails has failed"
            )
        ),
        InheritedBy.UPDATES,
    ] = 0
    on_failure: Annotated[
        OnFailure,
        Field(
            description=(
                "what happens after a failed batch: the release waits for a person; it is "
                "canceled (baked pods keep serving); or it is canceled and then rolled back to "
                "the last successful release"
            )
        ),
        InheritedBy.UPDATES,
    ] = OnFailure.PAUSE
    progress_deadline_seconds: Annotated[
        Positive | None,
        Field(
            description=(
                "maximum seconds for one step of a batch (pods start, become Ready, old pods are "
                "deleted); waiting for a person, an interval or a bake does not count"
            )
        ),
        InheritedBy.UPDATES,
    ] = None
    retries: Annotated[
        NonNegative,
        Field(description="each increase runs the failed batch again: `triton retry`"),
        InheritedBy.NONE,
    ] = 0


class UpdateStrategy(Strategy):
    """The strategy of create, update and rollback."""

    canary: Annotated[
        NonNegative,
        Field(
            description=(
                "size of the first batch, which waits for `next` at Smoked and at Baking. A size "
                "that covers the whole release is ignored, with a warning"
            )
        ),
        InheritedBy.UPDATES,
    ] = 0
    no_pull_in: Annotated[
        bool, Field(description="Triton does not open gates: somebody else does"), InheritedBy.ALL
    ] = False
    stage: Annotated[
        BatchPhase | None,
        Field(description="the approval: how far batch number `batches` may go; not set: to its end"),
        InheritedBy.NONE,
    ] = None


class NonUpdateStrategy(Strategy):
    """The strategy of restart, scale_in, scale_out, stop, start and delete."""

    pods_to_delete: Annotated[
        list[str] | None,
        Field(description="the pods that a restart replaces or a scale-in deletes"),
        InheritedBy.NONE,
    ] = None


STRATEGY_FIELDS: Final[Mapping[str, FieldInfo]] = {
    **UpdateStrategy.model_fields,
    **NonUpdateStrategy.model_fields,
}
"""The fields of both strategies by their Python names: those that they share, then those of one of them."""


def inherited_by(*which: InheritedBy) -> frozenset[str]:
    """Return the strategy fields, as the resource names them, that declare one of `which`."""
    return frozenset(
        str(info.alias) for info in STRATEGY_FIELDS.values() if any(rule in which for rule in info.metadata)
    )


class Inheritance(Wire):
    """What an update that waits takes over from the last successful release when it begins: the application, but for its
    images. The write that removes it sets them, once.
    """

    images: Annotated[dict[str, str], Field(description="the new images, by container")] = Field(
        default_factory=dict
    )


class DeployFlowSpec(Wire):
    """The wanted release. `action` and `application` never change; the strategy may, at any time."""

    action: Action
    application: Application
    update_strategy: UpdateStrategy | None = None
    non_update_strategy: NonUpdateStrategy | None = None
    inherits: Inheritance | None = None

    @property
    def updating(self) -> bool:
        return self.action in UPDATING

    @property
    def strategy_field(self) -> str:
        """Return the name of the strategy that this action has, as it is written in the resource."""
        return "updateStrategy" if self.updating else "nonUpdateStrategy"

    @property
    def strategy(self) -> UpdateStrategy | NonUpdateStrategy:
        if self.updating:
            return self.update_strategy or UpdateStrategy()
        return self.non_update_strategy or NonUpdateStrategy()

    @model_validator(mode="after")
    def _fits_action(self) -> Self:
        if self.updating and self.non_update_strategy is not None:
            msg = f"nonUpdateStrategy: action {self.action} takes updateStrategy, remove nonUpdateStrategy"
            raise ValueError(msg)
        if not self.updating and self.update_strategy is not None:
            msg = f"updateStrategy: action {self.action} takes nonUpdateStrategy, remove updateStrategy"
            raise ValueError(msg)
        if self.inherits is not None and self.action != Action.UPDATE:
            msg = f"inherits: action {self.action} takes over nothing when it begins, remove inherits"
            raise ValueError(msg)
        if self.updating and not containers_of(self.application.template):
            msg = (
                f"application.template: action {self.action} needs a pod template with at least one container"
            )
            raise ValueError(msg)
        named = self.non_update_strategy.pods_to_delete if self.non_update_strategy else None
        if named and self.action not in NAMING:
            msg = f"nonUpdateStrategy.podsToDelete: action {self.action} names no pods, remove it"
            raise ValueError(msg)
        if named and len(set(named)) < len(named):
            msg = "nonUpdateStrategy.podsToDelete: names a pod twice"
            raise ValueError(msg)
        return self


def containers_of(template: dict[str, Any] | None) -> list[dict[str, Any]]:
    spec = (template or {}).get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    if isinstance(containers, list) and all(isinstance(container, dict) for container in containers):
        return containers
    return []


def _pod_phase(phase: Any) -> Any:
    """Replace Kubernetes' own phases by Pending: Triton 0.1.x also wrote Unknown and Succeeded."""
    return phase if phase in list(PodPhase) else PodPhase.PENDING


def _listed(items: Any) -> Any:
    """Replace null by an empty list: Triton 0.1.x wrote it so."""
    return [] if items is None else items


class PodStatus(Wire):
    """One pod of a batch. From `uid` on ours, beside what the original had; from `message` on of the first pods that
    failed the batch only.
    """

    name: str
    ip: str = ""
    port: int = 0
    phase: Annotated[PodPhase, BeforeValidator(_pod_phase)] = PodPhase.PENDING
    pull_in_status: PullInStatus = PullInStatus.NONE
    uid: str = ""
    reason: str = ""
    message: str = ""
    event: str = ""
    log: str = ""
    since: datetime | None = None


class Condition(Wire):
    """One batch; it appears when the batch starts. Times that are not known yet are null."""

    batch: int
    batch_size: int
    canary: bool = False
    phase: BatchPhase
    failed_replicas: int = 0
    pods: Annotated[list[PodStatus], BeforeValidator(_listed)] = Field(default_factory=list)
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    pulled_in_at: datetime | None = None
    finished_at: datetime | None = None


class LastCommand(Wire):
    """The last request that changed a release: next, continue, promote, pause, resume, cancel, retry or another change.

    `requested_by_claimed`: whoever sent it wrote the name `requested_by`, and nobody checked it.
    """

    command: str = ""
    requested_by: str = ""
    requested_by_claimed: bool = False
    requested_via: str = ""


class DeployFlowStatus(Wire):
    """The state of the release, written by the planner; Redis is rebuilt from it.

    `version` rises with every change; `sequence` is the last command issued for the instance. `reply_to` and `reply_id`
    are the topic and the id of the command that is answered when the release ends: only these are believed, since
    everybody who may create a DeployFlow may write its annotations. `requested_by`: who requested the release; whoever
    sent the request wrote that name, and nobody checked it, where it is `requested_by_claimed`. `last_command`: the last
    request that changed the release, with its own requester; none before the first. `requested_via`: how the request
    came: kubectl, cli, rest, grpc or kafka; empty where an older version received it. `requested_strategy`: none of other
    actions, and where an older version received it.
    """

    replicas: int = 0
    replicas_to_process: int = 0
    available_replicas: int = 0
    updated_replicas: int = 0
    updated_ready_replicas: int = 0
    update_revision: str = ""
    conditions: Annotated[list[Condition], BeforeValidator(_listed)] = Field(default_factory=list)
    pods: Annotated[list[str], BeforeValidator(_listed)] = Field(default_factory=list)
    paused: bool = False
    phase: FlowPhase = FlowPhase.PENDING
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
    requested_strategy: Annotated[
        dict[str, Any] | None,
        Field(
            description="of a create or update: the fields of `updateStrategy` as they were requested, whatever was changed "
            "since; the next update inherits them"
        ),
    ] = None
    freeze_override: str = ""
    reply_to: str = ""
    reply_id: str = ""
    sequence: int = 0
    version: int = 0
    observed_generation: int = 0


def problems(error: Exception, where: str = "") -> str:
    """Return a validation error in one line: each field by its path in the resource, and what is wrong with it."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    lines: dict[str, str] = {}
    for item in error.errors(include_url=False):
        # a union's member names ("int", "constrained-str") are no part of the path
        parts = [str(p) for p in item["loc"] if not str(p).startswith(("int", "constrained", "function"))]
        path = ".".join(shortened(part, 100) for part in [where, *parts] if part)
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "value_error" and ": " in text:
            # a rule of a whole model names its field itself
            field, text = text.split(": ", 1)
            path = f"{path}.{field}" if path else field
        received = item.get("input")
        if isinstance(received, (str, int, float, bool)) and item["type"] != "missing":
            text += f" (received: {shortened(repr(received), 200)})"
        lines[path] = f"{lines[path]}; or {text}" if path in lines else text
    text = "; ".join(f"{path}: {text}" if path else text for path, text in lines.items())
    return shortened(text, 4000)
