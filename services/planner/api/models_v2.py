"""The request and response bodies of the second version: the schemas of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    create_model,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema

from services.planner.api.problem import Kind, Problem
from shared.domain import deployflow as df
from shared.domain.deploy_commands import FlowName, Target
from shared.domain.json_types import Json
from shared.kube.ownership import identity_labels
from shared.releases.specs import Wish

M = TypeVar("M", bound=BaseModel)
_KEY = r"([a-z0-9]([-a-z0-9.]{0,60}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,60}[A-Za-z0-9])?"
_VALUE = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,60}[A-Za-z0-9])?"
_ONE = rf"(!?{_KEY}|{_KEY}(=|==|!=){_VALUE}|{_KEY} (in|notin) \({_VALUE}(,{_VALUE})*\))"
Labels = Annotated[
    str,
    StringConstraints(pattern=rf"^{_ONE}(,{_ONE})*$", max_length=1000),
    Field(description="A label selector, as `kubectl -l` takes it.", examples=["app=12122"]),
]


class Request(BaseModel):
    """Base of request bodies: strict, so that a misspelt field, or a number as text, is an error."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        extra="forbid",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _strictly(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Self:
        if info.mode == "json":
            request: Self = handler(value)
            return request
        try:
            # from JSON, where a phase is text
            return cls.model_validate_json(msgspec.json.encode(value), strict=True)
        except ValidationError as error:
            raise Problem(Kind.INVALID, "Invalid", df.problems(error)) from error


Queue = Annotated[
    bool,
    Field(description="Wait for a release that runs; else that is a conflict (409)."),
]
FreezeOverride = Annotated[
    str,
    StringConstraints(max_length=500),
    Field(description="Why it shall begin in a freeze window too."),
]
UpdateFields = Annotated[
    df.UpdateStrategy | None,
    Field(description="Fields of the strategy; the others stay as the last create or update requested them."),
]
OtherFields = Annotated[
    df.NonUpdateStrategy | None,
    Field(description="Fields of the strategy. `mode` is auto by default."),
]


Spec = Annotated[
    df.DeployFlowSpec,
    Field(json_schema_extra={"x-schema": ["SpecWithTemplate", "SpecNamingPods", "PlainSpec"]}),
]
"""`x-schema`: the schemas that the document has in its place (`openapi_document`): no model can express them."""


class NewRelease(Request):
    """A release of any action: a DeployFlow to make."""

    spec: Spec
    name: Annotated[FlowName, Field(description="Of the DeployFlow; else one is made up.")] | None = None
    queue: Queue = False
    freeze_override: FreezeOverride = ""
    keep: Annotated[
        bool,
        Field(description="Do not delete it beyond the history limit of its instance."),
    ] = False


def _extend_by_unset_values(info: FieldInfo, schema: Json) -> None:
    schema.update(df.with_unset_values(info, schema))


def _patch_of(*strategies: type[df.Strategy]) -> Callable[[type[M]], type[M]]:
    """Add the fields of `strategies` to a model, each optional and without its default."""
    fields: Json = {}
    for strategy in strategies:
        for name, info in strategy.model_fields.items():
            rules = tuple(rule for rule in info.metadata if not isinstance(rule, StrEnum | df.UnsetAs))
            kind: Any = Annotated[info.annotation, *rules] if rules else info.annotation
            about = Field(
                None, description=info.description, json_schema_extra=partial(_extend_by_unset_values, info)
            )
            fields[name] = (kind | None, about)

    def decorate(model: type[M]) -> type[M]:
        return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **fields)

    return decorate


