"""What the executor answers, and what it does not answer."""

from __future__ import annotations

from typing import Any

import pytest

from services.planner.decision.decide import decide
from services.planner.model.state import Step
from shared.domain import messages as m
from shared.domain.deploy_commands import CommandType
from shared.domain.topics import BATCH_RESULTS, PHASE_EVENTS, PLANNER_FACTS
from tests.simulation.cluster import HEAD
from tests.simulation.surroundings import Surroundings
from tests.simulation.world import RESEND_MS, World
from tests.unit.planner.releases import (
    NEW,
    batch,
    last,
    message,
    opening,
    press_next,
    reason,
    revisions,
    starting,
    update,
    without_answer,
)

KINDS = ["observe", "surge", "retire", "finish"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_unanswered_command_is_sent_again_with_the_same_sequence(kind: str) -> None:
    world = without_answer(kind)
    for _ in range(200):
        if world.kinds[-1] == kind:
            break
        world.wait(1000)
    first = world.commands[-1]
    world.wait(RESEND_MS - 1)
    assert world.commands[-1] is first
    assert reason(world) != "Unanswered"
    for _ in range(3):
        world.wait(RESEND_MS)
        assert world.kinds[-1] == kind
        assert world.commands[-1].sequence == first.sequence
        assert reason(world) == "Unanswered"
        assert f"has not answered {kind} (command {first.sequence}, sent at " in message(world)
    world.catch_up()
    assert reason(world) != "Unanswered"
    world.run_until(lambda: world.flow(NEW).phase.finished)
    assert world.where(NEW) == "Success 5 Baked"


def test_what_is_rebuilt_names_the_executor_that_does_not_answer() -> None:
    """It waits for that alone, whatever `.status` said before: an interval may be over."""
    world = update(4, mode="auto", batchSize=2, batchIntervalSeconds=20)
    world.run_until(lambda: world.flow(NEW).step == Step.BETWEEN)
    assert reason(world) == "BatchInterval"
    world.silent.add("observe")
    world.lose_redis()
    for _ in range(4):
        world.wait(RESEND_MS)
    assert reason(world) == "Unanswered"


def test_a_release_whose_deployflow_is_gone_ends_though_its_surge_is_never_sent() -> None:
    """The template went with the DeployFlow before the command was published."""
    world = without_answer("surge")
    world.run_until(lambda: world.kinds[-1] == "surge")
    world.delete(NEW)
    world.run_until(lambda: world.flow(NEW).phase.finished, seconds=60)
    assert world.flow(NEW).phase == "Canceled"


def test_gates_that_nobody_opens_are_requested_again_with_the_same_sequence() -> None:
    world = opening(4)
    world.wait(RESEND_MS)
    first, second = [command for command in world.commands if isinstance(command, m.PullIn)]
    assert first == second
    assert message(world).startswith("readiness has not changed the gates for pull_in (command ")


def test_a_command_that_is_answered_is_not_sent_again() -> None:
    world = update(4, batchSize=2, bakeSeconds=500)
    issued = len(world.commands)
    for _ in range(20):
        world.wait(RESEND_MS)
    assert world.commands[issued:] == []


def test_a_command_carried_out_twice_is_carried_out_once() -> None:
    world = without_answer("surge", 4)
    for _ in range(3):
        world.wait(RESEND_MS)
    world.catch_up()  # all four copies arrive now
    world.run_until(lambda: world.flow(NEW).phase.finished)
    assert revisions(world) == {NEW: 4}


def test_every_command_has_a_higher_sequence_than_the_one_before() -> None:
    world = update(6, batchSize=2)
    sequences = [command.sequence for command in world.commands]
    assert sequences == sorted(set(sequences))


def test_the_sequence_goes_on_from_one_release_to_the_next() -> None:
    world = update(4)
    before = world.commands[-1].sequence
    issued = len(world.commands)
    world.apply("next", {"mode": "auto"})
    assert world.commands[issued].sequence == before + 1


def test_an_answer_to_an_old_command_changes_nothing() -> None:
    world = without_answer("surge", 4)
    stale = m.Done(**HEAD, sequence=1, cloneset=world.facts)
    decision = decide(world.instance, [stale], world.now, resend_ms=RESEND_MS)
    assert decision.instance is world.instance


# --- Superseded ------------------------------------------------------------------------------------------


def test_superseded_the_planner_looks_again_and_goes_on_with_a_higher_sequence() -> None:
    world = without_answer("surge", 4)
    world.handle(m.Superseded(**HEAD, sequence=world.commands[-1].sequence, current=90))
    assert world.kinds[-2:] == ["observe", "surge"]
    assert [command.sequence for command in world.commands[-2:]] == [91, 92]
    world.catch_up()
    assert world.where(NEW) == "Success 2 Baked"


def test_superseded_by_nothing_newer_than_what_is_known_is_an_old_story() -> None:
    world = without_answer("surge", 4)
    stale = m.Superseded(**HEAD, sequence=1, current=2)
    assert decide(world.instance, [stale], world.now, resend_ms=RESEND_MS).instance is world.instance


# --- VictimsGone -----------------------------------------------------------------------------------------


def test_pods_that_were_to_go_and_are_gone_already_are_not_deleted_twice() -> None:
    world = without_answer("retire", 4, mode="manual")
    gone, other = last(world, m.Retire).retire
    kept = world.cluster.named([gone])
    world.cluster.pods = [pod for pod in world.pods if pod not in kept]
    world.cluster.scale(-1)  # nobody makes another one for it
    issued = len(world.commands)
    world.cluster.scale(1)
    world.catch_up()
    again = [command for command in world.commands[issued:] if isinstance(command, m.Retire)]
    assert gone not in again[-1].retire
    assert other in again[-1].retire
    assert world.where(NEW) == "BatchFinished 1 Baked"
    assert len(world.cluster.live) == 4


# --- ReplicasChanged -------------------------------------------------------------------------------------


def test_replicas_that_somebody_else_added_are_kept_and_updated_too() -> None:
    world = update(4, batchSize=2, mode="manual")
    world.scale(3)
    while not world.flow(NEW).phase.finished:
        press_next(world)
    assert revisions(world) == {NEW: 7}


def test_replicas_that_somebody_else_took_are_not_made_again() -> None:
    world = update(6, batchSize=2, mode="manual")
    world.scale(-2)
    while not world.flow(NEW).phase.finished:
        press_next(world)
    assert revisions(world) == {NEW: 4}
    assert world.cluster.serving() == 4


def test_replicas_changed_in_the_middle_of_a_batch_leave_no_pod_without_traffic() -> None:
    world = opening(4)
    world.scale_to(7)
    world.catch_up()
    world.run_until(lambda: world.flow(NEW).phase.finished)
    assert revisions(world) == {NEW: 7}
    assert world.cluster.serving() == 7


# --- Refused ---------------------------------------------------------------------------------------------


def _refused(kind: str, why: str, there: int | None = 4, **strategy: Any) -> World:
    world = World(there)
    world.cluster.refusals[kind] = why
    action = "create" if there is None else "update"
    world.apply(NEW, {"mode": "auto", "batchSize": 2, **strategy}, replicas=4, action=action)
    return world


def test_a_template_that_the_api_server_refuses_fails_the_release_before_anything_is_changed() -> None:
    world = _refused("observe", "Invalid")
    assert world.where(NEW) == "Failed"
    assert (reason(world), message(world)) == ("Invalid", "the API server says Invalid")
    assert world.kinds == ["observe"]
    assert revisions(world) == {"old": 4}


def test_a_create_that_is_refused_fails_the_release() -> None:
    world = _refused("surge", "Forbidden", there=None)
    assert world.flow(NEW).phase == "Failed"
    assert reason(world) == "Forbidden"


def test_a_surge_that_is_refused_fails_the_batch_and_can_be_canceled() -> None:
    world = _refused("surge", "Forbidden")
    assert world.where(NEW) == "BatchStarted 1 SmokeFailed"
    assert (batch(world).reason, message(world)) == ("Forbidden", "the API server says Forbidden")
    world.steer(NEW, CommandType.CANCEL)
    assert world.where(NEW) == "Canceled 1 SmokeFailed"
    assert revisions(world) == {"old": 4}


def test_a_retire_that_is_refused_fails_the_batch_and_all_pods_go_on_serving() -> None:
    world = _refused("retire", "Forbidden", mode="manual")
    assert (world.where(NEW), reason(world)) == ("BatchStarted 1 Baked", "Forbidden")
    assert world.cluster.serving() == 6


def test_a_cloneset_that_is_deleted_on_the_way_ends_the_release() -> None:
    world = update(4, batchSize=2, mode="manual")
    world.cluster.refusals["surge"] = "NotFound"
    press_next(world)
    assert world.flow(NEW).phase == "Failed"
    assert reason(world) == "NotFound"


def test_a_cancel_that_is_refused_ends_the_release_all_the_same() -> None:
    world = starting(4)
    world.cluster.refusals["cancel"] = "NotFound"
    world.steer(NEW, CommandType.CANCEL)
    assert world.where(NEW) == "Canceled 1 Smoking"
    assert reason(world) == "NotFound"


# --- twice is once ---------------------------------------------------------------------------------------


def test_every_fact_of_a_release_counts_once_when_it_is_repeated() -> None:
    world = update(4, batchSize=2, canary=1, bakeSeconds=1)
    world.after_each = lambda: _no_news(world)
    for _ in range(3):
        world.wait(1000)
        if reason(world) == "WaitingForNext":
            press_next(world)
    assert world.flow(NEW).finished_batches


def _no_news(world: World) -> None:
    entry = world.history[-1]
    again = decide(world.instance, [entry.fact], entry.now, resend_ms=RESEND_MS)
    assert again.instance is world.instance
    assert again.commands == ()
    assert again.events == ()


# --- what comes late -------------------------------------------------------------------------------------


def test_a_cancel_of_a_failed_release_is_sent_again_too() -> None:
    world = update(4, canary=1)
    world.fail()
    world.silent.add("cancel")
    world.steer(NEW, CommandType.CANCEL)
    world.wait(RESEND_MS)
    assert world.kinds[-2:] == ["cancel", "cancel"]
    world.catch_up()
    assert world.where(NEW) == "Canceled 1 SmokeFailed"


def test_a_pod_whose_end_is_reported_before_an_answer_that_still_lists_it_stays_gone() -> None:
    world = without_answer("observe", 4, canary=1)
    listed = [pod.ref() for pod in world.pods]
    answer = m.Done(**HEAD, sequence=world.commands[-1].sequence, cloneset=world.facts, pods=listed)
    world.report_pods()
    world.vanish(world.pods[0])
    world.handle(answer)
    assert world.where(NEW) == "BatchStarted 1 Smoked"
    assert "uid-old-0" not in world.instance.pods


def test_an_old_record_of_a_release_that_is_finished_does_not_begin_it_again() -> None:
    world = update(4)
    first = world.history[0].fact
    world.handle(world.observed(NEW, {"finished": True}))
    issued = len(world.commands)
    world.handle(first)
    assert world.commands[issued:] == []
    assert world.instance.waiting == ()


def test_a_change_of_a_release_that_is_finished_does_not_begin_it_again() -> None:
    world = update(4)
    issued = len(world.commands)
    world.change(NEW, {"paused": True})
    world.handle(world.observed(NEW))
    assert world.where(NEW) == "Success 1 Baked"
    assert world.commands[issued:] == []


def test_a_pod_made_in_place_of_a_pulled_out_one_does_not_hold_the_release() -> None:
    world = update(4, batchSize=2, mode="manual", pullOutSeconds=30)
    out = world.cluster.named(last(world, m.PullOut).uids)
    out[0].open = True  # somebody opens its gate again by hand
    world.report_pods()
    world.wait(30_000)
    assert world.where(NEW) == "BatchFinished 1 Baked"


def test_pods_made_before_a_pause_took_hold_are_still_the_batchs_own() -> None:
    world = Surroundings(6)
    name = world.apply({"mode": "auto", "batchSize": 2}, 6)
    for topic in (PLANNER_FACTS, BATCH_RESULTS, BATCH_RESULTS):
        world.takes(topic)
        world.executor_works()
    # OpenKruise makes the pods, and the pause comes before the word that it has caught up
    world.kruise_works()
    world.takes(PHASE_EVENTS)
    world.change(name, {"paused": True})
    world.takes(PLANNER_FACTS)
    world.executor_works()
    while world.facts[BATCH_RESULTS]:
        world.takes(BATCH_RESULTS)
    world.change(name, {"paused": False})
    world.ends()
    status = world.written[name]
    assert (status["phase"], [c["batchSize"] for c in status["conditions"]]) == ("Success", [2, 2, 2])
