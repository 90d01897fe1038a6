"""The messages between the services: one discriminated union a topic, versioned, made for Kafka.

Commands are what a service shall do (`triton.batch-commands`), facts and events what has happened. Readers
ignore fields that they do not know, so that services of two versions can run side by side. Times are
milliseconds since 1970 (UTC); counts are pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from shared.domain.deployflow import NAME_LABEL, BatchPhase, FlowPhase, PodPhase
from shared.domain.object_bounds import count_in
from shared.domain.topics import (
    BATCH_COMMANDS,
    BATCH_RESULTS,
    CLONESET_EVENTS,
    CLUSTER_EVENTS,
    DEPLOYFLOW_EVENTS,
    PHASE_EVENTS,
    PLANNER_FACTS,
    Key,
)


class Value(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
    )


class Message(Value):
    """Base of every message: its version and the instance that it is about."""

    version: Literal[1] = 1
    namespace: str
    instance: str

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.instance)


Claimed = Annotated[bool, Field(exclude_if=lambda claimed: not claimed)]
"""Of a name that nobody has checked; left out of messages about all others, which are most."""


Unsaid = Annotated[str, Field(exclude_if=lambda text: not text)]


class ReleaseRequester(Value):
    """Who requested a release, in messages that are about somebody else's request to it."""

    name: str = ""
    claimed: Claimed = False
    via: Unsaid = ""


class LastCommand(Value):
    """The last request that changed a release, with the name of its command."""

    command: str = ""
    requested_by: str = ""
    requested_by_claimed: Claimed = False
    requested_via: Unsaid = ""


class FlowRef(Value):
    """The DeployFlow that a message belongs to, with what a reader of the log wants to know of it.

    `batch`: the one under way, 0 before the first. `requested_by`: who made the last request, which
    nobody checked where it is `requested_by_claimed`; `release_requester`: who requested the release, where this is
    another. `requested_via`: how the request came, where it is known.
    """

    name: str
    uid: str
    batch: int = 0
    requested_by: str = ""
    requested_by_claimed: Claimed = False
    requested_via: Unsaid = ""
    release_requester: Annotated[ReleaseRequester | None, Field(exclude_if=lambda name: name is None)] = None


# --- triton.batch-commands: planner → executor and readiness ---------------------------------------------


class Command(Message):
    """Base of the commands. `sequence` rises by one with each command of an instance, across its flows."""

    sequence: int
    flow: FlowRef


class Observe(Command):
    """Read the CloneSet and its pods, live. With `application`: try the template by a server-side dry run."""

    type: Literal["observe"] = "observe"
    application: dict[str, Any] | None = None


class Hold(Value):
    """Written on the CloneSet while a batch's pods must wait for their `pull_in`; also the planner's memory.

    The batch began with `updated` pods on the target revision and `others`, and adds `surge`.
    """

    flow: str
    batch: int
    surge: int
    updated: int
    others: int


ScaledTo = Annotated[int | None, Field(exclude_if=lambda count: count is None)]
Seen = Annotated[int | None, Field(exclude_if=lambda seen: seen is None)]
CanceledRevision = Annotated[str, Field(exclude_if=lambda revision: not revision)]


class CountAware(Command):
    """Base of the commands that may write the count of the CloneSet.

    `accept_replicas`: the replicas that the planner saw; a live value that is neither this nor what Triton wrote last
    was set by somebody else. `accept_sequence`: the command after which the planner saw them; while it is the last one
    written, nothing but `accept_replicas` is accepted: somebody may have set another count, and then the one that
    Triton wrote before.
    """

    accept_replicas: Seen = None
    accept_sequence: Seen = None


class Scale(CountAware):
    """Base of the commands that set the count: absolute targets, so that twice is once.

    Where somebody else has set another one they are not carried out (`ReplicasChanged`). `retire`: uids of the pods to
    delete. `scaled_to`: the count that somebody else set during the release; the CloneSet remembers it.
    """

    replicas: int
    partition: int
    retire: list[str] = Field(default_factory=list)
    scaled_to: ScaledTo = None


