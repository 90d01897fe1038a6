"""The order of the guards is the specification: it is held here, with a state for each pair where it matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from services.planner.decision import command_factory, guards
from services.planner.decision.guards import GUARDS, next_move
from services.planner.model.state import UNASSIGNED, Instance, PendingCommand, Resync, Step, StepCommand
from shared.domain.deployflow import PodPhase
from tests.simulation.world import RESEND_MS
from tests.unit.planner.releases import NEW, opening, starting, update

NOW = 1_000_000
ORDER = [
    "close",
    "accept_refusal",
    "end_unobserved",
    "observe_again",
    "end_without_cloneset",
    "assign_new_pods",
    "finish_earlier_batch",
    "end_early",
    "stand_by",
    "retry",
    "fail_batch",
    "acknowledge_pull_out",
    "continue_without",
    "halt",
    "release_halt",
    "rewrite_surge",
    "acknowledge_pull_in",
    "pull_in_strays",
    "await_retry",
    "take_step",
    "resend",
]


def _with_flow(instance: Instance, **fields: Any) -> Instance:
    assert instance.active is not None
    strategy = fields.pop("strategy", {})
    flow = replace(instance.active, strategy=replace(instance.active.strategy, **strategy), **fields)
    return replace(instance, active=flow)


def _with_new_pods(instance: Instance, **fields: Any) -> Instance:
    """The pods of the target revision with other values."""
    pods = {uid: replace(pod, **fields) if pod.revision == NEW else pod for uid, pod in instance.pods.items()}
    return replace(instance, pods=pods)


def _smoking() -> Instance:
    return starting(4).instance


def _smoked() -> Instance:
    return update(4, canary=1).instance


def _refused(instance: Instance) -> Instance:
    body = command_factory.halt(instance, 1).model_dump_json()
    return replace(instance, pending=PendingCommand(1, "refused", body, NOW, answered=True, seen=True))


def _without_cloneset(instance: Instance) -> Instance:
    return replace(instance, cloneset=replace(instance.cloneset, exists=False))


def _crashed(instance: Instance) -> Instance:
    return _with_new_pods(instance, phase=PodPhase.FAILED)


def _pulled_in() -> Instance:
    return _with_new_pods(opening(4).instance, ready=True, gate="open")


PAIRS: dict[tuple[str, str], Callable[[], Instance]] = {
    ("close", "accept_refusal"): lambda: _with_flow(_refused(_smoking()), step=Step.DONE),
    ("accept_refusal", "observe_again"): lambda: _with_flow(_refused(_smoking()), resync=Resync.OBSERVE),
    ("end_unobserved", "observe_again"): lambda: _with_flow(
        replace(_smoked(), pending=None),
        resync=Resync.OBSERVE,
        retry_at=NOW + 1,
        strategy={"canceled": True},
    ),
    ("observe_again", "end_without_cloneset"): lambda: _with_flow(
        _without_cloneset(_smoking()), resync=Resync.OBSERVE
    ),
    ("end_without_cloneset", "end_early"): lambda: _with_flow(
        _without_cloneset(_smoking()), strategy={"canceled": True}
    ),
    ("assign_new_pods", "end_early"): lambda: _with_flow(
        _with_new_pods(_smoked(), batch=UNASSIGNED), strategy={"canceled": True}
    ),
    ("end_early", "retry"): lambda: _with_flow(_smoking(), strategy={"canceled": True, "retries": 1}),
    ("end_early", "fail_batch"): lambda: _with_flow(_crashed(_smoking()), strategy={"canceled": True}),
    ("end_early", "halt"): lambda: _with_flow(_smoking(), strategy={"canceled": True, "paused": True}),
    ("retry", "fail_batch"): lambda: _with_flow(_crashed(_smoking()), strategy={"retries": 1}),
    ("fail_batch", "halt"): lambda: _with_flow(_crashed(_smoking()), strategy={"paused": True}),
    ("fail_batch", "take_step"): lambda: _with_new_pods(_crashed(_smoking()), containers_ready=True),
    ("end_early", "await_retry"): lambda: _with_flow(
        replace(_smoking(), pending=None),
        retry_at=NOW + 1,
        step_command=StepCommand.DUE,
        strategy={"canceled": True},
    ),
    ("await_retry", "take_step"): lambda: _with_flow(
        replace(_smoking(), pending=None), retry_at=NOW + 1, step_command=StepCommand.DUE
    ),
    ("halt", "take_step"): lambda: _with_flow(
        _with_new_pods(_smoking(), containers_ready=True), strategy={"paused": True}
    ),
    ("release_halt", "take_step"): lambda: _with_flow(_smoking(), step_command=StepCommand.HALTED),
    ("acknowledge_pull_in", "take_step"): _pulled_in,
}


def test_the_order_of_the_guards() -> None:
    assert [guard.__name__.lstrip("_") for guard in GUARDS] == ORDER


@pytest.mark.parametrize(("first", "later"), PAIRS)
def test_of_two_guards_that_both_apply_the_first_decides(first: str, later: str) -> None:
    instance = PAIRS[first, later]()
    flow = instance.active
    assert flow is not None
    assert ORDER.index(first) < ORDER.index(later)
    moves = [getattr(guards, f"_{name}")(instance, flow, NOW, RESEND_MS) for name in (first, later)]
    assert None not in moves
    assert moves[0] != moves[1]
    assert next_move(instance, NOW, resend_ms=RESEND_MS) == (None if moves[0] is guards.WAIT else moves[0])


def test_a_guard_that_waits_holds_back_the_guards_after_it() -> None:
    """An observation that is under way: nothing moves until its answer is there."""
    observing = PendingCommand(1, "observe", "", sent_at=NOW)
    instance = _with_flow(replace(_pulled_in(), pending=observing), resync=Resync.OBSERVE)
    assert next_move(instance, NOW, resend_ms=RESEND_MS) is None
    settled = _with_flow(instance, resync=Resync.NONE)
    assert next_move(settled, NOW, resend_ms=RESEND_MS) is not None
