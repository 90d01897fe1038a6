"""The state of one instance: its releases, its pods and the pending command.

Values only, never changed in place; `stored_state` keeps them in Redis. Times are milliseconds since 1970, 0 for never.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any, Final

import msgspec

from shared.domain.deployflow import (
    SHRINKING,
    UPDATING,
    Action,
    BatchPhase,
    FlowPhase,
    Mode,
    OnFailure,
    PodPhase,
)
from shared.domain.freeze_windows import Frozen
from shared.domain.topics import Key

PRE_EXISTING = 0
"""The batch number of a pod that existed before the release: it belongs to no batch."""
UNASSIGNED = -1
"""The batch number of a pod while it is not known whether a batch made it."""


class Step(StrEnum):
    """The position of a release in its course: what the planner does or waits for next."""

    QUEUED = "queued"
    OBSERVE = "observe"
    PREPARE = "prepare"
    TAKE_OVER = "take_over"
    BETWEEN = "between"
    SURGE = "surge"
    SMOKED = "smoked"
    PULL_IN = "pull_in"
    PULL_OUT = "pull_out"
    RETIRE = "retire"
    FINISH = "finish"
    CANCEL = "cancel"
    DONE = "done"


class StepCommand(StrEnum):
    """The progress of the command of the current step."""

    DUE = "due"
    """Not issued yet, or to be issued again."""
    ISSUED = "issued"
    HALTED = "halted"
    """The release stands still, and the CloneSet was ordered to stop what it was doing for the step."""


class Resync(IntEnum):
    """The purpose of the next observation of the cluster; a higher one includes the lower ones."""

    NONE = 0
    OBSERVE = 1
    """Refresh the pods and the CloneSet."""
    RECOUNT = 2
    """Somebody else has scaled: take the counts of the release from what is observed."""
    REBUILD = 3
    """The release comes from `.status`: find out what that could not say."""


STEP_OF: Final = {
    BatchPhase.PENDING: Step.SURGE,
    BatchPhase.SMOKING: Step.SURGE,
    BatchPhase.SMOKED: Step.SMOKED,
    BatchPhase.SMOKE_FAILED: Step.SURGE,
    BatchPhase.BAKING: Step.PULL_IN,
    BatchPhase.BAKE_FAILED: Step.PULL_IN,
    BatchPhase.BAKED: Step.PULL_OUT,
}
"""The step in which a batch that is under way has each phase."""


class Value(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    pass


class Pod(Value, frozen=True):
    name: str
    revision: str
    phase: PodPhase = PodPhase.PENDING
    ready: bool = False
    containers_ready: bool = False
    gate: str = "closed"
    sequence: int = 0
    deleting: bool = False
    drained: bool = True
    ip: str = ""
    port: int = 0
    reason: str = ""
    message: str = ""
    event: str = ""
    log: str = ""
    since: int = 0
    created_at: int = 0
    batch: int = UNASSIGNED
    pull_in_sequence: int = msgspec.field(default=0, name="asked")
    """The sequence of the pull_in that named the pod; 0 for none."""
    held: str = ""
    """What keeps it from being deleted, where that is known."""
    version: int = 0
    """The version of the fact that the pod is known from; 0 where it is known from a list only."""
    flaps: int = 0
    """How often the pod of a batch has lost Ready."""


class Strategy(Value, frozen=True):
    """The strategy of the spec as last read; seconds as there."""

    batch_size: int | str | None = None
    interval: int = 0
    mode: Mode = Mode.MANUAL
    batches: int = 1
    stage: BatchPhase | None = None
    paused: bool = False
    canceled: bool = False
    canary: int = 0
    no_pull_in: bool = False
    startup_timeout: int = 600
    pull_in_timeout: int = 60
    bake: int = 0
    pull_out: int = 0
    on_failure: OnFailure = OnFailure.PAUSE
    failure_threshold: int | str = 0
    progress_deadline: int | None = None
    retries: int = 0
    pods_to_delete: tuple[str, ...] = ()


class Batch(Value, frozen=True):
    """One batch. `retire` is final once the batch is baked; `unready_since` is 0 while every pod is ready.

    `surge_acknowledged`: the surge was carried out, so its pods can be distinguished from pre-existing ones.
    `guarded`: it waits, and the surge was written so that a count of somebody else takes none of its pods.
    `rewrite_due`: somebody else set another count since: the surge is to be written again, with its counts as they are.
    `removing`: the pods that it replaced, where one write removes them and begins the next batch: it is finished once
    they are gone.
    """

    number: int
    surge: int
    retire: int = 0
    canary: bool = False
    phase: BatchPhase = BatchPhase.SMOKING
    surge_acknowledged: bool = msgspec.field(default=False, name="told")
    rewrite_due: bool = False
    guarded: bool = False
    failed_replicas: int = 0
    reason: str = ""
    message: str = ""
    started_at: int = 0
    surged_at: int = 0
    smoked_at: int = 0
    pulled_in_at: int = 0
    ready_since: int = 0
    unready_since: int = 0
    baking_since: int = 0
    """Since when it bakes without having been Ready for long enough; 0 where it does not bake."""
    baked_at: int = 0
    pulled_out_at: int = 0
    finished_at: int = 0
    removing: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return self.surge or self.retire

    @property
    def baked(self) -> bool:
        return self.phase == BatchPhase.BAKED


class Requester(Value, frozen=True):
    """Who sent a request, how it came, and for one that changed the release its command; empty for kubectl."""

    requested_by: str = ""
    requested_by_claimed: bool = False
    requested_via: str = ""
    command: str = ""


class ImageChange(Value, frozen=True):
    """The image of a container before the release, and the one that it brings; empty: there is no such container."""

    container: str
    from_image: str = ""
    to_image: str = ""


class Flow(Value, frozen=True):
    """One release. `updated` and `others` are the counts of pods before the batch under way.

    - `failed`: a batch failed; nothing continues until a person, or `onFailure`, decides.
    - `deleting`: the DeployFlow has a deletion timestamp.
    - `outcome`: how the release ends, once that is decided.
    - `target_revision`: the revision of the CloneSet that has the target template; empty until it is known.
    - `keeps_template`: the CloneSet has the target template as somebody else wrote it; writing it in our form would
      make another revision.
    - `named`: the pods that the `.status` of Triton 0.1.x names, each with its batch.
    - `leaving`: the uids of the pods that a restart, or a scale_in that names pods, removes.
    - `dropped`: new pods that failed; the next write removes them although no batch replaces them.
    - `planned`: the number of batches in the first plan.
    - `retries`: those of the spec that are carried out; a spec that is lowered lowers it.
    - `stopped`: the replicas before a stop.
    - `rejections`: how often in a row a command was rejected; `retry_at`: when the next attempt may be; `rejected`: the
      words of the last rejection.
    - `scaled_to`: the count that somebody else set during the release: it leads to that one.
    - `standing_by`: somebody else has scaled it to 0, and the CloneSet is prepared for that.
    - `keeps_replicas`: nobody said how many; it takes the count that the instance has when it begins or, with
      `inherits_replicas`, the one that the release which it replaced was to reach.
    - `either_direction`: of a scale; nobody said whether it goes in or out, `action` follows from the count that it finds.
    - `inherits`: of an update that waits; its spec gets the template before it begins.
    - `requested_strategy`: of a create or update, the fields of `updateStrategy` as they were requested; None where an
      older version saw it first.
    - `may_change_existing`: of a create; no release of the instance is known, or none was ever successful.
    """

    name: str
    uid: str
    action: str
    app_id: int
    group_id: int
    app_name: str
    wanted: int
    strategy: Strategy
    generation: int = 0
    requested_by: str = ""
    requested_by_claimed: bool = False
    requested_via: str = ""
    last_command: Requester | None = None
    """Who changed it last, and how; `requested_by` is who requested it."""
    images: tuple[ImageChange, ...] = ()
    request: str = ""
    created_at: int = 0
    phase: FlowPhase = FlowPhase.PENDING
    step: Step = Step.QUEUED
    reason: str = ""
    message: str = ""
    warnings: tuple[str, ...] = ()
    failed: bool = False
    deleting: bool = False
    outcome: FlowPhase | None = None
    target_revision: str = ""
    updated: int = 0
    others: int = 0
    to_process: int = 0
    batches: tuple[Batch, ...] = ()
    total: int = 0
    victims: tuple[str, ...] = ()
    step_command: StepCommand = StepCommand.DUE
    resync: Resync = Resync.NONE
    named: dict[str, int] = {}
    keeps_template: bool = False
    leaving: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = ()
    planned: int = 0
    retries: int = 0
    stopped: int = 0
    rejections: int = 0
    retry_at: int = 0
    rejected: str = ""
    scaled_to: int | None = None
    standing_by: bool = False
    keeps_replicas: bool = False
    inherits_replicas: bool = False
    either_direction: bool = False
    inherits: bool = False
    requested_strategy: dict[str, Any] | None = None
    may_change_existing: bool = False
    started_at: int = 0
    updated_at: int = 0
    finished_at: int = 0
    frozen: Frozen | None = None
    """The freeze windows in force while the release waits."""
    override: str = ""
    """The reason why the release shall begin despite a freeze; `overridden_by` requested it."""
    overridden_by: str = ""
    overridden: str = ""
    """The freeze windows in which the release began, with who approved it and why."""
    pods: dict[str, Pod] = {}
    """The pods of a finished release at its end, until `.status` has them."""

    @property
    def updating(self) -> bool:
        return self.action in UPDATING

    @property
    def requester(self) -> Requester:
        """Return who requested the release."""
        return Requester(self.requested_by, self.requested_by_claimed, self.requested_via)

    @property
    def last_requester(self) -> Requester:
        """Return who changed the release last; before anybody has, who requested it."""
        return self.last_command or self.requester

    @property
    def shrinking(self) -> bool:
        return self.action in SHRINKING

    def keeps_pod(self, uid: str, revision: str) -> bool:
        """Return whether the release leaves this pod in place; all other pods are to be replaced."""
        return revision == self.target_revision if self.updating else uid not in self.leaving

    def scaled_from(self, replicas: int) -> Flow:
        """Return the release with the direction in which it goes from so many pods, where nobody said it."""
        if not self.either_direction or replicas == self.wanted:
            return self
        return msgspec.structs.replace(
            self, action=Action.SCALE_IN if replicas > self.wanted else Action.SCALE_OUT
        )

    @property
    def issued(self) -> bool:
        return self.step_command == StepCommand.ISSUED

    @property
    def halted(self) -> bool:
        return self.step_command == StepCommand.HALTED

    @property
    def canceled(self) -> bool:
        return self.strategy.canceled or self.deleting

    @property
    def held_back(self) -> bool:
        return self.frozen is not None and not self.override

    @property
    def paused(self) -> bool:
        return self.strategy.paused or self.failed

    @property
    def scaled_to_zero(self) -> bool:
        """Return whether it waits until somebody scales the instance up again."""
        return self.scaled_to == 0 and not self.shrinking

    @property
    def batch(self) -> Batch | None:
        """Return the last batch that began."""
        return self.batches[-1] if self.batches else None

    @property
    def open_batch(self) -> Batch | None:
        """Return the batch under way."""
        if not self.batches or self.batches[-1].finished_at:
            return None
        return self.batches[-1]

    @property
    def unfinished_before(self) -> tuple[Batch, ...]:
        """Return the batches before the last one whose old pods are not gone yet."""
        return tuple(batch for batch in self.batches[:-1] if not batch.finished_at)

    @property
    def finished_batches(self) -> int:
        return sum(1 for batch in self.batches if batch.finished_at)

    @property
    def finished_replicas(self) -> int:
        """Return the pods of the batches that are accepted, with those whose old pods are not gone yet."""
        return sum(batch.size for batch in self.batches if batch.finished_at or batch is not self.batches[-1])

    @property
    def canary(self) -> bool:
        return self.batches[0].canary if self.batches else self.strategy.canary > 0


class PendingCommand(Value, frozen=True):
    """The command issued last: kept, and sent again, until it is carried out.

    - `answered`: the executor has acknowledged it.
    - `seen`: the CloneSet's controller has caught up with it.
    - `gone`: pods that went before the answer, which may still list them.
    - `late_since`: when a command that had to be sent again was first issued.
    """

    sequence: int
    kind: str
    body: str
    sent_at: int
    answered: bool = False
    seen: bool = False
    gone: tuple[str, ...] = ()
    late_since: int = 0

    @property
    def carried_out(self) -> bool:
        return self.answered and self.seen


class CloneSet(Value, frozen=True):
    """The CloneSet as last seen. `sequence`: the last command that was written into it."""

    replicas: int = 0
    exists: bool = False
    update_revision: str = ""
    stopped: int = 0
    """The replicas to which a start goes back; 0 where nobody stopped it."""
    no_pull_in: bool = False
    no_good_template: bool = False
    """Its create was canceled, and no release was successful since."""
    sequence: int = msgspec.field(default=0, name="written")
    deleting: bool = False
    """It is being deleted: OpenKruise makes and removes none of its pods any more."""
    finalizers: tuple[str, ...] = ()
    """What holds it while it is being deleted."""
    warning: str = ""
    """OpenKruise's latest Event about it, when that is a warning."""
    warned_at: int = 0
    """The time of that latest Event, in ms since 1970."""