class Surge(Scale):
    """Make the pods of a batch; where the last batch's old pods are still to go, retire these too.

    `guard`: all of them exist, and the batch waits. A count of somebody else takes none of them then, and the pods that
    it adds have the old template.
    """

    type: Literal["surge"] = "surge"
    hold: Hold
    application: dict[str, Any] | None = None
    create: bool = False
    no_pull_in: bool = False
    guard: Annotated[bool, Field(exclude_if=lambda guard: not guard)] = False


class Retire(Scale):
    """Delete the named pods and give up the hold: the batch has finished."""

    type: Literal["retire"] = "retire"


class Halt(CountAware):
    """Make and delete nothing more: replicas become the live count, nothing stays named. A count that somebody else
    has set stays; one that equals what Triton wrote last is answered `ReplicasChanged`, and nothing is written.
    """

    type: Literal["halt"] = "halt"


class Cancel(CountAware):
    """End in one write: pods that were never baked go, the last successful template comes back.

    `keep`: how many pods keep serving, beside those of `drop` that are deleted now; a count that somebody else has set
    meanwhile takes its place. `baked`: how many pods of the canceled revision stay. `revision`: that revision, where the
    template comes back; those of its pods that nobody has accepted go, also where only the executor knows them.
    `scaled_to`: 0 where the release does not end but waits, since somebody else has scaled it to 0.
    """

    type: Literal["cancel"] = "cancel"
    keep: int
    baked: int
    drop: list[str] = Field(default_factory=list)
    restore_template: bool
    revision: CanceledRevision = ""
    scaled_to: ScaledTo = None


class Finish(Command):
    """The release has finished: the owner's update strategy comes back, partition 0, no hold.

    `mixed`: pods of two revisions stay, which that strategy would continue to update: it does not come back yet.
    `stopped`: of a stop, the replicas that a start goes back to. `good_template`: the release was the first successful
    one of a CloneSet whose create was canceled.
    """

    type: Literal["finish"] = "finish"
    mixed: bool = False
    stopped: int = 0
    good_template: Annotated[bool, Field(exclude_if=lambda good: not good)] = False


class Remove(Command):
    """Delete the CloneSet, none of whose pods is left."""

    type: Literal["remove"] = "remove"


class PullIn(Command):
    """Open the gates of these pods."""

    type: Literal["pull_in"] = "pull_in"
    uids: list[str]


class PullOut(Command):
    """Close the gates of these pods. So many seconds later those that name a path are polled for their connections."""

    type: Literal["pull_out"] = "pull_out"
    uids: list[str]
    drain_after: int = 0


BatchCommand = Annotated[
    Observe | Surge | Retire | Halt | Cancel | Finish | Remove | PullIn | PullOut, Field(discriminator="type")
]
ExecutorCommand = Observe | Surge | Retire | Halt | Cancel | Finish | Remove
GateCommand = PullIn | PullOut


# --- triton.batch-results: executor → planner ------------------------------------------------------------


class Gate(StrEnum):
    NONE = "none"
    """The pod has no readiness gate of ours: it is from before Triton."""
    CLOSED = "closed"
    OPEN = "open"


class PodRef(Value):
    """A pod as the executor's live list has it. `drained`: as in `PodFact`."""

    uid: str
    name: str
    revision: str
    gate: Gate
    ready: bool
    containers_ready: bool
    created_at: int
    drained: bool = True


class CloneSetFacts(Value):
    """A CloneSet as it is. `sequence`: the last command written into it. `partition` as a count. `owner`: the uid of
    the DeployFlow for which Triton 0.1.x claimed it, until this one writes it. `stopped`: the replicas that it had
    before it was stopped; 0 where it was not. `no_pull_in`: somebody else opens the gates of its pods.
    `no_good_template`: its create was canceled, and no release was successful since. `replicas_set`: what Triton wrote
    last; None where that is not known. `scaled_to`: the count that somebody else set during the release under way.
    `deleting`: it is being deleted, and `finalizers` hold it. `warning`: OpenKruise's latest Event about it, when that
    is a warning, and `warned_at` its time in ms since 1970.
    """

    exists: bool = True
    uid: str = ""
    generation: int = 0
    observed_generation: int = 0
    sequence: int = 0
    replicas: int = 0
    partition: int = 0
    update_revision: str = ""
    hold: Hold | None = None
    owner: str = ""
    stopped: int = 0
    no_pull_in: bool = False
    no_good_template: bool = False
    replicas_set: int | None = None
    scaled_to: int | None = None
    deleting: Annotated[bool, Field(exclude_if=lambda deleting: not deleting)] = False
    finalizers: Annotated[list[str], Field(exclude_if=lambda names: not names)] = Field(default_factory=list)
    warning: Annotated[str, Field(exclude_if=lambda text: not text)] = ""
    warned_at: Annotated[int, Field(exclude_if=lambda at: not at)] = 0
    status_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    updated_replicas: int = 0
    updated_ready_replicas: int = 0

    @property
    def settled(self) -> bool:
        """Return whether the CloneSet's controller has seen the last write."""
        return self.exists and self.observed_generation >= self.generation


