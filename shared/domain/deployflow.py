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
from typing import Annotated, Any, Final, NamedTuple, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from shared.domain.json_types import Json
from shared.domain.object_bounds import DEEPEST, TooDeep, is_deeper
from shared.domain.problem_words import either, in_words, says_nothing
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


class UnsetAs(NamedTuple):
    """The values, beside null, that mean that a field of the strategy is not set: the original wrote and read them so."""

    values: tuple[str | int, ...]


FreeForm = TypeVar("FreeForm", dict[str, Any] | None, list[dict[str, Any]] | None)
AROUND_FREE_FORM: Final = 3
"""The objects of a DeployFlow that a template is inside of: itself, its spec and its application."""


class LabelSelectorRequirement(Wire):
    key: Annotated[str, Field(description="the label")]
    operator: Annotated[str, Field(description="In, NotIn, Exists or DoesNotExist")]
    values: Annotated[list[str] | None, Field(description="the values of the label, for In and NotIn")] = None


class LabelSelector(Wire):
    match_labels: Annotated[
        dict[str, str] | None, Field(description="the labels that an object has, with their values")
    ] = None
    match_expressions: Annotated[
        list[LabelSelectorRequirement] | None,
        Field(description="conditions on labels that an object meets, all of them"),
    ] = None


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

    app_id: Annotated[
        int,
        Field(alias="appID", ge=0, le=2**31 - 1),
        Field(description="the id of the application, label `app`"),
    ]
    group_id: Annotated[
        int, Field(alias="groupID", ge=0, le=2**31 - 1), Field(description="the group, label `group`")
    ]
    # the API of Triton 0.1.x left it empty in restarts and scales
    app_name: Annotated[
        AppName, Field(description="the name of the application, label `app.kubernetes.io/name`")
    ]
    instance_name: Annotated[
        InstanceName,
        Field(
            description="the CloneSet's name, label `app.kubernetes.io/instance`. OpenKruise labels pods with this name and up to 11 more characters, and a label has at most 63"
        ),
    ]
    selector: Annotated[
        LabelSelector | None,
        Field(
            description="the selector of the CloneSet, if this release creates it; not set: the labels of the application"
        ),
    ] = None
    template: Annotated[
        dict[str, Any] | None,
        AfterValidator(_not_too_deep),
        Field(
            description="a pod template of Kubernetes, needed by create, update and rollback; Triton adds its labels and readiness gate, and hooks if requested"
        ),
    ] = None
    replicas: Annotated[NonNegative, Field(description="number of pods at the end of the release")] = 1
    application_type: Annotated[
        str | None, Field(description="free text, an annotation of the CloneSet; not set: unchanged")
    ] = None
    volume_claim_templates: Annotated[
        list[dict[str, Any]] | None,
        AfterValidator(_not_too_deep),
        Field(
            description="the claims of the CloneSet, written together with the template: new pods get them. Not set: unchanged. A release that changes them and not the template is refused"
        ),
    ] = None
    application_label: Annotated[
        dict[str, str] | None, Field(description="more labels for CloneSet and pods")
    ] = None

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
    """The fields that both strategies have. Seconds are whole seconds. A field that is null, or has a value of its
    `UnsetAs`, is not set.

    A field is declared here and nowhere else: its description goes to the CRD, the OpenAPI document and the table of
    docs/deployflow.md. `tests/unit/shared/domain/test_strategy_fields.py` names each place that a new one has to go to.
    """

    batch_size: Annotated[
        BatchSize | None,
        UnsetAs(("", 0)),
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
        UnsetAs(("",)),
        Field(
            description=(
                "auto continues without approval, manual waits for `next` before each batch except the first"
            ),
        ),
        InheritedBy.UPDATES,
    ] = Mode.MANUAL
    batches: Annotated[
        Positive,
        UnsetAs((0,)),
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

    @model_validator(mode="before")
    @classmethod
    def _without_unset(cls, fields: Any) -> Any:
        return set_fields(fields) if isinstance(fields, dict) else fields

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core))
        for info in cls.model_fields.values():
            schema["properties"][info.alias] = with_unset_values(info, schema["properties"][info.alias])
        return schema


def with_unset_values(info: FieldInfo, schema: JsonSchemaValue) -> JsonSchemaValue:
    """Return the schema of a field of the strategy that also takes the values for not set."""
    about = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    value = {key: item for key, item in schema.items() if key not in about}
    members = value.get("anyOf") or [value]
    members += [{"const": unset} for unset in unset_values(info)]
    return about | {"anyOf": [member for member in members if member != _NULL] + [_NULL]}


_NULL: Final[Json] = {"type": "null"}


