"""A pod as Triton reads it: a few fields of the object, and what they say about gate and readiness."""

from __future__ import annotations

import msgspec

from shared.domain.deployflow import INSTANCE_LABEL, READINESS_GATE
from shared.domain.graceful_exit import DRAINED, Drain, drain_of
from shared.domain.messages import AppRef, Gate
from shared.domain.object_bounds import count_in
from shared.domain.topics import Key
from shared.kube.reflector import Meta

REVISION_LABEL = "controller-revision-hash"
TEMPLATE_HASH_LABEL = "pod-template-hash"
"""The end of the revision's name: OpenKruise writes both labels."""
_ENDED_PHASES = frozenset({"Failed", "Succeeded"})
_SEQUENCE = "sequence "
_DRAIN_AFTER = "connections are asked for from this many seconds on: "


class OwnerReference(msgspec.Struct, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class PodMeta(Meta, rename="camel", frozen=True):
    owner_references: list[OwnerReference] = msgspec.field(default_factory=list)
    deletion_grace_period_seconds: int | None = None


class ReadinessGate(msgspec.Struct, rename="camel", frozen=True):
    condition_type: str = ""


class Port(msgspec.Struct, rename="camel", frozen=True):
    container_port: int = 0
    protocol: str = "TCP"


class Container(msgspec.Struct, frozen=True):
    image: str = ""
    ports: list[Port] = []


class Spec(msgspec.Struct, rename="camel", frozen=True):
    node_name: str = ""
    readiness_gates: list[ReadinessGate] = []
    containers: list[Container] = []


class Condition(msgspec.Struct, rename="camel", frozen=True):
    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class Waiting(msgspec.Struct, frozen=True):
    reason: str = ""
    message: str = ""


class Terminated(msgspec.Struct, rename="camel", frozen=True):
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    finished_at: str | None = None


class Running(msgspec.Struct, rename="camel", frozen=True):
    started_at: str | None = None


class State(msgspec.Struct, frozen=True):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, rename="camel", frozen=True):
    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: State = State()
    last_state: State = State()


class Status(msgspec.Struct, rename="camel", frozen=True):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    start_time: str | None = None
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []


class Pod(msgspec.Struct, frozen=True):
    metadata: PodMeta
    spec: Spec = Spec()
    status: Status = Status()

    @property
    def key(self) -> Key:
        """Return the instance that the pod belongs to: its label and its controller name it. Without a name: to none.

        OpenKruise gives up a pod whose labels no longer match its CloneSet: it removes the owner.
        """
        instance = self.metadata.labels.get(INSTANCE_LABEL, "")
        owner = self.controller
        owned = owner is not None and (owner.kind, owner.name) == ("CloneSet", instance)
        return Key(self.metadata.namespace, instance if owned else "")

    @property
    def controller(self) -> OwnerReference | None:
        return next((owner for owner in self.metadata.owner_references if owner.controller), None)

    @property
    def ended(self) -> bool:
        """Return whether its containers have stopped for good, as after an eviction: OpenKruise makes another pod."""
        return self.status.phase in _ENDED_PHASES

    @property
    def revision(self) -> str:
        return self.metadata.labels.get(REVISION_LABEL, "")

    @property
    def has_edited_revision(self) -> bool:
        """Return whether somebody has changed or removed the label of its revision."""
        template_hash = self.metadata.labels.get(TEMPLATE_HASH_LABEL, "")
        return not self.revision or not self.revision.endswith(template_hash)

    @property
    def app(self) -> AppRef:
        return AppRef.of(self.metadata.labels)

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def ready(self) -> bool:
        return self.is_true("Ready")

    @property
    def containers_ready(self) -> bool:
        return self.is_true("ContainersReady")

    @property
    def gate(self) -> Gate:
        if all(gate.condition_type != READINESS_GATE for gate in self.spec.readiness_gates):
            return Gate.NONE
        return Gate.OPEN if self.is_true(READINESS_GATE) else Gate.CLOSED

    @property
    def drain(self) -> Drain | None:
        """Return where it reports its connections; None if nowhere, or if the annotations are unreadable."""
        try:
            return drain_of(self.metadata.annotations, self.ports)
        except ValueError:
            return None

    @property
    def ports(self) -> list[int]:
        """Return the TCP ports of its containers."""
        return [p.container_port for c in self.spec.containers for p in c.ports if p.protocol == "TCP"]

    @property
    def drained(self) -> bool:
        """Return whether, out of traffic, no connection is waited for: none is left, or none can be observed."""
        if self.drain is None or self.gate == Gate.NONE:
            return True
        condition = self.condition(DRAINED)
        return self.gate == Gate.CLOSED and (condition is None or condition.status != "False")

    @property
    def sequence(self) -> int:
        """Return the sequence of the gate command that was carried out last on this pod."""
        condition = self.condition(READINESS_GATE)
        if condition is None or not condition.message.startswith(_SEQUENCE):
            return 0
        return count_in(condition.message.removeprefix(_SEQUENCE)) or 0

    @property
    def drain_after(self) -> int:
        """Return the seconds from the closing of its gate until its connections are polled."""
        condition = self.condition(DRAINED)
        seconds = condition.message.removeprefix(_DRAIN_AFTER) if condition is not None else ""
        return count_in(seconds) or 0

    def condition(self, name: str) -> Condition | None:
        return next((condition for condition in self.status.conditions if condition.type == name), None)

    def is_true(self, name: str) -> bool:
        condition = self.condition(name)
        return condition is not None and condition.status == "True"


def gate_message(sequence: int) -> str:
    """Return the message of the gate's condition; `Pod.sequence` reads it back."""
    return f"{_SEQUENCE}{sequence}"


def drain_message(seconds: int) -> str:
    """Return the message of a draining pod's condition; `Pod.drain_after` reads it back."""
    return f"{_DRAIN_AFTER}{seconds}"