class ImageChange(Value):
    """The image of one container before the release, and the one that it brings; empty: there is no such container."""

    container: str
    from_image: str = ""
    to_image: str = ""


ImageChanges = Annotated[list[ImageChange], Field(exclude_if=lambda images: not images)]


class Result(Message):
    sequence: int


class Done(Result):
    """The command is written (or was already). `pods`: those that lived before the write; all, for `observe`.

    `same_template`: for `observe` with an application, whether the CloneSet already has that template; `images`: which
    images the application changes, of the first ten such containers.
    """

    type: Literal["done"] = "done"
    cloneset: CloneSetFacts
    pods: list[PodRef] = Field(default_factory=list)
    same_template: bool = False
    images: ImageChanges = Field(default_factory=list)


class CloneSetSeen(Result):
    """The CloneSet's controller has caught up with the command of this sequence, or its counts changed."""

    type: Literal["cloneset_seen"] = "cloneset_seen"
    cloneset: CloneSetFacts


class Superseded(Result):
    """Nothing written: the CloneSet already carries a higher sequence."""

    type: Literal["superseded"] = "superseded"
    current: int


class VictimsGone(Result):
    """Nothing written: some pods that were to be deleted are no more."""

    type: Literal["victims_gone"] = "victims_gone"
    gone: list[str]


class ReplicasChanged(Result):
    """Nothing written: somebody else changed the replicas."""

    type: Literal["replicas_changed"] = "replicas_changed"
    replicas: int


class Refused(Result):
    """The command can't be done: what the API server, a webhook or the cluster's state says against it."""

    type: Literal["refused"] = "refused"
    reason: str
    message: str


BatchResult = Annotated[
    Done | CloneSetSeen | Superseded | VictimsGone | ReplicasChanged | Refused, Field(discriminator="type")
]


# --- triton.phase-events: readiness → planner and events -------------------------------------------------


class Transition(Value):
    """A change of a pod's state, once for each time: `name` is a word of `PodTransition`.

    `id` distinguishes it from others of the same pod, however often and by whomever it is reported. `at` in ms;
    `since`: when the time that it took began, 0 where that is not known; `age`: ms since the pod was made.
    """

    name: str
    id: str
    at: int
    age: int = 0
    since: int = 0
    reason: str = ""
    message: str = ""


class PodTransition(StrEnum):
    CREATED = "created"
    SCHEDULED = "scheduled"
    STARTED = "started"
    CONTAINERS_READY = "containers-ready"
    PULLED_IN = "pulled-in"
    """Its gate was opened."""
    READY = "ready"
    UNREADY = "unready"
    """It lost Ready though its gate is open."""
    PULLED_OUT = "pulled-out"
    """Its gate was closed."""
    RESTARTED = "restarted"
    WAITING = "waiting"
    """It makes no progress, for a reason that may pass: unschedulable, one failed attempt to pull an image."""
    FAILED = "failed"
    TERMINATING = "terminating"
    LEFT = "left"
    """It still exists and belongs to its instance no more: it has ended, or somebody changed its labels or owner."""
    GONE = "gone"


