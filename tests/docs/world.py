"""A world of one instance for the planner's pure decision: what executor, OpenKruise and readiness would do.

Everything happens at once, unless a switch holds it back; time is a number that a test moves on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from services.planner.decide import decide
from services.planner.facts import Fact
from services.planner.state import Flow, Instance
from services.planner.status import status_of
from shared import messages as m
from shared.deployflow import DeployFlowSpec, PodPhase

Json = dict[str, Any]
NAMESPACE, INSTANCE = "default", "web"
RESEND_MS = 10_000


@dataclasses.dataclass
class WorldPod:
    uid: str
    revision: str
    containers_ready: bool = False
    open: bool = False
    failed: bool = False
    deleting: bool = False
    sequence: int = 0
    created_at: int = 0

    @property
    def ready(self) -> bool:
        return self.containers_ready and self.open and not self.failed

    def fact(self, now: int) -> m.PodFact:
        phase = PodPhase.RUNNING
        if self.failed:
            phase = PodPhase.FAILED
        elif self.ready:
            phase = PodPhase.READY
        elif self.containers_ready:
            phase = PodPhase.CONTAINERS_READY
        return m.PodFact(
            **self._common(),
            phase=phase,
            sequence=self.sequence,
            deleting=self.deleting,
            reason="CrashLoopBackOff" if self.failed else "",
            message="back-off restarting failed container" if self.failed else "",
            at=now,
        )

    def ref(self) -> m.PodRef:
        return m.PodRef(**self._common())

    def _common(self) -> Json:
        return {
            "uid": self.uid,
            "name": self.uid,
            "revision": self.revision,
            "ready": self.ready,
            "containers_ready": self.containers_ready and not self.failed,
            "gate": m.Gate.OPEN if self.open else m.Gate.CLOSED,
            "created_at": self.created_at,
        }


class World:
    """`flows` are the DeployFlows by name as the API server would have them, `given` the commands so far."""

    def __init__(self, replicas: int) -> None:
        self.now = 1_000_000
        self.silent: set[str] = set()
        """Kinds of commands that the executor does not get to."""
        self.containers_start = True
        self.gates_move = True
        """Readiness carries pull_in and pull_out out."""
        self.instance = Instance(namespace=NAMESPACE, name=INSTANCE)
        self.flows: dict[str, Json] = {}
        self.given: list[m.Command] = []
        self.pods = [WorldPod(f"old-{n}", "old", containers_ready=True, open=True) for n in range(replicas)]
        self.facts = m.CloneSetFacts(
            generation=1, observed_generation=1, replicas=replicas, update_revision="old"
        )
        self._made = 0
        self._written: int | None = None
        """The replicas that Triton set last; the planner's own idea of them counts until then."""
        self._unanswered: list[m.Command] = []

    # --- what people do ---

    def apply(self, name: str, strategy: Json, *, replicas: int | None = None) -> None:
        """A new DeployFlow, to a revision of its own."""
        spec = {
            "action": "update",
            "application": {
                "appID": 1,
                "groupID": 1,
                "appName": "web",
                "instanceName": INSTANCE,
                "replicas": self.facts.replicas if replicas is None else replicas,
                "template": {"spec": {"containers": [{"name": "web", "image": f"web:{name}"}]}},
            },
            "updateStrategy": strategy,
        }
        meta = {"name": name, "namespace": NAMESPACE, "generation": 1, "resourceVersion": "1"}
        self.flows[name] = {"metadata": meta, "spec": spec}
        self.tell(self._observed(name))

    def change(self, name: str, fields: Json) -> None:
        """A patch of the strategy."""
        flow = self.flows[name]
        flow["spec"]["updateStrategy"] = {**flow["spec"]["updateStrategy"], **fields}
        flow["metadata"]["generation"] += 1
        self.tell(self._observed(name))

    def delete(self, name: str) -> None:
        self.flows[name]["metadata"]["deletionTimestamp"] = "now"
        self.tell(self._observed(name))

    def scale(self, by: int) -> None:
        """Somebody else, an HPA perhaps, adds to the CloneSet's replicas; the executor's watch tells it."""
        self.now += 1
        self.facts = self.facts.model_copy(update={"replicas": self.facts.replicas + by})
        self._make_and_delete()
        for pod in self.pods:
            if pod.created_at == self.now:
                pod.open = pod.containers_ready = True
        self.tell(
            m.CloneSetSeen(
                namespace=NAMESPACE, instance=INSTANCE, sequence=self.facts.sequence, cloneset=self.facts
            )
        )
        self._tell_pods()

    def _observed(self, name: str) -> m.SpecObserved:
        flow = self.flows[name]
        return m.SpecObserved(
            namespace=NAMESPACE,
            instance=INSTANCE,
            flow=m.FlowRef(name=name, uid=f"uid-{name}"),
            generation=flow["metadata"]["generation"],
            created_at=self.now,
            deleting="deletionTimestamp" in flow["metadata"],
            spec=flow["spec"],
        )

    # --- what can be seen ---

    def flow(self, name: str) -> Flow:
        return next(flow for flow in self.instance.flows if flow.name == name)

    def seen(self, name: str) -> Json:
        """The DeployFlow with its status."""
        return {**self.flows[name], "status": status_of(self.instance, self.flow(name))}

    def spec_fields(self, name: str) -> Json:
        fields: Json = self.flows[name]["spec"]["updateStrategy"]
        return fields

    def spec(self, name: str) -> DeployFlowSpec:
        return DeployFlowSpec.model_validate(self.flows[name]["spec"])

    # --- the loop ---

    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.tell(m.Due(namespace=NAMESPACE, instance=INSTANCE))

    def run_until(self, what: Callable[[], bool], seconds: int = 3600) -> None:
        for _ in range(seconds):
            if what():
                return
            self.wait(1000)
        raise AssertionError(f"never came: {self.instance}")

    def tell(self, fact: Fact) -> None:
        """Decide on a fact, and on all that follows from it."""
        facts: list[Fact] = [fact]
        while facts:
            decision = decide(self.instance, [facts.pop(0)], self.now, resend_ms=RESEND_MS)
            self.instance = decision.instance
            for command in decision.commands:
                self.given.append(command)
                facts += self._carry_out(command)

    def go_on(self) -> None:
        """Let everything happen that was held back."""
        self.containers_start = self.gates_move = True
        self.silent = set()
        unanswered, self._unanswered = self._unanswered, []
        for command in unanswered:
            for fact in self._carry_out(command):
                self.tell(fact)
        for pod in self.pods:
            pod.containers_ready = True
        self._tell_pods()

    def _tell_pods(self) -> None:
        for fact in self._look():
            self.tell(fact)

    def fail(self) -> None:
        """Every pod that was made since the start crashes."""
        for pod in self.pods:
            pod.failed = pod.failed or pod.revision != "old"
        self._tell_pods()

    def _carry_out(self, command: m.Command) -> list[Fact]:
        if isinstance(command, (m.PullIn, m.PullOut)):
            if not self.gates_move:
                self._unanswered.append(command)
                return []
            for pod in self.pods:
                if pod.uid in command.uids:
                    pod.open, pod.sequence = isinstance(command, m.PullIn), command.sequence
            return self._look()
        if command.model_dump()["type"] in self.silent:
            self._unanswered.append(command)
            return []
        before = [pod.ref() for pod in self.pods if not pod.deleting]
        head = {"namespace": NAMESPACE, "instance": INSTANCE, "sequence": command.sequence}
        if isinstance(command, m.Observe):
            return [m.Done(**head, cloneset=self.facts, pods=before)]
        if isinstance(command, m.Scale) and self.facts.replicas not in {
            self._written,
            command.accept_replicas,
        }:
            return [m.ReplicasChanged(**head, replicas=self.facts.replicas)]
        self._write(command)
        return [m.Done(**head, cloneset=self.facts, pods=before), *self._look()]

    def _write(self, command: m.Command) -> None:
        changes: Json = {"sequence": command.sequence}
        named: list[str] = []
        match command:
            case m.Surge():
                changes |= {
                    "replicas": command.replicas,
                    "partition": command.partition,
                    "hold": command.hold,
                }
                if command.application is not None:
                    changes["update_revision"] = command.flow.name
                named = command.retire
            case m.Retire():
                changes |= {"replicas": command.replicas, "partition": command.partition, "hold": None}
                named = command.retire
            case m.Halt():
                changes["replicas"] = max(sum(not pod.deleting for pod in self.pods), self._floor())
            case m.Cancel():
                changes |= {"replicas": command.keep, "hold": None}
                named = command.drop
                if command.restore_template:
                    changes["update_revision"] = "old"
            case m.Finish():
                changes |= {"partition": 0, "hold": None}
        self.facts = self.facts.model_copy(update=changes)
        self._written = self.facts.replicas
        self._make_and_delete(named)

    def _floor(self) -> int:
        hold = self.facts.hold
        return hold.updated + hold.others if hold else self.facts.replicas

    def _make_and_delete(self, named: list[str] | None = None) -> None:
        for pod in self.pods:
            pod.deleting = pod.deleting or pod.uid in (named or [])
        live = [pod for pod in self.pods if not pod.deleting]
        # too many and nobody named: OpenKruise takes from the revision that has more than the partition says
        for _ in range(len(live) - self.facts.replicas):
            target = self.facts.update_revision
            others = sum(pod.revision != target for pod in live)
            surplus = [pod for pod in live if (pod.revision != target) == (others > self.facts.partition)]
            surplus[-1].deleting = True
            live.remove(surplus[-1])
        for _ in range(self.facts.replicas - len(live)):
            self._made += 1
            others = sum(pod.revision != self.facts.update_revision and not pod.deleting for pod in self.pods)
            revision = "old" if others < self.facts.partition else self.facts.update_revision
            uid = f"{revision}-{self._made:02d}"
            self.pods.append(
                WorldPod(uid, revision, containers_ready=self.containers_start, created_at=self.now)
            )

    def _look(self) -> list[Fact]:
        gone = [m.PodGone(uid=pod.uid, name=pod.uid) for pod in self.pods if pod.deleting]
        self.pods = [pod for pod in self.pods if not pod.deleting]
        facts = [pod.fact(self.now) for pod in self.pods]
        return [m.PodsSeen(namespace=NAMESPACE, instance=INSTANCE, pods=facts, gone=gone, at=self.now)]