class UpdateStrategy(Strategy):
    """The strategy of create, update and rollback."""

    canary: Annotated[
        NonNegative,
        Field(
            description=(
                "size of the first batch, which waits for `next` at Smoked and at Baking. Where it covers "
                "all pods to be made, the first batch has the size `batchSize`, and waits all the same"
            )
        ),
        InheritedBy.UPDATES,
    ] = 0
    no_pull_in: Annotated[
        bool, Field(description="Triton does not open gates: somebody else does"), InheritedBy.ALL
    ] = False
    stage: Annotated[
        BatchPhase | None,
        UnsetAs(("",)),
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


def unset_values(info: FieldInfo) -> tuple[str | int, ...]:
    """Return the values, beside null, that mean that this field of the strategy is not set."""
    return next((rule.values for rule in info.metadata if isinstance(rule, UnsetAs)), ())


_UNSET_VALUES: Final = {
    name: values
    for python_name, info in STRATEGY_FIELDS.items()
    if (values := unset_values(info))
    for name in (python_name, str(info.alias))
}


def is_set(field: str, value: object) -> bool:
    """Return whether `value` sets a field of the strategy; 0.0 is 0, as for Kubernetes, and False is no number."""
    return value is not None and (isinstance(value, bool) or value not in _UNSET_VALUES.get(field, ()))


def set_fields(strategy: Json) -> Json:
    """Return the fields of a strategy that are set: all but those that are null, empty or 0 where that means not set."""
    return {field: value for field, value in strategy.items() if is_set(field, value)}


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

    action: Annotated[Action, Field(description="the kind of release. Immutable")]
    application: Annotated[
        Application, Field(description="what runs. Immutable, but for what an update inherits")
    ]
    update_strategy: Annotated[
        UpdateStrategy | None, Field(description="how the batches proceed, for create, update and rollback")
    ] = None
    non_update_strategy: Annotated[
        NonUpdateStrategy | None, Field(description="how the batches proceed, for all other actions")
    ] = None
    inherits: Annotated[
        Inheritance | None,
        Field(
            description="written by Triton, until an update that waits begins: `images` has its new images by container"
        ),
    ] = None

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

    name: Annotated[str, Field(description="the pod's name")]
    ip: Annotated[str, Field(description="where it can be smoke-tested")] = ""
    port: Annotated[int, Field(description="its first container port")] = 0
    phase: Annotated[
        PodPhase,
        BeforeValidator(_pod_phase),
        Field(description="Pending, Running, ContainersReady, Ready or Failed"),
    ] = PodPhase.PENDING
    pull_in_status: Annotated[
        PullInStatus,
        Field(description="whether it takes traffic; PullInFailed: its gate was opened and it is not Ready"),
    ] = PullInStatus.NONE
    uid: Annotated[str, Field(description="the pod's uid")] = ""
    reason: Annotated[str, Field(description="why it failed, in one word")] = ""
    message: Annotated[
        str,
        Field(
            description="the same in a sentence, with the container, its exit code and its termination message"
        ),
    ] = ""
    event: Annotated[str, Field(description="its last warning event")] = ""
    log: Annotated[
        str, Field(description="the end of its container's log, at most 5 lines and 500 bytes")
    ] = ""
    since: Annotated[
        datetime | None,
        Field(description="since when its containers are not ready or, with an open gate, it is not Ready"),
    ] = None


class Condition(Wire):
    """One batch; it appears when the batch starts. Times that are not known yet are null."""

    batch: Annotated[int, Field(description="its number, from 1")]
    batch_size: Annotated[int, Field(description="its pods")]
    canary: Annotated[bool, Field(description="whether it is the canary")] = False
    phase: Annotated[BatchPhase, Field(description="how far it is")]
    failed_replicas: Annotated[int, Field(description="its pods that failed")] = 0
    pods: Annotated[list[PodStatus], BeforeValidator(_listed), Field(description="its pods")] = Field(
        default_factory=list
    )
    reason: Annotated[
        str, Field(description="why it failed: that of its first failed pod, else one of Triton itself")
    ] = ""
    message: Annotated[
        str, Field(description="the pods that failed, each with its reason and since when")
    ] = ""
    started_at: Annotated[datetime | None, Field(description="when its surge was sent")] = None
    pulled_in_at: Annotated[
        datetime | None, Field(description="when its pods were all Ready for the first time")
    ] = None
    finished_at: Annotated[datetime | None, Field(description="when its old pods were gone")] = None


class LastCommand(Wire):
    """The last request that changed a release: next, continue, promote, pause, resume, cancel, retry or another change.

    `requested_by_claimed`: whoever sent it wrote the name `requested_by`, and nobody checked it.
    """

    command: Annotated[
        str,
        Field(description="next, continue, promote, pause, resume, cancel, retry, or change for another one"),
    ] = ""
    requested_by: Annotated[str, Field(description="who sent it")] = ""
    requested_by_claimed: Annotated[bool, Field(description="nobody checked that name")] = False
    requested_via: Annotated[str, Field(description="how it came: kubectl, cli, rest, grpc or kafka")] = ""


class ImageChange(Wire):
    """The image of one container before the release, and the one that it brings; empty: there is no such container."""

    container: Annotated[str, Field(description="the container")]
    from_image: Annotated[
        str, Field(description="its image before the release; empty: there was no such container")
    ] = ""
    to_image: Annotated[
        str, Field(description="the image that the release brings; empty: it removes the container")
    ] = ""


class DeployFlowStatus(Wire):
    """The state of the release, written by the planner; Redis is rebuilt from it.

    Of `reply_to` and `reply_id` only these are believed: everybody who may create a DeployFlow may write its annotations.
    """

    replicas: Annotated[int, Field(description="pods that exist")] = 0
    replicas_to_process: Annotated[
        int, Field(description="pods that the release changes, counted when it started")
    ] = 0
    available_replicas: Annotated[int, Field(description="pods that are Ready")] = 0
    updated_replicas: Annotated[int, Field(description="pods of the target revision")] = 0
    updated_ready_replicas: Annotated[
        int, Field(description="pods of the target revision that are Ready")
    ] = 0
    update_revision: Annotated[str, Field(description="the target revision, `<instance>-<hash>`")] = ""
    conditions: Annotated[
        list[Condition],
        BeforeValidator(_listed),
        Field(description="one entry for each batch that has started, within limits of size"),
    ] = Field(default_factory=list)
    pods: Annotated[
        list[str],
        BeforeValidator(_listed),
        Field(description="names of the pods that exist, within limits of size"),
    ] = Field(default_factory=list)
    paused: Annotated[bool, Field(description="paused by a person, or stopped by a failed batch")] = False
    phase: Annotated[FlowPhase, Field(description="how far the release is")] = FlowPhase.PENDING
    finished: Annotated[bool, Field(description="the release has finished")] = False
    batches: Annotated[int, Field(description="how many batches there are")] = 0
    finished_batches: Annotated[int, Field(description="how many of them are finished")] = 0
    finished_replicas: Annotated[int, Field(description="pods of the finished batches")] = 0
    failed_replicas: Annotated[int, Field(description="pods that failed")] = 0
    started_at: Annotated[
        datetime | None, Field(description="when it started; it may have waited for other releases before")
    ] = None
    updated_at: Annotated[datetime | None, Field(description="when something last changed")] = None
    finished_at: Annotated[datetime | None, Field(description="when it ended")] = None
    reason: Annotated[str, Field(description="why the release does not move, in one word")] = ""
    message: Annotated[str, Field(description="the same in a sentence, with what to do")] = ""
    requested_by: Annotated[str, Field(description="who requested the release")] = ""
    requested_by_claimed: Annotated[
        bool, Field(description="nobody checked that name: it came with a Kafka command, or without a login")
    ] = False
    requested_via: Annotated[
        str,
        Field(
            description="how the request of the release came: kubectl, cli, rest, grpc or kafka; empty where an older version received it"
        ),
    ] = ""
    last_command: Annotated[
        LastCommand | None,
        Field(
            description="the last request that changed the release, with its own requester; none before the first"
        ),
    ] = None
    requested_strategy: Annotated[
        dict[str, Any] | None,
        Field(
            description="of a create or update: the fields of `updateStrategy` as they were requested, whatever was changed "
            "since; the next update inherits them. None of other actions, and where an older version received it"
        ),
    ] = None
    images: Annotated[
        list[ImageChange],
        BeforeValidator(_listed),
        Field(
            description="the containers whose image the release changes, the first 10; known once it is planned"
        ),
    ] = Field(default_factory=list)
    freeze_override: Annotated[
        str, Field(description="the freeze window that it started in, who allowed it and why")
    ] = ""
    reply_to: Annotated[
        str, Field(description="to which topic its end is reported, if a deploy command wanted that")
    ] = ""
    reply_id: Annotated[str, Field(description="the id of that command")] = ""
    sequence: Annotated[int, Field(description="the last command sent for the instance")] = 0
    version: Annotated[int, Field(description="increases with every change of the state")] = 0
    observed_generation: Annotated[
        int, Field(description="the generation of the spec that was read last")
    ] = 0


def problems(error: Exception, where: str = "") -> str:
    """Return a validation error in one line: each field by its path in the resource, and what is wrong with it."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    lines: dict[str, str] = {}
    values: dict[str, str] = {}
    for item in error.errors(include_url=False):
        # a union's member names ("int", "constrained-str") are no part of the path
        parts = [str(p) for p in item["loc"] if not str(p).startswith(("int", "constrained", "function"))]
        path = ".".join(shortened(part, 100) for part in [where, *parts] if part)
        if says_nothing(item):
            continue
        text = in_words(item)
        if item["type"] == "value_error" and ": " in text:
            # a rule of a whole model names its field itself
            field, text = text.split(": ", 1)
            path = f"{path}.{field}" if path else field
        received = item.get("input")
        if isinstance(received, (str, int, float, bool)) and item["type"] != "missing":
            values[path] = f" (received: {shortened(repr(received), 200)})"
        lines[path] = either(lines[path], text) if path in lines else text
    text = "; ".join(
        (f"{path}: {text}" if path else text) + values.get(path, "") for path, text in lines.items()
    )
    return shortened(text, 4000)
