"""What the planner knows of one instance: its releases, its pods and the command that is not answered yet.

Values only, never changed in place; kept in Redis as JSON. Times are milliseconds since 1970, 0 for never.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from cramjam import lz4

from shared.domain.deployflow import (
    SHRINKING,
    UPDATING,
    BatchPhase,
    FlowPhase,
    Mode,
    OnFailure,
    PodPhase,
)
from shared.domain.freeze_windows import Frozen
from shared.domain.topics import Key

_LZ4 = b"lz4:"
PRE_EXISTING = 0
"""The batch of a pod that was there before: it belongs to none."""
UNASSIGNED = -1
"""The batch of a pod of which it is not known yet whether a batch made it."""


class Step(StrEnum):
    """Where on its road a release is; what the planner waits for next."""

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
    asked: int = 0
    """The sequence of the pull_in that named it."""
    version: int = 0
    """Of what is known; 0 for what was not told, but listed."""


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
    """One batch. `retire` is settled when the batch is baked; `unready_since` 0 means every pod is ready.

    `told`: the surge was carried out, so that its pods can be told from those that were there before.
    """

    number: int
    surge: int
    retire: int = 0
    canary: bool = False
    phase: BatchPhase = BatchPhase.SMOKING
    surge_acknowledged: bool = msgspec.field(default=False, name="told")
    failed_replicas: int = 0
    reason: str = ""
    message: str = ""
    started_at: int = 0
    surged_at: int = 0
    smoked_at: int = 0
    pulled_in_at: int = 0
    ready_since: int = 0
    unready_since: int = 0
    baked_at: int = 0
    pulled_out_at: int = 0
    finished_at: int = 0

    @property
    def size(self) -> int:
        return self.surge or self.retire

    @property
    def baked(self) -> bool:
        return self.phase == BatchPhase.BAKED


class Flow(Value, frozen=True):
    """One release. `updated` and `others` are the counts before the batch under way.

    `failed`: a batch failed, nothing goes on until somebody decides. `halted`: the CloneSet was told to stop.
    `issued`: the step's command was given. `resync`: observe before anything else; then `recount` takes the
    counts anew, `rebuilt` settles what `.status` could not tell. `outcome`: how it ends, once that is decided.
    `named`: the pods that Triton 0.1.x named, each with its batch; `keeps_template`: the CloneSet has the target
    template as somebody else wrote it, and writing ours would be another revision.
    `leaving`: the uids of the pods that a restart, or a scale_in that names pods, takes away. `dropped`: new pods
    that failed, which go with the next write though no batch replaces them. `planned`: the batches of the first
    plan. `retries`: of the spec, those that are done. `stopped`: the replicas that a stop began with.
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
    request: str = ""
    created_at: int = 0
    phase: FlowPhase = FlowPhase.PENDING
    step: Step = Step.QUEUED
    reason: str = ""
    message: str = ""
    warnings: tuple[str, ...] = ()
    failed: bool = False
    halted: bool = False
    deleting: bool = False
    outcome: FlowPhase | None = None
    target_revision: str = ""
    updated: int = 0
    others: int = 0
    to_process: int = 0
    batches: tuple[Batch, ...] = ()
    total: int = 0
    victims: tuple[str, ...] = ()
    issued: bool = False
    recount: bool = False
    resync: bool = False
    rebuilt: bool = False
    named: dict[str, int] = {}
    keeps_template: bool = False
    leaving: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = ()
    planned: int = 0
    retries: int = 0
    stopped: int = 0
    started_at: int = 0
    updated_at: int = 0
    finished_at: int = 0
    frozen: Frozen | None = None
    """While it waits: the freeze windows that are in force for it."""
    override: str = ""
    """Why it shall begin all the same; `overridden_by` says so."""
    overridden_by: str = ""
    overridden: str = ""
    """The freeze windows that it began in, with who let it and why."""
    pods: dict[str, Pod] = {}
    """Of a finished release: the pods that it ended with, until `.status` has them."""

    @property
    def updating(self) -> bool:
        return self.action in UPDATING

    @property
    def shrinking(self) -> bool:
        return self.action in SHRINKING

    def keeps_pod(self, uid: str, revision: str) -> bool:
        """Whether a pod is one of those that this release leads to; all others are there to be replaced."""
        return revision == self.target_revision if self.updating else uid not in self.leaving

    @property
    def held_back(self) -> bool:
        return self.frozen is not None and not self.override

    @property
    def paused(self) -> bool:
        return self.strategy.paused or self.failed

    @property
    def batch(self) -> Batch | None:
        """The last batch that began."""
        return self.batches[-1] if self.batches else None

    @property
    def open_batch(self) -> Batch | None:
        """The batch under way."""
        last = self.batch
        return last if last is not None and not last.finished_at else None

    @property
    def finished_batches(self) -> int:
        return sum(1 for batch in self.batches if batch.finished_at)

    @property
    def finished_replicas(self) -> int:
        return sum(batch.size for batch in self.batches if batch.finished_at)

    @property
    def canary(self) -> bool:
        return self.batches[0].canary if self.batches else self.strategy.canary > 0


class PendingCommand(Value, frozen=True):
    """The command that was given last: kept, and given again, until it is carried out.

    `answered`: the executor said so; `seen`: the CloneSet's controller has caught up with it. `gone`: pods that
    went before the answer came; it may list them still. `late_since`: when it was first given, of one that had to
    be given again.
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
    replicas: int = 0
    exists: bool = False
    update_revision: str = ""
    stopped: int = 0
    """The replicas to which a start goes back; 0 where nobody stopped it."""
    no_pull_in: bool = False


class Instance(Value, frozen=True):
    """Everything about one instance, written to Redis as one value.

    `finished`: releases whose end `.status` does not say yet; `over`: the uids of those where it does.
    """

    namespace: str
    name: str
    version: int = 0
    sequence: int = 0
    active: Flow | None = None
    waiting: tuple[Flow, ...] = ()
    finished: tuple[Flow, ...] = ()
    over: tuple[str, ...] = ()
    pods: dict[str, Pod] = {}
    cloneset: CloneSet = CloneSet()
    pending: PendingCommand | None = msgspec.field(default=None, name="given")

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)

    @property
    def mixed(self) -> bool:
        """Whether pods live that the CloneSet's own update strategy would go on updating."""
        revision = self.cloneset.update_revision
        return any(pod.revision != revision for pod in self.pods.values() if not pod.deleting)

    @property
    def flows(self) -> tuple[Flow, ...]:
        return (*self.finished, *((self.active,) if self.active else ()), *self.waiting)


def dump(instance: Instance) -> bytes:
    """JSON, compressed by LZ4: a third of the memory in Redis for a fraction of a millisecond."""
    return _LZ4 + bytes(lz4.compress_block(msgspec.json.encode(instance)))


def load(data: bytes) -> Instance:
    """What `dump` made; also the plain JSON of versions before that."""
    text = bytes(lz4.decompress_block(data.removeprefix(_LZ4))) if data.startswith(_LZ4) else data
    return msgspec.json.decode(text, type=Instance)
