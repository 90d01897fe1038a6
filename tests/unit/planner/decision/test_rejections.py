"""A command that is rejected again and again: nothing goes round without a wait, and a person always gets through."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from services.planner.decision.apply_facts import Fact
from services.planner.decision.deadlines import next_deadline
from services.planner.decision.decide import decide
from services.planner.model.state import Instance
from services.planner.rules.retry_backoff import FIRST_MS, LONGEST_MS
from services.planner.views.status import status_of
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from tests.simulation.cluster import HEAD, NAMESPACE, OLD
from tests.simulation.world import RESEND_MS, World
from tests.unit.planner.releases import message, reason

TERMINATING = f'clonesets.apps.kruise.io "web" is forbidden: namespace {NAMESPACE} is being terminated'
AT_ONCE = 3
"""How often a command that is rejected each time may be issued without a wait."""
REFUSALS = (
    "Forbidden",
    "Invalid",
    "NotFound",
    "AlreadyExists",
    "FlowFinished",
    "InternalError",
    "NotOurs",
    "LabelsMissing",
)

Answer = Callable[[World, Any], Fact]
"""(world, command) → what the executor, or readiness, makes known on it."""


def _refused(why: str) -> Answer:
    return lambda _, command: m.Refused(**HEAD, sequence=command.sequence, reason=why, message=TERMINATING)


def _superseded(_: World, command: m.ExecutorCommand) -> Fact:
    return m.Superseded(**HEAD, sequence=command.sequence, current=command.sequence + 3)


def _victims_gone(_: World, command: m.ExecutorCommand) -> Fact:
    return m.VictimsGone(**HEAD, sequence=command.sequence, gone=["uid-old-0"])


def _replicas_changed(by: int) -> Answer:
    return lambda world, command: m.ReplicasChanged(
        **HEAD, sequence=command.sequence, replicas=max(world.instance.cloneset.replicas + by, 0)
    )


def _seen_gone(_: World, command: m.ExecutorCommand) -> Fact:
    return m.CloneSetSeen(**HEAD, sequence=command.sequence, cloneset=m.CloneSetFacts(exists=False))


def _done_without_cloneset(_: World, command: m.ExecutorCommand) -> Fact:
    return m.Done(**HEAD, sequence=command.sequence, cloneset=m.CloneSetFacts(exists=False))


ANSWERS: dict[str, Answer] = {
    **{f"Refused {why}": _refused(why) for why in REFUSALS},
    "Superseded": _superseded,
    "VictimsGone": _victims_gone,
    "ReplicasChanged up": _replicas_changed(1),
    "ReplicasChanged down": _replicas_changed(-1),
    "CloneSet seen gone": _seen_gone,
    "Done without CloneSet": _done_without_cloneset,
}


def _gates_unchanged(world: World, _: m.GateCommand) -> Fact:
    return world.cluster.everything()


def _containers_stop(world: World, command: m.GateCommand) -> Fact:
    world.cluster.move_gates(command)
    for pod in world.cluster.named(command.uids):
        pod.containers_ready = False
    return world.cluster.everything()


GATE_ANSWERS: dict[str, Answer] = {
    "gates unchanged": _gates_unchanged,
    "containers stop": _containers_stop,
}
GATE_COMMANDS = ("pull_in", "pull_out")
COMMANDS = ("observe", "surge", "retire", "halt", "cancel", "finish", "remove")
STORIES: dict[str, Callable[[World], None]] = {
    "update": lambda world: world.apply("new", {"mode": "auto", "batchSize": 2}),
    "update with a canary": lambda world: world.apply("new", {"mode": "auto", "canary": 1}),
    "update with a pull-out": lambda world: world.apply("new", {"mode": "auto", "pullOutSeconds": 2}),
    "update that fails": lambda world: world.apply("new", {"mode": "auto", "onFailure": "cancel"}),
    "restart": lambda world: world.apply("new", {"batchSize": 2}, action="restart"),
    "scale_out": lambda world: world.apply("new", {}, replicas=6, action="scale_out"),
    "scale_in": lambda world: world.apply("new", {}, replicas=2, action="scale_in"),
    "scale_in with a pull-out": lambda world: world.apply(
        "new", {"pullOutSeconds": 2}, replicas=2, action="scale_in"
    ),
    "stop": lambda world: world.apply("new", {}, action="stop"),
    "delete": lambda world: world.apply("new", {}, action="delete"),
}


class Rejecting(World):
    """Commands of one kind get this answer, whenever they are issued and at once."""

    def __init__(self, kind: str, answer: Answer) -> None:
        super().__init__(4)
        self.kind, self.answer = kind, answer

    def _carry_out(self, command: m.Command) -> list[Fact]:
        if getattr(command, "type", "") == self.kind:
            return [self.answer(self, command)]
        return super()._carry_out(command)

    def since(self, act: Callable[[], None]) -> int:
        """How many rejectable commands are issued by `act`, no time passing."""
        before = len(self.commands)
        self.after_each = self._limit
        self._before = before
        act()
        return sum(
            command.type == self.kind for command in self.commands[before:] if hasattr(command, "type")
        )

    def _limit(self) -> None:
        assert len(self.commands) - self._before < 100, f"goes round: {self.kinds[-6:]}"


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize(
    ("kind", "answer"),
    [*itertools.product(COMMANDS, ANSWERS), *itertools.product(GATE_COMMANDS, GATE_ANSWERS)],
)
def test_no_answer_makes_the_planner_issue_commands_without_a_wait(
    kind: str, answer: str, story: str
) -> None:
    world = Rejecting(kind, {**ANSWERS, **GATE_ANSWERS}[answer])
    assert world.since(lambda: STORIES[story](world)) <= AT_ONCE
    for act in (
        lambda: world.change("new", {"paused": True}),
        lambda: world.change("new", {"paused": False}),
        lambda: world.change("new", {"canceled": True}),
        lambda: world.delete("new"),
    ):
        assert world.since(act) <= AT_ONCE
        for _ in range(5):
            assert world.since(lambda: world.wait(1)) <= AT_ONCE
    started = len(world.commands)
    for _ in range(60):
        world.wait(1000)
    assert len(world.commands) - started <= 30, f"in a minute: {world.kinds[started:]}"
    if world.instance.active is not None:
        assert next_deadline(world.instance, world.now, resend_ms=RESEND_MS) is not None, (
            "never decided again"
        )


@pytest.mark.parametrize("story", STORIES)
def test_no_fact_that_is_read_again_makes_the_planner_issue_commands_each_time(story: str) -> None:
    """What the planner's own writes, its clock and the watches bring back: in every state that a release reaches."""
    world = World(4)
    states: list[Instance] = []
    world.after_each = lambda: states.append(world.instance)
    STORIES[story](world)
    for _ in range(5):
        world.wait(1000)
    world.change("new", {"canceled": True})
    for instance in states:
        for fact in _repeats(world, instance):
            issued, again = 0, instance
            for _ in range(10):
                decision = decide(again, [fact], world.now, resend_ms=RESEND_MS)
                issued += len(decision.commands)
                again = decision.instance
            assert issued <= 1, f"{type(fact).__name__} at {instance.active and instance.active.step}"