@_patch_of(df.UpdateStrategy, df.NonUpdateStrategy)
class StrategyPatch(Request):
    """Fields of the strategy that change; null takes one away. `canary`, `noPullIn` and `stage` are of create, update
    and rollback, `podsToDelete` is of the other actions.
    """

    @model_validator(mode="before")
    @classmethod
    def _null_for_unset(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {field: value if df.is_set(field, value) else None for field, value in fields.items()}


class Update(Request):
    """Another image; all else stays as the last successful release has it, the strategy as it was requested last."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    container: (
        Annotated[str, Field(description="Which container gets it, where there are several.")] | None
    ) = None
    replicas: Annotated[df.NonNegative, Field(description="Else as many as there are.")] | None = None
    strategy: UpdateFields = None
    queue: Queue = False
    freeze_override: FreezeOverride = ""

    @property
    def wish(self) -> Wish:
        strategy = self.strategy.model_dump(mode="json", exclude_unset=True) if self.strategy else {}
        return Wish(self.image, self.container, self.replicas, strategy)


class Rollback(Request):
    """Back to an earlier release; whatever runs is taken over."""

    deploy_name: (
        Annotated[
            FlowName,
            Field(description="The release to go back to; else the last successful one before this."),
        ]
        | None
    ) = None
    strategy: UpdateFields = None


class Plain(Request):
    """A start or a stop of all pods, or a delete."""

    strategy: OtherFields = None
    queue: Queue = False


class Restart(Plain):
    """Fresh pods in the place of all, or of those named, which their old ones leave only once the fresh ones serve."""

    pods: Annotated[list[str], Field(description="Names of the pods; else all.")] | None = None


class Scale(Plain):
    """So many pods. Of fewer, those named go first."""

    replicas: df.NonNegative
    pods: Annotated[list[str], Field(description="Names of pods that go.")] | None = None


class Adoption(Request):
    """The application that an adopted CloneSet belongs to: labels of the CloneSet itself; without them it keeps its own."""

    app_id: Annotated[df.NonNegative | None, Field(alias="appID")] = None
    group_id: Annotated[df.NonNegative | None, Field(alias="groupID")] = None
    app_name: Annotated[str, StringConstraints(pattern=rf"^{_VALUE}$", max_length=63)] | None = None

    @property
    def labels(self) -> dict[str, str]:
        return identity_labels(self.app_id, self.group_id, self.app_name)


class RestartAll(Plain):
    """A restart of every instance with such labels."""

    selector: Labels


class ScaleAll(Plain):
    """So many pods for every instance with such labels."""

    selector: Labels
    replicas: df.NonNegative


class PlanOf(Request):
    """The release to plan."""

    spec: Spec


class NextStep(Request):
    """The place that it is meant for: once the release is past it, nothing happens."""

    batch: df.Positive | None = None
    stage: df.BatchPhase | None = None


class Continue(Request):
    """Let the release continue to a place of its way."""

    target: Annotated[Target, Field(json_schema_extra={"x-schema": ["Place"]})]


# --- answers ---


class Response(BaseModel):
    """Base of response bodies."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class Metadata(Response):
    name: str
    namespace: str
    uid: str
    generation: int
    creation_timestamp: datetime
    deletion_timestamp: datetime | SkipJsonSchema[None] = None
    labels: dict[str, str]
    annotations: dict[str, str]


class DeployFlow(Response):
    """A release, as the cluster has it, with its status as it is now."""

    api_version: Literal["apps.triton.io/v1alpha1"]
    kind: Literal["DeployFlow"]
    metadata: Metadata
    spec: df.DeployFlowSpec
    status: df.DeployFlowStatus


class DeployFlows(Response):
    items: list[DeployFlow]
    go_on: Annotated[
        str | None, Field(alias="continue", description="For the next page; null on the last one.")
    ]


class Container(Response):
    name: str
    image: str


class Instance(Response):
    """An instance as it is now, by its CloneSet. `status`: Ready once all pods are of the newest revision and Ready."""

    name: str
    namespace: str
    app_id: Annotated[int, Field(alias="appID")]
    group_id: Annotated[int, Field(alias="groupID")]
    app_name: str
    labels: dict[str, str]
    status: Literal["Ready", "InProgress", "Stopped"]
    replicas: Annotated[int, Field(description="Wanted.")]
    current_replicas: Annotated[int, Field(description="That exist.")]
    ready_replicas: int
    available_replicas: int
    updated_replicas: int
    updated_ready_replicas: int
    update_revision: str
    containers: list[Container]
    created_at: datetime


class Instances(Response):
    items: list[Instance]


class Pod(Response):
    """A pod. `inTraffic`: its gate is open and it is Ready."""

    name: str
    namespace: str
    uid: str
    instance: str
    phase: df.PodPhase | Literal["Succeeded", "Unknown"]
    in_traffic: bool
    ip: str
    node: str
    revision: str
    restarts: int
    containers: list[Container]
    deleting: bool
    created_at: datetime


class Pods(Response):
    items: list[Pod]


class Event(BaseModel):
    """A document of the release log, with the field names of the Elastic Common Schema."""

    model_config = ConfigDict(extra="allow")

    timestamp: Annotated[datetime, Field(alias="@timestamp")]
    message: str = ""


class History(Response):
    items: list[Event]


class PlannedBatch(Response):
    """`gates`: where it waits for a person. `pods`: of the named ones, those that go with it."""

    number: int
    surge: Annotated[int, Field(description="New pods.")]
    retire: Annotated[int, Field(description="Pods that go.")]
    canary: bool
    gates: list[Literal["Start", "Smoked", "Baking"]]
    pods: list[str]


class Current(Response):
    """`updated`: pods that have the wanted template already; `stopped`: replicas before it was stopped."""

    exists: bool
    replicas: int
    updated: int
    stopped: int


class Plan(Response):
    """The batches that a release would have now."""

    instance: str
    action: df.Action
    replicas: int
    current: Current
    starts_from: Annotated[str, Field(description="The same for people.")]
    to_process: int
    batches: list[PlannedBatch]
    warnings: list[str]


class ProblemDetails(Response):
    """A problem (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: Annotated[str, Field(description="For people.")]
    reason: Annotated[str, Field(description="For programs: one word in CamelCase.")]


class OneOfMany(Response):
    """The result for one instance: a release, or a problem."""

    instance: str
    deploy_flow: Annotated[str | None, Field(description="Its name.")]
    problem: ProblemDetails | None


class Many(Response):
    items: list[OneOfMany]
