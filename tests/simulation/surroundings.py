"""The planner among messages that take their time: every topic is a queue, and a driver says what comes next.

Commands wait for the executor and for readiness, answers and facts for the planner, each topic in its own
order. After every step the planner is held to its promises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from services.planner.decision.apply_facts import Fact, make_flow
from services.planner.decision.decide import Decision, decide
from services.planner.model.state import PRE_EXISTING, Flow, Instance, Step
from services.planner.recovery.rebuild import rebuild
from services.planner.rules.freeze_hold import NO_WINDOWS
from services.planner.views.status import status_of
from shared.domain import messages as m
from shared.domain.deployflow import UPDATING, FlowPhase
from shared.domain.json_types import Json
from shared.domain.topics import BATCH_RESULTS, PHASE_EVENTS, PLANNER_FACTS, Key
from tests.simulation.cluster import HEAD, INSTANCE, NAMESPACE, Cluster, SimulatedPod, application

RESEND_MS = 10_000
TOPICS = (PLANNER_FACTS, BATCH_RESULTS, PHASE_EVENTS)


def _field(action: str) -> str:
    return "updateStrategy" if action in UPDATING else "nonUpdateStrategy"


class Surroundings:
    """`written`: the `.status` of each DeployFlow as the API server has it; `before`: as it was one decision ago."""

    def __init__(self, replicas: int) -> None:
        self.cluster = Cluster(replicas)
        self.cluster.containers_start = False
        self.instance = Instance(namespace=NAMESPACE, name=INSTANCE)
        self.flows: dict[str, Json] = {}
        self.written: dict[str, Json] = {}
        self.before: dict[str, Json] = {}
        self.facts: dict[str, deque[Fact]] = {topic: deque() for topic in TOPICS}
        self.taken: dict[str, deque[Fact]] = {topic: deque(maxlen=3) for topic in TOPICS}
        self.executor: deque[m.ExecutorCommand] = deque()
        self.readiness: deque[m.GateCommand] = deque()
        self.refused: set[str] = set()
        self.windows = NO_WINDOWS
        self._issued: dict[int, m.Command] = {}
        self._highest = 0
        self._batches: dict[str, int] = {}
        self._floor: dict[str, int] = {}
        self._last_seen: m.CloneSetSeen | None = None

    # --- people ---

    def apply(self, strategy: Json, replicas: int, action: str = "update", revision: str = "") -> str:
        name = f"r{len(self.flows) + 1}"
        self.flows[name] = {
            "generation": 1,
            "created_at": self.cluster.now + len(self.flows),
            "deleting": False,
            "spec": {
                "action": action,
                "application": application(revision or name, replicas),
                _field(action): strategy,
            },
        }
        self._publish(self.observed(name))
        return name

    def change(self, name: str, fields: Json) -> None:
        flow = self.flows[name]
        field = _field(flow["spec"]["action"])
        flow["spec"] = {**flow["spec"], field: {**flow["spec"][field], **fields}}
        flow["generation"] += 1
        self._publish(self.observed(name))

    def updating(self, name: str) -> bool:
        return self.flows[name]["spec"]["action"] in UPDATING

    def strategy(self, name: str) -> Json:
        spec = self.flows[name]["spec"]
        found: Json = spec[_field(spec["action"])]
        return found

    def delete(self, name: str) -> None:
        self.flows[name]["deleting"] = True
        self._publish(self.observed(name))

    def observed(self, name: str, status: Json | None = None) -> m.SpecObserved:
        ref = m.FlowRef(name=name, uid=f"uid-{name}")
        return m.SpecObserved(**HEAD, flow=ref, status=status or {}, **self.flows[name])

    @property
    def commands(self) -> list[m.Command]:
        """The commands issued so far, each once."""
        return list(self._issued.values())

    def unfinished(self) -> list[str]:
        return [name for name in self.flows if not self.written.get(name, {}).get("finished")]

    # --- the cluster, one thing at a time ---

    def executor_works(self) -> None:
        if self.executor:
            command = self.executor.popleft()
            result = self._carry_out(command)
            if isinstance(command, m.Observe):
                self._begins(command.flow)
            self._publish(result)

    def _carry_out(self, command: m.ExecutorCommand) -> Fact:
        if getattr(command, "application", None) is not None:
            spec = self.flows[command.flow.name]["spec"]
            command = command.model_copy(update={"application": spec["application"]})
        result = self.cluster.carry_out(command)
        assert isinstance(result, Fact)
        return result

    def _begins(self, flow: m.FlowRef) -> None:
        """Record how many pods serve when a release begins: it leaves at least so many, or as many as are wanted."""
        spec = self.flows[flow.name]["spec"]
        wanted = spec["application"]["replicas"]
        there = self._capacity()
        lowest = {"restart": there, "scale_out": there, "start": there, "stop": 0, "delete": 0}
        self._floor.setdefault(flow.uid, lowest.get(spec["action"], min(wanted, there)))

    def kruise_works(self) -> None:
        before = self._capacity()
        seen = self.cluster.reconcile()
        self._held(before, "OpenKruise deletes by command")
        if seen is not None and seen != self._last_seen:
            self._last_seen = seen
            self._publish(seen)
        self.report_pods()

    def cloneset_went(self) -> None:
        """Report the deletion of the CloneSet and its pods, as the executor's watch and readiness do."""
        if self._last_seen is not None:
            gone = m.CloneSetFacts(exists=False)
            self._publish(m.CloneSetSeen(**HEAD, sequence=self._last_seen.sequence, cloneset=gone))
            self._last_seen = None
        self.report_pods()

    def pods_go(self) -> None:
        self.cluster.terminate()
        self.report_pods()

    def readiness_works(self) -> None:
        if self.readiness:
            before = self._capacity()
            self.cluster.move_gates(self.readiness.popleft())
            self._held(before, "gates close by command")
        self.cluster.open_unclaimed()
        self.report_pods()

    def report_pods(self) -> None:
        for pod in self.cluster.pods:
            pod.troubled = pod.troubled and not pod.ready
        news = self.cluster.news()
        if news is not None:
            self._publish(news)

    def _capacity(self) -> int:
        """Count the pods that serve, and those that would if nothing had happened to them."""
        return sum(pod.ready or pod.troubled for pod in self.cluster.live)

    def _held(self, before: int, what: str) -> None:
        """Check that the planner's commands leave as many serving as are wanted, or as there were."""
        after = self._capacity()
        flow = self.instance.active or (self.instance.finished[-1] if self.instance.finished else None)
        if after < before and flow is not None and not self.cluster.disturbed:
            floor = min(self._floor.get(flow.uid, 0), flow.wanted)
            assert after >= floor, f"{what}: {after} of {floor} pods go on serving (before: {before})"

    # --- what happens to pods ---

    def crash(self, pod: SimulatedPod) -> None:
        pod.failed, pod.troubled = True, pod.troubled or pod.ready
        self.report_pods()

    def stumble(self, pod: SimulatedPod) -> None:
        """Make its containers unready for a while."""
        pod.troubled = pod.troubled or pod.ready
        pod.containers_ready = False
        self.report_pods()

    def start(self, pod: SimulatedPod) -> None:
        pod.containers_ready, pod.failed = True, False
        self.report_pods()

    def vanish(self, pod: SimulatedPod) -> None:
        self.cluster.pods.remove(pod)
        # from now on the effect of a command can't be distinguished from what happened to the pod
        self.cluster.disturbed = True
        self.report_pods()

    # --- the planner ---

    def _publish(self, fact: Fact) -> None:
        self.facts[m.TOPIC_OF[type(fact)]].append(fact)

    def takes(self, topic: str) -> None:
        """Have the planner take the next fact of a topic."""
        if self.facts[topic]:
            fact = self.facts[topic].popleft()
            self.taken[topic].append(fact)
            self.decides(fact)

    def takes_again(self, topic: str) -> None:
        """Deliver the last records once more, in their order, as after a rebalance."""
        for fact in list(self.taken[topic]):
            self.decides(fact)

    def time_passes(self, milliseconds: int) -> None:
        self.cluster.now += milliseconds
        self.decides(m.Due(**HEAD))

    def decides(self, fact: Fact) -> None:
        old = self.instance
        decision = decide(old, [fact], self.cluster.now, resend_ms=RESEND_MS, windows=self.windows)
        self.instance = decision.instance
        self._check(old, fact, decision)
        for command in decision.commands:
            self._send(command)
        if decision.instance is not old:
            self._write_status()

    def _send(self, command: m.Command) -> None:
        if isinstance(command, (m.PullIn, m.PullOut)):
            self.readiness.append(command)
        else:
            assert isinstance(command, m.ExecutorCommand)
            self.executor.append(command)

    def _write_status(self) -> None:
        self.before = dict(self.written)
        for flow in self.instance.flows:
            self.written[flow.name] = status_of(self.instance, flow)
        for flow in self.instance.finished:
            self._publish(self.observed(flow.name, {"finished": True}))

    def lose_redis(self, *, behind: bool) -> None:
        """Rebuild the state after the loss of Redis; `.status` may lack the last decision.

        Not where the CloneSet doesn't show what was under way: a cancel or a pull-out that is in no status, a
        batch that only removes.
        """
        active = self.instance.active
        batch = active.open_batch if active is not None else None
        if active is not None and batch is not None and not batch.surge and not active.shrinking:
            return
        ending = any(str(status["message"]).startswith("ending") for status in self.before.values())
        if ending or (active is not None and active.step in {Step.CANCEL, Step.PULL_OUT}):
            return
        written = self.before if behind else self.written
        self.instance = rebuild(
            Key(NAMESPACE, INSTANCE),
            [
                self.observed(
                    name, {"finished": True} if written.get(name, {}).get("finished") else written.get(name)
                )
                for name in self.flows
            ],
            make_flow,
            self.cluster.now,
        )
        self.written = dict(written)
        self._highest = 0
        self._issued = {}
        self._batches = {}
        self.decides(m.Due(**HEAD))

    # --- what the planner promises ---

    def _check(self, old: Instance, fact: Fact, decision: Decision) -> None:
        new = decision.instance
        changed = new is not old
        assert new.version == old.version + changed
        assert changed or not (decision.commands or decision.events)
        again = decide(new, [fact], self.cluster.now, resend_ms=RESEND_MS, windows=self.windows)
        assert not (again.commands or again.events), f"a repeated fact changes something: {fact}"
        # pods that a release has ended with are news to the next one
        assert again.instance is new or isinstance(fact, m.PodsSeen), f"a repeated fact is news: {fact}"
        for command in decision.commands:
            self._check_command(new, command)
        assert all(flow.phase.finished for flow in new.finished)
        assert all(flow.phase == FlowPhase.PENDING and not flow.batches for flow in new.waiting)
        if new.active is not None:
            assert new.active.phase != FlowPhase.PENDING
            assert not new.active.phase.finished
        for flow in new.flows:
            self._check_batches(flow)

    def _check_command(self, new: Instance, command: m.Command) -> None:
        if command.sequence in self._issued:
            assert command == self._issued[command.sequence], "a command that is sent again is the same"
            return
        assert command.sequence > self._highest, "sequences rise"
        self._highest = command.sequence
        self._issued[command.sequence] = command
        if isinstance(command, m.PullIn):
            pods = [(uid, pod) for uid, pod in new.pods.items() if not pod.deleting]
            # one from before has had traffic
            started = {uid for uid, pod in pods if pod.containers_ready or pod.batch == PRE_EXISTING}
            assert set(command.uids) <= started, "no traffic for a pod whose containers are not ready"
        if isinstance(command, m.Scale):
            assert command.replicas >= 0
            assert 0 <= command.partition <= command.replicas + len(command.retire)

    def _check_batches(self, flow: Flow) -> None:
        numbers = [batch.number for batch in flow.batches]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= self._batches.get(flow.uid, 0), "batch numbers only grow"
        self._batches[flow.uid] = len(numbers)

    # --- to the end ---

    def settles(self, rounds: int = 500) -> None:
        """Let everybody work until nothing changes any more."""
        quiet = 0
        for _ in range(rounds):
            for pod in self.cluster.live:
                pod.containers_ready = pod.containers_ready or not pod.failed
            for act in (*self._all(), self.pods_go, self.readiness_works):
                act()
            quiet = 0 if any(self.facts.values()) or self.executor or self.readiness else quiet + 1
            if quiet == 2:
                return
        raise AssertionError(f"messages never end: {self.instance}")

    def _all(self) -> list[Callable[[], None]]:
        takes = [lambda topic=topic: self.takes(topic) for topic in TOPICS]
        return [self.executor_works, self.kruise_works, *takes]

    def ends(self, rounds: int = 200) -> None:
        """Heal the pods, approve every release, cancel those that failed, and wait for the end of all."""
        for pod in self.cluster.live:
            self.start(pod)
        for _ in range(rounds):
            self.settles()
            if not self.unfinished():
                return
            for name in self.unfinished():
                self._approve(name)
            self.time_passes(15_000)
        raise AssertionError(f"{self.unfinished()} never end: {self.instance}")

    def _approve(self, name: str) -> None:
        flow = next((flow for flow in self.instance.flows if flow.name == name), None)
        if flow is None:
            return
        onwards: Json = {"paused": False, "batches": 99, "stage": None}
        wanted = {"canceled": True} if flow.failed else onwards
        if not self.updating(name):
            onwards.pop("stage")
        if any(self.strategy(name).get(field) != value for field, value in wanted.items()):
            self.change(name, wanted)