class PodFact(Value):
    """The state of one pod. `sequence`: of the gate command that was carried out last on it.

    `at`: when the pod came into this state, by its own conditions where they say it. `drained`: out of traffic it may
    go, as far as its connections are concerned; True too for one that names no path for them.
    Of a pod that has failed, or takes no traffic though its gate is open: `since` when, and, once they are known, its
    last warning `event` and the last lines of its `log`.
    `held`: what keeps it from being deleted, where that is known; empty for nothing.
    `version`: higher in a report of a later state of the same pod; 0 where it is not known.
    `transitions`: for the log, its transitions since the last report; `flow`: the release that they belong to, with
    the batch that the pod is of.
    """

    uid: str
    name: str
    revision: str
    phase: PodPhase
    ready: bool
    containers_ready: bool
    gate: Gate
    sequence: int = 0
    deleting: bool = False
    drained: bool = True
    ip: str = ""
    port: int = 0
    node: str = ""
    image: str = ""
    restarts: int = 0
    reason: str = ""
    message: str = ""
    event: str = ""
    log: str = ""
    since: int = 0
    created_at: int
    at: int
    held: Annotated[str, Field(exclude_if=lambda text: not text)] = ""
    version: int = 0
    transitions: list[Transition] = Field(default_factory=list)
    flow: FlowRef | None = None


class PodGone(Value):
    """A pod that is no more. `last`: its state before, with transitions that were not reported yet; `since`: when
    its end began, 0 where that is not known. `left`: it still exists, but has left the instance.
    """

    uid: str
    name: str
    at: int = 0
    since: int = 0
    last: PodFact | None = None
    left: bool = False


class AppRef(Value):
    """The application and group that an instance belongs to, by the labels of its objects."""

    name: str = ""
    app_id: int = 0
    group_id: int = 0

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> AppRef:
        """Read it from the labels that every release sets; a value that somebody overwrote counts as not known."""
        app, group = (labels.get(name, "") for name in ("app", "group"))
        return cls(
            name=labels.get(NAME_LABEL, ""),
            app_id=count_in(app) or 0,
            group_id=count_in(group) or 0,
        )


class PodsSeen(Message):
    """The changes among an instance's pods. `complete`: these are all there are (after a rebalance or list)."""

    type: Literal["pods_seen"] = "pods_seen"
    pods: list[PodFact] = Field(default_factory=list)
    gone: list[PodGone] = Field(default_factory=list)
    complete: bool = False
    at: int
    app: AppRef = AppRef()


PhaseEvent = PodsSeen


# --- triton.planner-facts: planner → planner (to the replica that has the instance) ----------------------


class SpecObserved(Message):
    """A DeployFlow as the API server has it, read by some planner's watch.

    `request` is the id of the last request that came through Triton. `requested_by` is who requested the release, which
    nobody checked where it is `requested_by_claimed`; `last_command` is what has changed it last, where that was
    `request`. `freeze_override`: why it shall begin in a freeze window too.
    `keeps_replicas`, `either_direction`: what its requester left open. `requested_strategy`: as it was before a request
    changed it, where that is known. `fault`: why it can't be passed on, where `spec` is
    empty for that.
    """

    type: Literal["spec_observed"] = "spec_observed"
    flow: FlowRef
    generation: int
    created_at: int
    deleting: bool = False
    request: str = ""
    requested_by: str = ""
    requested_by_claimed: Claimed = False
    requested_via: Unsaid = ""
    last_command: Annotated[LastCommand | None, Field(exclude_if=lambda command: command is None)] = None
    freeze_override: str = ""
    keeps_replicas: bool = False
    either_direction: bool = False
    requested_strategy: Annotated[
        dict[str, Any] | None, Field(exclude_if=lambda strategy: strategy is None)
    ] = None
    spec: dict[str, Any]
    status: dict[str, Any] = Field(default_factory=dict)
    fault: Annotated[str, Field(exclude_if=lambda text: not text)] = ""


class SpecGone(Message):
    type: Literal["spec_gone"] = "spec_gone"
    flow: FlowRef


class Due(Message):
    """A deadline of this instance has passed: check the clocks."""

    type: Literal["due"] = "due"


PlannerFact = Annotated[SpecObserved | SpecGone | Due, Field(discriminator="type")]


# --- triton.deployflow-events and triton.cloneset-events: → events ---------------------------------------


