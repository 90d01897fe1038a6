"""Whatever happens, in whatever order: the planner keeps its promises and every release comes to an end."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from shared.domain.deployflow import FlowPhase, NonUpdateStrategy
from shared.domain.json_types import Json
from tests.simulation.strategies import DRAWN, drawn_values
from tests.simulation.surroundings import TOPICS, Surroundings

SIZES = st.sampled_from(DRAWN["batchSize"])
STRATEGIES = st.fixed_dictionaries(
    {field: st.sampled_from(values) for field, values in drawn_values().items()}
)
OF_OTHER_ACTIONS = frozenset(info.alias for info in NonUpdateStrategy.model_fields.values())
ACTIONS = st.sampled_from(["restart", "scale_out", "scale_in", "stop", "start", "delete"])
WANTED = st.integers(min_value=0, max_value=6)
WHICH = st.integers(min_value=0, max_value=20)
TOPIC = st.sampled_from(TOPICS)


class Releases(RuleBasedStateMachine):
    """One instance with up to four releases, among messages that are late, doubled, dropped and out of order."""

    @initialize(replicas=st.integers(min_value=0, max_value=5), strategy=STRATEGIES, wanted=WANTED)
    def begins(self, replicas: int, strategy: Json, wanted: int) -> None:
        self.around = Surroundings(replicas)
        self.around.apply(strategy, wanted)
        self.around.settles()

    # --- people ---

    @precondition(lambda self: len(self.around.flows) < 4)
    @rule(strategy=STRATEGIES, wanted=WANTED)
    def new_release(self, strategy: Json, wanted: int) -> None:
        self.around.apply(strategy, wanted)

    @precondition(lambda self: len(self.around.flows) < 4)
    @rule(action=ACTIONS, strategy=STRATEGIES, wanted=WANTED, named=st.integers(min_value=0, max_value=2))
    def new_action(self, action: str, strategy: Json, wanted: int, named: int) -> None:
        strategy = {name: value for name, value in strategy.items() if name in OF_OTHER_ACTIONS}
        if action in {"restart", "scale_in"} and named:
            strategy["podsToDelete"] = [pod.name for pod in self.around.cluster.live][:named]
        self.around.apply(strategy, wanted, action)

    @precondition(lambda self: len(self.around.flows) < 4)
    @rule(which=WHICH, strategy=STRATEGIES, wanted=WANTED)
    def roll_back(self, which: int, strategy: Json, wanted: int) -> None:
        self.around.apply(
            strategy, wanted, "rollback", sorted(self.around.flows)[which % len(self.around.flows)]
        )

    def _change(self, which: int, fields: Json) -> None:
        names = self.around.unfinished()
        if names:
            self.around.change(names[which % len(names)], fields)

    @rule(which=WHICH)
    def pause(self, which: int) -> None:
        self._change(which, {"paused": True})

    @rule(which=WHICH)
    def resume(self, which: int) -> None:
        self._change(which, {"paused": False})

    @rule(which=WHICH, batches=st.integers(min_value=1, max_value=5))
    def go_ahead(self, which: int, batches: int) -> None:
        self._change(which, {"batches": batches})

    @rule(which=WHICH)
    def retry(self, which: int) -> None:
        names = self.around.unfinished()
        if names:
            name = names[which % len(names)]
            self.around.change(name, {"retries": self.around.strategy(name).get("retries", 0) + 1})

    @rule(which=WHICH, stage=st.sampled_from(["Smoked", "Baking", "Baked"]))
    def go_ahead_to_a_stage(self, which: int, stage: str) -> None:
        names = [name for name in self.around.unfinished() if self.around.updating(name)]
        if names:
            self.around.change(names[which % len(names)], {"batches": 1 + which % 3, "stage": stage})

    @rule(which=WHICH, size=SIZES)
    def another_batch_size(self, which: int, size: int | str | None) -> None:
        self._change(which, {"batchSize": size})

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        self._change(which, {"canceled": True})

    @rule(which=WHICH)
    def delete(self, which: int) -> None:
        names = self.around.unfinished()
        if names:
            self.around.delete(names[which % len(names)])

    # --- pods ---

    @precondition(lambda self: self.around.cluster.live)
    @rule(which=WHICH)
    def containers_start(self, which: int) -> None:
        live = self.around.cluster.live
        self.around.start(live[which % len(live)])

    @rule()
    def all_containers_start(self) -> None:
        for pod in self.around.cluster.live:
            self.around.start(pod)

    @precondition(lambda self: self.around.cluster.live)
    @rule(which=WHICH)
    def crashes(self, which: int) -> None:
        live = self.around.cluster.live
        self.around.crash(live[which % len(live)])

    @precondition(lambda self: self.around.cluster.live)
    @rule(which=WHICH)
    def stumbles(self, which: int) -> None:
        live = self.around.cluster.live
        self.around.stumble(live[which % len(live)])

    @precondition(lambda self: self.around.cluster.live)
    @rule(which=WHICH)
    def vanishes(self, which: int) -> None:
        live = self.around.cluster.live
        self.around.vanish(live[which % len(live)])

    # --- the services, each at its own pace ---

    @rule()
    def executor_works(self) -> None:
        self.around.executor_works()

    @rule()
    def kruise_works(self) -> None:
        self.around.kruise_works()

    @rule()
    def pods_go(self) -> None:
        self.around.pods_go()

    @rule()
    def readiness_works(self) -> None:
        self.around.readiness_works()

    @rule(topic=TOPIC)
    def planner_takes(self, topic: str) -> None:
        self.around.takes(topic)

    @rule(topic=TOPIC)
    def planner_takes_all(self, topic: str) -> None:
        while self.around.facts[topic]:
            self.around.takes(topic)

    @rule()
    def all_goes_well(self) -> None:
        self.around.settles()

    # --- trouble between them ---

    @rule(topic=TOPIC)
    def records_come_twice(self, topic: str) -> None:
        self.around.takes_again(topic)

    @precondition(lambda self: self.around.executor)
    @rule()
    def a_command_is_lost(self) -> None:
        self.around.executor.popleft()

    @precondition(lambda self: self.around.readiness)
    @rule()
    def a_gate_command_is_lost(self) -> None:
        self.around.readiness.popleft()

    @rule(seconds=st.sampled_from([1, 6, 11, 30, 700]))
    def time_passes(self, seconds: int) -> None:
        self.around.time_passes(seconds * 1000)

    @rule(behind=st.booleans())
    def redis_is_lost(self, behind: bool) -> None:
        self.around.lose_redis(behind=behind)

    def teardown(self) -> None:
        if not hasattr(self, "around"):
            return
        self.around.ends()
        phases = {status["phase"] for status in self.around.written.values()}
        assert phases <= {phase for phase in FlowPhase if phase.finished}
        assert self.around.instance.active is None
        # a pulled-out pod that a cancel keeps because others vanished has no way back into traffic
        known = self.around.cluster.disturbed
        left = [
            pod.name for pod in self.around.cluster.live if not pod.ready and not (known and pod.pulled_out)
        ]
        assert not left, "nobody is left without traffic"


TestReleases = Releases.TestCase
TestReleases.settings = settings(
    max_examples=400,
    stateful_step_count=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
