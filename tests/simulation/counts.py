"""Surroundings in which somebody else scales, the executor's answers take their time, and the planner's ownership moves.

Two planners differ from one in what arrives: a new owner begins at the last committed offset and publishes what was
stored and perhaps not published; the old owner may go on for a while with the records that it has read. Both write the
same state by compare-and-set, so a decision on an old copy is made again on the stored one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from services.planner.decision.apply_facts import Fact
from services.planner.model.state import Flow, Step
from shared.domain import messages as m
from shared.domain.json_types import Json
from shared.kube.clonesets import REPLICAS, SEQUENCE
from tests.simulation.cluster import SimulatedPod
from tests.simulation.surroundings import TOPICS, Surroundings


class CountsOfOthers(Surroundings):
    """`last`: the count that somebody else wrote last, None while a release may begin with another one."""

    def __init__(self, replicas: int) -> None:
        super().__init__(replicas)
        self.cluster.disturbed = True
        # what earlier releases have left
        assert self.cluster.body is not None
        self.cluster.body["metadata"]["annotations"] = {SEQUENCE: "100", REPLICAS: str(replicas)}
        self.last: int | None = None
        self._answers: deque[Fact] = deque()
        self._worked: list[m.ExecutorCommand] = []
        self._left: dict[str, deque[Fact]] = {topic: deque() for topic in TOPICS}
        """What the planner before has read and not handled."""
        self._outbox: list[m.Command] = []
        """The commands of the last decision that issued any."""
        self._flow: Flow | None = None

    # --- somebody else ---

    def scale_to(self, count: int) -> None:
        """Write a count; one that equals the live one can't be seen."""
        if self.cluster.body is None or count == self.cluster.facts.replicas:
            return
        planned = self._flow is not None and self._flow.step not in {Step.QUEUED, Step.OBSERVE}
        if planned and count not in {self.cluster.facts.replicas_set, self.instance.cloneset.replicas}:
            self.last = count
        elif self._flow is None or self._flow.scaled_to != count or self.last != count:
            # before the plan the release's own count matters; one that is known again may never be seen
            self.last = None
        self.cluster.scale_to(count)

    # --- the executor ---

    def executor_works(self) -> None:
        if self.executor:
            self._worked.append(self.executor.popleft())
            self._answers.append(self._carry_out(self._worked[-1]))

    def executor_starts_again(self, uncommitted: int) -> None:
        """Deliver its last commands again: they were answered, and their offsets not committed."""
        self.executor.extendleft(reversed(self._worked[-uncommitted:]))

    def executor_answers(self) -> None:
        """Publish the next answer: the watch may have reported what the command changed before."""
        if self._answers:
            self._publish(self._answers.popleft())

    # --- the planners ---

    def ownership_moves(self, uncommitted: int) -> None:
        """Have the other planner take over; the last records of each topic were not committed by the one before."""
        for topic in TOPICS:
            self._left[topic] = deque(self.facts[topic])
            again = list(self.taken[topic])[-uncommitted:] if uncommitted else []
            self.facts[topic].extendleft(reversed(again))
        for command in self._outbox:
            self._send(command)

    def old_owner_takes(self, topic: str) -> None:
        """Have the planner before decide on a record that it has read, before it learns that it is not the owner."""
        if self._left[topic]:
            self.decides(self._left[topic].popleft())

    def decides(self, fact: Fact) -> None:
        known = set(self._issued)
        super().decides(fact)
        self._flow = next(iter(self.instance.flows), self._flow)
        if new := [command for sequence, command in self._issued.items() if sequence not in known]:
            self._outbox = new

    # --- the acts of a random walk ---

    def does(self, act: str) -> None:
        """Do what everybody around a release does by themselves; the name of a topic: the planner reads a record of it."""
        match act:
            case "executor":
                self.executor_works()
            case "answer":
                self.executor_answers()
            case "kruise":
                self.kruise_works()
            case "pods go":
                self.pods_go()
            case "readiness":
                self.readiness_works()
            case "start":
                for pod in self.cluster.live:
                    self.start(pod)
            case "all":
                self.settles()
            case "next":
                self.advance()
            case _:
                self.takes(act)

    def advance(self) -> None:
        """Approve the next batch, as a person does."""
        if not self.began:
            return
        fields: Json = {"batches": len(self.flow.batches) + 1}
        if self.flow.updating:
            fields["stage"] = None
        self.change(self.flow.name, fields)

    def goes_well(self) -> None:
        for flow in self.instance.flows:
            assert not flow.failed, (flow.reason, flow.message)

    # --- to a rest ---

    def calms(self) -> None:
        """Let everybody work until nothing changes, also after the longest wait between two attempts."""
        for _ in range(3):
            self.settles()
            self.time_passes(61_000)
        self.settles()

    def _all(self) -> list[Callable[[], None]]:
        return [self.executor_answers, *super()._all()]

    def settles(self, rounds: int = 500) -> None:
        super().settles(rounds)
        while self._answers:
            super().settles(rounds)

    @property
    def began(self) -> bool:
        return self._flow is not None

    @property
    def flow(self) -> Flow:
        """The release that is looked at, also where it has ended."""
        assert self._flow is not None
        return self._flow

    def of(self, revision: str) -> list[SimulatedPod]:
        return self.cluster.of(revision)