class FlowEvent(Message):
    """Something happened to a release. `id` is the same however often it is reported.

    `command`: what somebody requested, where that is what happened; `requested_by` is who, as they
    themselves wrote where it is `requested_by_claimed`. `started_at`: when the
    release began, in ms; 0 before. `images`: the images that the release changes, once it is planned.
    """

    type: Literal["deployflow"] = "deployflow"
    id: str
    at: int
    flow: FlowRef
    app_id: int
    group_id: int
    app_name: str
    action: str
    reason: str
    message: str = ""
    phase: FlowPhase
    batch: int = 0
    batches: int = 0
    batch_phase: BatchPhase | None = None
    batch_size: int = 0
    canary: bool = False
    failed_replicas: int = 0
    revision: str = ""
    images: ImageChanges = Field(default_factory=list)
    requested_by: str = ""
    requested_by_claimed: Claimed = False
    requested_via: Unsaid = ""
    request: str = ""
    command: str = ""
    started_at: int = 0
    duration_ms: int | None = None


class CloneSetEvent(Message):
    """The CloneSet's spec or status changed."""

    type: Literal["cloneset"] = "cloneset"
    id: str
    at: int
    reason: str
    message: str = ""
    cloneset: CloneSetFacts
    flow: FlowRef | None = None
    app: AppRef = AppRef()


# --- triton.cluster-events: → events ---------------------------------------------------------------------


class About(Message):
    """Base of what the cluster says of an owned object, at `at`. `id` is the same however often it is reported."""

    id: str
    at: int
    kind: Literal["Pod", "CloneSet"]
    name: str
    uid: str
    flow: FlowRef | None = None
    app: AppRef = AppRef()


class ClusterEvent(About):
    """One of the cluster's own Events. `component` says it; `count`: how often it has been seen."""

    type: Literal["cluster_event"] = "cluster_event"
    warning: bool = False
    reason: str = ""
    message: str = ""
    component: str = ""
    count: int = 1


class ContainerLog(About):
    """The last lines of the log of a container of a pod that failed; `previous`: of the run before its last start."""

    type: Literal["container_log"] = "container_log"
    container: str
    previous: bool = False
    restarts: int = 0
    text: str


ClusterMessage = Annotated[ClusterEvent | ContainerLog, Field(discriminator="type")]


ADAPTERS: dict[str, TypeAdapter[Any]] = {
    BATCH_COMMANDS: TypeAdapter(BatchCommand),
    BATCH_RESULTS: TypeAdapter(BatchResult),
    PHASE_EVENTS: TypeAdapter(PhaseEvent),
    PLANNER_FACTS: TypeAdapter(PlannerFact),
    DEPLOYFLOW_EVENTS: TypeAdapter(FlowEvent),
    CLONESET_EVENTS: TypeAdapter(CloneSetEvent),
    CLUSTER_EVENTS: TypeAdapter(ClusterMessage),
}
"""The parser of the values of each topic; deploy commands are read by `shared.domain.deploy_commands`."""

TOPIC_OF: dict[type[Message], str] = {
    Observe: BATCH_COMMANDS,
    Surge: BATCH_COMMANDS,
    Retire: BATCH_COMMANDS,
    Halt: BATCH_COMMANDS,
    Cancel: BATCH_COMMANDS,
    Finish: BATCH_COMMANDS,
    Remove: BATCH_COMMANDS,
    PullIn: BATCH_COMMANDS,
    PullOut: BATCH_COMMANDS,
    Done: BATCH_RESULTS,
    CloneSetSeen: BATCH_RESULTS,
    Superseded: BATCH_RESULTS,
    VictimsGone: BATCH_RESULTS,
    ReplicasChanged: BATCH_RESULTS,
    Refused: BATCH_RESULTS,
    PodsSeen: PHASE_EVENTS,
    SpecObserved: PLANNER_FACTS,
    SpecGone: PLANNER_FACTS,
    Due: PLANNER_FACTS,
    FlowEvent: DEPLOYFLOW_EVENTS,
    CloneSetEvent: CLONESET_EVENTS,
    ClusterEvent: CLUSTER_EVENTS,
    ContainerLog: CLUSTER_EVENTS,
}
"""The topic that each message goes to."""