class Instance(Value, frozen=True):
    """Everything about one instance, written to Redis as one value.

    `finished`: releases whose end is not in `.status` yet; `recorded_uids`: the uids of those whose end is.
    """

    namespace: str
    name: str
    version: int = 0
    sequence: int = 0
    active: Flow | None = None
    waiting: tuple[Flow, ...] = ()
    finished: tuple[Flow, ...] = ()
    recorded_uids: tuple[str, ...] = msgspec.field(default=(), name="over")
    pods: dict[str, Pod] = {}
    cloneset: CloneSet = CloneSet()
    pending: PendingCommand | None = msgspec.field(default=None, name="given")

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)

    def live_pods_of(self, batch: Batch) -> dict[str, Pod]:
        """Return the pods of a batch that are not being deleted, by uid."""
        return {uid: pod for uid, pod in self.pods.items() if pod.batch == batch.number and not pod.deleting}

    @property
    def mixed(self) -> bool:
        """Return whether live pods differ from the revision to which the CloneSet's own strategy would update them."""
        revision = self.cloneset.update_revision
        return any(pod.revision != revision for pod in self.pods.values() if not pod.deleting)

    @property
    def flows(self) -> tuple[Flow, ...]:
        return (*self.finished, *((self.active,) if self.active else ()), *self.waiting)
