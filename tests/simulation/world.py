"""A world of one instance around the planner's pure decision: people, DeployFlows and a simulated cluster.

Everything happens at once, unless a switch holds it back; time is a number that a test moves on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from services.planner.decision.apply_facts import CannotInherit, Fact, make_flow
from services.planner.decision.decide import Decision, decide
from services.planner.decision.scheduling import find_inheriting
from services.planner.model.state import Flow, Instance
from services.planner.recovery.rebuild import rebuild
from services.planner.rules.freeze_hold import NO_WINDOWS
from services.planner.rules.predecessors import Predecessor
from services.planner.views.status import status_of
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType, DeployCommand, change, patch
from shared.domain.deployflow import UPDATING, DeployFlowSpec
from shared.domain.json_types import Json
from shared.domain.topics import Key
from shared.releases.specs import Unfit, inherit
from tests.simulation.cluster import HEAD, INSTANCE, NAMESPACE, OLD, Cluster, SimulatedPod, application

RESEND_MS = 10_000


def _field(action: str) -> str:
    return "updateStrategy" if action in UPDATING else "nonUpdateStrategy"


class HandledFact(NamedTuple):
    """A fact that the planner handled, its time in milliseconds, and the decision on it."""

    now: int
    fact: Fact
    decision: Decision


class World:
    """`flows`: the DeployFlows by name as the API server would have them; `commands`: those issued so far."""

    def __init__(self, replicas: int | None) -> None:
        self.cluster = Cluster(replicas)
        self.silent: set[str] = set()
        """Kinds of commands that the executor does not get to."""
        self.gates_move = True
        """Readiness carries pull_in and pull_out out."""
        self.watch_first = False
        """What a command changed is reported by the watches before its answer arrives."""
        self.instance = Instance(namespace=NAMESPACE, name=INSTANCE)
        self.windows = NO_WINDOWS
        self.terminating = False
        """The namespace is being deleted."""
        self.flows: dict[str, Json] = {}
        self.manifests: dict[str, Json] = {}
        """The specs of the DeployFlows as they were applied first."""
        self.commands: list[m.Command] = []
        self.history: list[HandledFact] = []
        self.after_each: Callable[[], None] = lambda: None
        """Called after every decision."""
        self._ended: dict[str, Flow] = {}
        self._unanswered: list[m.Command] = []

    # --- what people do ---

    def apply(
        self,
        name: str,
        strategy: Json,
        *,
        replicas: int | None = None,
        action: str = "update",
        revision: str = "",
        override: str = "",
        keeps_replicas: bool = False,
        either_direction: bool = False,
        **spec: Any,
    ) -> None:
        """Create a DeployFlow; by default of as many pods as before and of a revision of its own."""
        if replicas is None:
            last = next(reversed(self.flows), "")
            replicas = self.spec(last).application.replicas if last else self.facts.replicas
        meta = {"name": name, "namespace": NAMESPACE, "generation": 1, "resourceVersion": "1"}
        self.flows[name] = {
            "metadata": {
                **meta,
                "creationTimestamp": self.now + len(self.flows),
                "override": override,
                "keeps": keeps_replicas,
                "either": either_direction,
            },
            "spec": {
                "action": action,
                "application": application(revision or name, replicas),
                _field(action): strategy,
                **spec,
            },
        }
        self.manifests[name] = self.flows[name]["spec"]
        self.handle(self.observed(name))

    def apply_again(self, name: str, *, observed: bool = True) -> None:
        """GitOps puts the spec back; `observed`: the planner gets to see it before the next change."""
        flow = self.flows[name]
        flow["spec"] = self.manifests[name]
        flow["metadata"]["generation"] += 1
        if observed:
            self.handle(self.observed(name))

    def change(self, name: str, fields: Json) -> None:
        """Patch the strategy."""
        flow = self.flows[name]
        field = _field(flow["spec"]["action"])
        flow["spec"] = {**flow["spec"], field: {**flow["spec"][field], **fields}}
        flow["metadata"]["generation"] += 1
        self.handle(self.observed(name))

    def override_freeze(self, name: str, why: str) -> None:
        """Set the override annotation, or remove it with an empty text."""
        self.flows[name]["metadata"]["override"] = why
        self.handle(self.observed(name))

    def delete(self, name: str) -> None:
        self.flows[name]["metadata"]["deletionTimestamp"] = "now"
        self.handle(self.observed(name))

    def scale(self, by: int) -> None:
        """Scale as somebody else, an HPA perhaps, would: add to the CloneSet's replicas; the executor's watch reports it."""
        self.now += 1
        self.cluster.scale(by)
        self._handle_all(self._settled())

    def scale_to(self, count: int) -> None:
        """Write a count as somebody else would, whatever Triton has written."""
        self.scale(count - self.facts.replicas)

    def steer(self, name: str, kind: CommandType, **fields: Any) -> None:
        """Apply the command of a person; raise `Refusal`. One that has no effect any more changes nothing."""
        command = DeployCommand(id="1", type=kind, namespace=NAMESPACE, deploy_flow=name, **fields)
        flow = self.seen(name)
        changed = change(flow, command)
        if changed is not None:
            annotations = patch(flow, changed, request_id="1", requested_by="")["metadata"]["annotations"]
            there = self.flows[name]["metadata"].get("annotations", {}) | annotations
            # null removes
            self.flows[name]["metadata"]["annotations"] = {
                key: value for key, value in there.items() if value is not None
            }
            self.change(name, changed)

    def observed(self, name: str, status: Json | None = None) -> m.SpecObserved:
        flow = self.flows[name]
        return m.SpecObserved(
            **HEAD,
            flow=m.FlowRef(name=name, uid=f"uid-{name}"),
            generation=flow["metadata"]["generation"],
            created_at=flow["metadata"]["creationTimestamp"],
            deleting="deletionTimestamp" in flow["metadata"],
            freeze_override=flow["metadata"].get("override", ""),
            keeps_replicas=flow["metadata"].get("keeps", False),
            either_direction=flow["metadata"].get("either", False),
            spec=flow["spec"],
            status=status or {},
        )

    # --- what goes wrong ---

    def crash(self, *pods: SimulatedPod) -> None:
        for pod in pods:
            pod.crash()
        self.report_pods()

    def fail(self) -> None:
        """Crash every pod that was made since the start."""
        self.crash(*(pod for pod in self.pods if pod.revision != OLD))

    def vanish(self, *pods: SimulatedPod) -> None:
        """Remove pods as the drain of a node would; OpenKruise makes others."""
        self.cluster.pods = [pod for pod in self.pods if pod not in pods]
        self._handle_all(self._settled())

    def delete_namespace(self) -> None:
        """Begin the deletion of the namespace: pods are deleted, and none can be made."""
        self.terminating = True
        self.wait(0)

    def delete_cloneset(self) -> None:
        """Delete the CloneSet and its pods, as a person would; the executor's watch reports it."""
        sequence = self.facts.sequence
        self.cluster.body, self.cluster.pods = None, []
        if sequence:
            gone = m.CloneSetFacts(exists=False)
            self.handle(m.CloneSetSeen(**HEAD, sequence=sequence, cloneset=gone))
        self.report_pods()

    def take_label(self) -> None:
        """Remove the label of Triton's CloneSets, as a person would: for the executor's watch the CloneSet is gone."""
        self.cluster.labels.pop("managed-by")
        self.handle(
            m.CloneSetSeen(**HEAD, sequence=self.facts.sequence, cloneset=m.CloneSetFacts(exists=False))
        )

    def put_label_back(self) -> None:
        self.cluster.labels["managed-by"] = "triton-io"
        self._handle_all(self._settled())

    def statuses(self) -> dict[str, Json]:
        """Return the `.status` of every DeployFlow, as it would be written now."""
        return {name: status_of(self.instance, self.flow(name)) for name in self.flows}

    def lose_redis(self, statuses: dict[str, Json] | None = None) -> None:
        """Rebuild the state from what `.status` says now, or said before."""
        said = self.statuses() if statuses is None else statuses
        specs = [
            self.observed(name, {"finished": True} if status["finished"] else status)
            for name, status in said.items()
        ]
        self.instance = rebuild(Key(NAMESPACE, INSTANCE), specs, make_flow, self.now)

    def predecessors(self) -> list[Predecessor]:
        """Return the releases that have begun and whose DeployFlows exist."""
        begun = [self._ended[name] for name in self.flows if name in self._ended]
        return [Predecessor(flow.uid, flow.action, str(flow.phase)) for flow in begun if flow.started_at]

    # --- what can be seen ---

    @property
    def now(self) -> int:
        return self.cluster.now

    @now.setter
    def now(self, value: int) -> None:
        self.cluster.now = value

    @property
    def pods(self) -> list[SimulatedPod]:
        return self.cluster.pods

    @property
    def facts(self) -> m.CloneSetFacts:
        return self.cluster.facts

    @property
    def containers_start(self) -> bool:
        return self.cluster.containers_start

    @containers_start.setter
    def containers_start(self, value: bool) -> None:
        self.cluster.containers_start = value

    @property
    def kinds(self) -> list[str]:
        """The kinds of the commands issued so far."""
        return [command.model_dump(include={"type"})["type"] for command in self.commands]

    @property
    def events(self) -> list[m.FlowEvent]:
        """The events published so far."""
        return [event for entry in self.history for event in entry.decision.events]

    def where(self, name: str) -> str:
        """Return the phase of a release and its last batch with its phase."""
        flow = self.flow(name)
        batch = f" {flow.batch.number} {flow.batch.phase}" if flow.batch else ""
        return f"{flow.phase}{batch}"

    def flow(self, name: str) -> Flow:
        return next((flow for flow in self.instance.flows if flow.name == name), None) or self._ended[name]

    def seen(self, name: str) -> Json:
        """Return the DeployFlow with its status."""
        return {**self.flows[name], "status": self.status(name)}

    def status(self, name: str) -> Json:
        return status_of(self.instance, self.flow(name))

    def spec_fields(self, name: str) -> Json:
        spec = self.flows[name]["spec"]
        fields: Json = spec[_field(spec["action"])]
        return fields

    def spec(self, name: str) -> DeployFlowSpec:
        return DeployFlowSpec.model_validate(self.flows[name]["spec"])

    # --- the loop ---

    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.handle(m.Due(**HEAD))

    def run_until(self, what: Callable[[], bool], seconds: int = 3600) -> None:
        for _ in range(seconds):
            if what():
                return
            self.wait(1000)
        raise AssertionError(f"never came: {self.instance}")

    def handle(self, fact: Fact) -> None:
        """Decide on a fact, and on all that follows from it."""
        self._handle_all([fact])

    def _handle_all(self, facts: list[Fact]) -> None:
        facts = list(facts)
        while facts:
            fact = facts.pop(0)
            decision = decide(
                self.instance,
                [fact],
                self.now,
                resend_ms=RESEND_MS,
                windows=self.windows,
                predecessors=self.predecessors(),
                terminating=self.terminating,
            )
            self.instance = decision.instance
            self._ended |= {flow.name: flow for flow in self.instance.finished}
            self.history.append(HandledFact(self.now, fact, decision))
            for command in decision.commands:
                self.commands.append(command)
                facts += self._carry_out(command)
            if (waiting := find_inheriting(self.instance)) is not None:
                facts.insert(0, self._fill_in(waiting.name))
            self.after_each()

    def _fill_in(self, name: str) -> Fact:
        """Write what the release inherits into its spec, as the planner does it by the API server."""
        waiting = {flow.name for flow in self.instance.waiting}
        earlier = [self.seen(other) for other in self.flows if other not in waiting]
        if "inherits" in self.flows[name]["spec"]:
            try:
                spec = inherit(self.flows[name], earlier, self.cluster.body)
            except Unfit as unfit:
                return CannotInherit(**HEAD, flow=m.FlowRef(name=name, uid=f"uid-{name}"), message=str(unfit))
            self.flows[name]["spec"] = spec.model_dump(mode="json", exclude_unset=True, exclude_none=True)
            self.flows[name]["metadata"]["generation"] += 1
        return self.observed(name)

    def catch_up(self) -> None:
        """Carry out everything that was held back."""
        self.containers_start = self.gates_move = True
        self.silent = set()
        unanswered, self._unanswered = self._unanswered, []
        for command in unanswered:
            self._handle_all(self._carry_out(command))
        for pod in self.pods:
            pod.containers_ready = True
        self.report_pods()

    def start(self, *pods: SimulatedPod) -> None:
        """Make the containers of these pods ready."""
        for pod in pods:
            pod.containers_ready = True
        self.report_pods()

    def report_pods(self) -> None:
        self.cluster.open_unclaimed()
        self._handle_all(self._observe())

    def _carry_out(self, command: m.Command) -> list[Fact]:
        if isinstance(command, (m.PullIn, m.PullOut)):
            if not self.gates_move:
                self._unanswered.append(command)
                return []
            self.cluster.move_gates(command)
            return self._observe()
        assert isinstance(command, m.ExecutorCommand)
        if command.type in self.silent:
            self._unanswered.append(command)
            return []
        if getattr(command, "application", None) is not None:
            filled = {"application": self.flows[command.flow.name]["spec"]["application"]}
            command = command.model_copy(update=filled)
        result = self.cluster.carry_out(command)
        assert isinstance(result, Fact)
        if isinstance(command, m.Observe):
            return [result]
        settled = self._settled()
        return [*settled, result] if self.watch_first else [result, *settled]

    def _settled(self) -> list[Fact]:
        """Reconcile the CloneSet, remove the pods that go, and return what is observed then."""
        seen = self.cluster.reconcile()
        self.cluster.terminate()
        self.cluster.open_unclaimed()
        return [*([seen] if seen else []), *self._observe()]

    def _observe(self) -> list[Fact]:
        news = self.cluster.news()
        return [news] if news else []
