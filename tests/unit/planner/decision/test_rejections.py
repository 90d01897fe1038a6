"""A command that is rejected again and again: nothing goes round without a wait, and a person always gets through."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from services.planner.decision.apply_facts import Fact
from services.planner.decision.deadlines import next_deadline
from services.planner.rules.retry_backoff import FIRST_MS, LONGEST_MS
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from tests.simulation.cluster import HEAD, NAMESPACE
from tests.simulation.world import RESEND_MS, World
from tests.unit.planner.releases import message, reason

TERMINATING = f'clonesets.apps.kruise.io "web" is forbidden: namespace {NAMESPACE} is being terminated'
AT_ONCE = 3
"""How often a command that is rejected each time may be issued without a wait."""
REFUSALS = ("Forbidden", "Invalid", "NotFound", "AlreadyExists", "FlowFinished", "InternalError")

Answer = Callable[[World, m.ExecutorCommand], Fact]


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
COMMANDS = ("observe", "surge", "retire", "halt", "cancel", "finish", "remove")
STORIES: dict[str, Callable[[World], None]] = {
    "update": lambda world: world.apply("new", {"mode": "auto", "batchSize": 2}),
    "update with a canary": lambda world: world.apply("new", {"mode": "auto", "canary": 1}),
    "update that fails": lambda world: world.apply("new", {"mode": "auto", "onFailure": "cancel"}),
    "restart": lambda world: world.apply("new", {"batchSize": 2}, action="restart"),
    "scale_out": lambda world: world.apply("new", {}, replicas=6, action="scale_out"),
    "scale_in": lambda world: world.apply("new", {}, replicas=2, action="scale_in"),
    "stop": lambda world: world.apply("new", {}, action="stop"),
    "delete": lambda world: world.apply("new", {}, action="delete"),
}


class Rejecting(World):
    """Commands of one kind get this answer, whenever they are issued and at once."""

    def __init__(self, kind: str, answer: Answer) -> None:
        super().__init__(4)
        self.kind, self.answer = kind, answer

    def _carry_out(self, command: m.Command) -> list[Fact]:
        if isinstance(command, m.ExecutorCommand) and command.type == self.kind:
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
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("kind", COMMANDS)
def test_no_answer_makes_the_planner_issue_commands_without_a_wait(
    kind: str, answer: str, story: str
) -> None:
    world = Rejecting(kind, ANSWERS[answer])
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
    world.steer("new", CommandType.PROMOTE)
    assert world.where("new") == "BatchStarted 2 SmokeFailed"
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