def _repeats(world: World, instance: Instance) -> list[Fact]:
    seen = m.CloneSetSeen(**HEAD, sequence=instance.sequence, cloneset=world.facts)
    facts: list[Fact] = [m.Due(**HEAD), world.cluster.everything(), seen]
    if instance.flows:
        status = status_of(instance, instance.flows[0])
        facts += [world.observed("new", status), m.SpecGone(**HEAD, flow=world.observed("new").flow)]
    return facts


def _waiting_canary() -> World:
    world = World(4)
    world.apply("new", {"mode": "auto", "canary": 1})
    assert world.where("new") == "BatchStarted 1 Smoked"
    return world


def _take_over(world: World) -> None:
    world.change("new", {"paused": True})
    world.apply("next", {"mode": "auto"})


ENDINGS: dict[str, Callable[[World], None]] = {
    "cancel": lambda world: world.change("new", {"canceled": True}),
    "delete": lambda world: world.delete("new"),
    "rollback": lambda world: world.apply("back", {"mode": "auto"}, action="rollback"),
    "take-over": _take_over,
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("cause", ["superseded", "rebuilt"])
def test_a_person_ends_a_release_whose_observation_is_refused(cause: str, ending: str) -> None:
    world = _waiting_canary()
    world.cluster.refusals["observe"] = "Forbidden"
    _require_observation(world, cause)
    world.wait(5 * LONGEST_MS)
    assert not world.flow("new").phase.finished
    ENDINGS[ending](world)
    assert world.flow("new").phase.finished


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_person_ends_a_release_whose_observation_is_not_answered(ending: str) -> None:
    world = _waiting_canary()
    world.silent.add("observe")
    _require_observation(world, "superseded")
    ENDINGS[ending](world)
    world.wait(RESEND_MS)
    assert world.flow("new").phase.finished
    assert len(world.cluster.live) == 4


def _require_observation(world: World, cause: str) -> None:
    if cause == "rebuilt":
        world.lose_redis()
        world.wait(1)
        return
    current = world.instance.sequence + 1
    world.handle(m.Superseded(**HEAD, sequence=current, current=current))


def test_a_refused_observation_fails_the_batch_once_and_is_tried_again_with_a_growing_wait() -> None:
    world = _waiting_canary()
    world.cluster.refusals["observe"] = "Forbidden"
    _require_observation(world, "superseded")
    tried = []
    for second in range(300):
        seen = world.kinds.count("observe")
        world.wait(1000)
        tried += [second] * (world.kinds.count("observe") - seen)
    gaps = [later - one for one, later in itertools.pairwise(tried)]
    assert gaps == [2, 4, 8, 16, 32, 60, 60, 60]
    assert world.where("new") == "BatchStarted 1 SmokeFailed"
    assert message(world) == "the API server says Forbidden"
    assert [event.reason for event in world.events].count("SmokeFailed") <= 1
    world.cluster.refusals.clear()
    world.wait(LONGEST_MS)
    world.steer("new", CommandType.RETRY)
    world.steer("new", CommandType.PROMOTE)
    assert world.where("new").startswith("Success")


def test_a_template_that_is_refused_after_a_scale_fails_nothing_before_it_is_written() -> None:
    """The template is only tried where the answer matters: before the first batch."""
    world = _waiting_canary()
    world.cluster.refusals["surge"] = "Forbidden"
    world.scale(2)
    assert world.where("new") == "BatchStarted 1 SmokeFailed"
    world.steer("new", CommandType.CANCEL)
    assert world.flow("new").phase == "Canceled"


def test_a_release_ends_in_a_namespace_that_is_terminating() -> None:
    """The dry run of a new CloneSet is refused there, and the CloneSet is gone."""
    world = _waiting_canary()
    _refuse_dry_runs(world)
    world.delete_cloneset()
    assert (world.flow("new").phase, reason(world)) == ("Failed", "NotFound")


def test_the_next_attempt_is_named() -> None:
    world = _waiting_canary()
    world.cluster.refusals["observe"] = "Forbidden"
    world.lose_redis()
    world.wait(1)
    world.wait(FIRST_MS)
    assert reason(world) == "Retrying"
    assert message(world).endswith("Forbidden: the API server says Forbidden")
    world.cluster.refusals.clear()
    world.wait(LONGEST_MS)
    assert reason(world) == "WaitingForNext"


def test_a_first_observation_that_was_superseded_goes_on() -> None:
    world = World(4)
    world.silent.add("observe")
    world.apply("new", {"mode": "auto"})
    world.silent.clear()
    _require_observation(world, "superseded")
    assert world.where("new") == "Success 1 Baked"


def test_a_first_write_of_the_template_that_was_superseded_goes_on() -> None:
    world = World(4)
    world.silent.add("surge")
    world.apply("new", {"mode": "auto"}, replicas=0)
    assert world.flow("new").step == "prepare"
    world.silent.clear()
    _require_observation(world, "superseded")
    assert world.flow("new").phase == "Success"


def test_a_dry_run_that_is_refused_after_redis_was_lost_fails_nothing() -> None:
    world = _waiting_canary()
    dry_runs = _refuse_dry_runs(world)
    world.lose_redis()
    world.wait(1)
    assert dry_runs == [True, False]
    assert world.where("new") == "BatchStarted 1 Smoked"
    world.steer("new", CommandType.PROMOTE)
    assert world.where("new") == "Success 2 Baked"


def _refuse_dry_runs(world: World) -> list[bool]:
    """Return whether each observation from now on was one with a dry run."""
    seen: list[bool] = []
    carry_out = world.cluster.carry_out

    def refuse(command: m.ExecutorCommand) -> m.Result:
        if isinstance(command, m.Observe):
            seen.append(command.application is not None)
            if seen[-1]:
                return m.Refused(**HEAD, sequence=command.sequence, reason="Forbidden", message="policy")
        return carry_out(command)

    world.cluster.carry_out = refuse  # type: ignore[method-assign]
    return seen


def test_a_cancel_that_openkruise_never_carries_out_ends_with_the_cloneset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenKruise leaves a CloneSet alone that is being deleted, as in a namespace that is."""
    world = _waiting_canary()
    monkeypatch.setattr(world.cluster, "reconcile", lambda: None)
    world.delete("new")
    assert not world.flow("new").phase.finished
    world.delete_cloneset()
    assert world.flow("new").phase == "Canceled"


@pytest.mark.parametrize("ending", ["cancel", "retry"])
def test_a_baked_batch_whose_retire_is_refused_keeps_its_pods(ending: str) -> None:
    world = World(4)
    world.cluster.refusals["retire"] = "Forbidden"
    world.apply("new", {"mode": "auto", "batchSize": 2, "batchIntervalSeconds": 9})
    assert (world.where("new"), reason(world)) == ("BatchStarted 1 Baked", "Forbidden")
    assert [event.reason for event in world.events].count("BatchFailed") == 1
    world.cluster.refusals.clear()
    if ending == "retry":
        world.steer("new", CommandType.RETRY)
        assert world.where("new") == "BatchFinished 1 Baked"
    else:
        world.steer("new", CommandType.CANCEL)
        assert world.flow("new").phase == "Canceled"
    assert [len(world.cluster.of(revision)) for revision in ("new", OLD)] == [2, 2]
    assert world.cluster.serving() == 4


def test_a_baking_batch_whose_observation_is_refused_keeps_its_pods_when_it_is_retried() -> None:
    world = World(4)
    world.apply("new", {"mode": "auto", "canary": 1, "batches": 1, "stage": "Baking"})
    assert world.where("new") == "BatchStarted 1 Baking"
    served = {pod.name for pod in world.cluster.of("new")}
    world.cluster.refusals["observe"] = "Forbidden"
    _require_observation(world, "superseded")
    world.wait(FIRST_MS)
    assert world.where("new") == "BatchStarted 1 BakeFailed"
    world.cluster.refusals.clear()
    world.wait(LONGEST_MS)
    world.steer("new", CommandType.RETRY)
    assert {pod.name for pod in world.cluster.of("new")} == served


# --- the end of a release ---


@pytest.mark.parametrize("step", ["pull_out", "retire"])
def test_a_cancel_of_a_baked_batch_that_was_superseded_keeps_the_pods_that_serve(step: str) -> None:
    world = World(4)
    world.silent |= {"retire", "cancel"}
    world.apply("new", {"mode": "auto", "batchSize": 2, "pullOutSeconds": 30, "batchIntervalSeconds": 9})
    if step == "retire":
        world.wait(30_000)
    assert world.flow("new").step == step
    world.change("new", {"canceled": True})
    assert world.kinds[-1] == "cancel"
    world.silent.clear()
    _require_observation(world, "superseded")
    assert world.flow("new").phase == "Canceled"
    assert [len(world.cluster.of(revision)) for revision in ("new", OLD)] == [2, 2]
    assert world.cluster.serving() == 4


def test_a_cancel_of_a_scale_in_that_was_superseded_keeps_its_pods() -> None:
    world = World(4)
    world.silent.add("cancel")
    world.apply("new", {"pullOutSeconds": 30}, replicas=2, action="scale_in")
    world.change("new", {"canceled": True})
    assert world.kinds[-2:] == ["pull_in", "cancel"]
    world.silent.clear()
    _require_observation(world, "superseded")
    assert world.flow("new").phase == "Canceled"
    assert world.cluster.serving() == 4


def test_a_cancel_does_not_wait_for_gates_that_nobody_closes() -> None:
    world = World(4)
    world.gates_move = False
    world.apply("new", {"pullOutSeconds": 30}, replicas=2, action="scale_in")
    world.change("new", {"canceled": True})
    world.wait(RESEND_MS)
    assert world.flow("new").phase == "Canceled"
    world.catch_up()
    assert world.cluster.serving() == 4


@pytest.mark.parametrize("kind", ["finish", "remove"])
def test_a_refused_end_is_tried_again_until_it_succeeds(kind: str) -> None:
    world = _refused_end(kind)
    assert (world.flow("new").phase, reason(world)) == ("BatchFinished", "Retrying")
    assert message(world).endswith("Forbidden: the API server says Forbidden")
    tried = world.kinds.count(kind)
    for _ in range(600):
        world.wait(1000)
    assert world.kinds.count(kind) - tried < 20
    world.cluster.refusals.clear()
    world.wait(LONGEST_MS)
    assert world.flow("new").phase == "Success"


@pytest.mark.parametrize("kind", ["finish", "remove"])
@pytest.mark.parametrize("cause", ["refused", "unanswered"])
@pytest.mark.parametrize("ending", ["cancel", "delete"])
def test_a_person_ends_a_release_whose_end_is_refused_or_not_answered(
    kind: str, cause: str, ending: str
) -> None:
    world = _refused_end(kind) if cause == "refused" else _unanswered_end(kind)
    ENDINGS[ending](world)
    if cause == "unanswered":
        world.wait(RESEND_MS)
    assert world.flow("new").phase == "Canceled"
    assert "after its last batch; CloneSet default/web" in message(world)


def test_a_rollback_begins_although_the_end_of_the_release_before_is_refused() -> None:
    world = _refused_end("finish")
    world.cluster.refusals.clear()
    world.apply("back", {"mode": "auto"}, action="rollback", revision=OLD)
    assert [world.flow(name).phase for name in ("new", "back")] == ["Aborted", "Success"]


def test_a_cancel_that_comes_with_the_end_changes_nothing() -> None:
    """Every batch is finished: what is under way is only the last write."""
    world = _unanswered_end("finish")
    world.change("new", {"canceled": True})
    world.catch_up()
    assert world.flow("new").phase == "Success"


def _refused_end(kind: str) -> World:
    world = World(4)
    world.cluster.refusals[kind] = "Forbidden"
    _begin_to_end(world, kind)
    return world


def _unanswered_end(kind: str) -> World:
    world = World(4)
    world.silent.add(kind)
    _begin_to_end(world, kind)
    return world


def _begin_to_end(world: World, kind: str) -> None:
    world.apply("new", {"mode": "auto"}, action="delete" if kind == "remove" else "update")
    assert (world.flow("new").step, world.kinds[-1]) == ("finish", kind)
