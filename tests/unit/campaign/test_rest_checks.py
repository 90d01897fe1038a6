"""Each check of an instance at rest fails on what must not be; what is right follows from the releases and scales."""

from __future__ import annotations

from typing import Any

import pytest

from bench.campaigns.expectation import NOTHING, Rest, Scale, after
from bench.campaigns.observed import Snapshot
from bench.campaigns.rest_checks import (
    COUNT,
    FINALIZERS,
    HOLD,
    LOG,
    NOT_READY,
    PODS,
    REVISIONS,
    STRATEGY,
    UNFINISHED,
    at_rest,
    in_log,
)
from shared.domain.deployflow import FINALIZER, KEEPS_REPLICAS
from shared.domain.json_types import Json
from shared.kube.clonesets import HOLD as HOLD_NOTE
from shared.kube.clonesets import OWNER_STRATEGY
from tests.unit.campaign.samples import cloneset, flow, pod

GOOD = Rest(frozenset({2}), frozenset({"app1:good"}))


def _seen(**changed: Any) -> Snapshot:
    pods = {name: pod(name) for name in "ab"}
    return Snapshot(**{"flows": {"release-1": flow()}, "cloneset": cloneset(), "pods": pods, **changed})


def test_an_instance_at_rest_violates_nothing() -> None:
    assert at_rest(_seen(), GOOD) == []


@pytest.mark.parametrize(
    ("seen", "check"),
    [
        (_seen(flows={"release-1": flow(phase="BatchStarted")}), UNFINISHED),
        (_seen(flows={"release-1": flow(finalizers=[FINALIZER])}), FINALIZERS),
        (_seen(cloneset=cloneset(annotations={HOLD_NOTE: "{}"})), HOLD),
        (_seen(cloneset=cloneset(updateStrategy={"paused": True})), STRATEGY),
        (_seen(cloneset=cloneset(updateStrategy={"partition": 1})), STRATEGY),
        (_seen(cloneset=cloneset(annotations={OWNER_STRATEGY: "{}"})), STRATEGY),
        (_seen(cloneset=cloneset(scaleStrategy={"podsToDelete": ["a"]})), STRATEGY),
        (_seen(cloneset=cloneset(3), pods={name: pod(name) for name in "abc"}), COUNT),
        (_seen(pods={"a": pod("a")}), PODS),
        (_seen(pods={**_seen().pods, "c": pod("c", deleting=True)}), PODS),
        (_seen(pods={"a": pod("a"), "b": pod("b", image="app2:good")}), REVISIONS),
        (_seen(pods={"a": pod("a"), "b": pod("b", ready=False, gate=False)}), NOT_READY),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_must_not_be_is_found(seen: Snapshot, check: str) -> None:
    assert check in {violation.check for violation in at_rest(seen, GOOD)}


def test_a_mixture_of_two_templates_keeps_openkruise_from_ending_it() -> None:
    mixed = Rest(frozenset({2}), frozenset({"app1:good", "app2:good"}))
    paused = cloneset(updateStrategy={"paused": True, "partition": 1}, annotations={OWNER_STRATEGY: "{}"})
    pods = {"a": pod("a"), "b": pod("b", image="app2:good")}
    assert at_rest(_seen(cloneset=paused, pods=pods), mixed) == []
    assert at_rest(_seen(cloneset=paused), mixed)
    # a scale-in may leave the accepted pods of the canceled template alone
    left = {name: pod(name, image="app2:good") for name in "ab"}
    assert at_rest(_seen(cloneset=paused, pods=left), mixed) == []


def test_a_pod_that_fails_by_itself_need_not_be_ready() -> None:
    sick = {name: pod(name, image="app1:crash-after-ready", ready=False) for name in "ab"}
    assert at_rest(_seen(pods=sick), Rest(frozenset({2}), frozenset({"app1:crash-after-ready"}))) == []


# --- what is right ---


def _counts(rest: Rest) -> set[int]:
    return set(rest.counts or ())


def test_a_successful_release_leaves_its_count_and_its_image() -> None:
    assert after(NOTHING, [flow(action="create")], []) == GOOD
    rest = after(GOOD, [flow(image="app2:good", replicas=5)], [])
    assert rest == Rest(frozenset({5}), frozenset({"app2:good"}))


def test_a_canceled_release_leaves_what_was_before_or_a_named_mixture() -> None:
    assert after(GOOD, [flow(phase="Canceled", image="app2:good", batches=0)], []) == GOOD
    rest = after(GOOD, [flow(phase="Canceled", image="app2:good", batches=1)], [])
    assert rest == Rest(frozenset({2}), frozenset({"app1:good", "app2:good"}))


def test_a_release_that_never_began_changes_nothing() -> None:
    assert after(GOOD, [flow(phase="Aborted", image="app2:good", startedAt=None)], []) == GOOD


def test_the_last_written_count_is_the_wanted_one() -> None:
    running = flow(image="app2:good", at=10, lasts=20)
    assert _counts(after(GOOD, [running], [Scale(20_000, 7)])) == {7}
    assert _counts(after(GOOD, [running], [Scale(20_000, 7), Scale(21_000, 4)])) == {4}
    assert _counts(after(GOOD, [running], [Scale(40_000, 7)])) == {7}
    assert _counts(after(GOOD, [running], [Scale(1_000, 7)])) == {2}, "the release began later"


def test_a_count_written_in_the_moment_of_an_end_may_be_either() -> None:
    assert _counts(after(GOOD, [flow(at=10, lasts=20)], [Scale(29_500, 4)])) == {2, 3, 4}


def test_a_count_that_triton_wrote_too_may_have_gone_unseen() -> None:
    scaled = [Scale(15_000, 4), Scale(20_000, 1, own=True)]
    assert _counts(after(GOOD, [flow(at=10, lasts=20)], scaled)) == {1, 2, 3, 4}


def test_an_update_that_keeps_the_count_keeps_what_somebody_else_wrote_before() -> None:
    keeping = flow(annotations={KEEPS_REPLICAS: "true"}, at=10)
    assert _counts(after(GOOD, [keeping], [Scale(1_000, 7)])) == {7}


def test_a_rollback_of_an_update_to_another_count_may_take_that_count() -> None:
    update = flow(phase="Aborted", replicas=4, batches=0, at=10, lasts=1)
    rollback = flow("back", action="rollback", annotations={KEEPS_REPLICAS: "true"}, at=12)
    assert 4 in _counts(after(GOOD, [update, rollback], []))


def test_a_start_goes_back_to_the_count_before_the_stop() -> None:
    stopped = after(GOOD, [flow(action="stop", replicas=0)], [])
    assert _counts(stopped) == {0}
    assert _counts(after(stopped, [flow(action="start", replicas=9)], [])) == {2}
    scaled = after(GOOD, [flow(action="stop", replicas=0, at=10)], [Scale(10_500, 7)])
    assert _counts(after(scaled, [flow(action="start", replicas=9, at=40)], [])) >= {2, 7}


def test_after_a_delete_nothing_is_there() -> None:
    assert after(GOOD, [flow(action="delete", replicas=0)], []) == NOTHING


# --- the log ---


def _entries(*facts: tuple[int, str]) -> list[Json]:
    return [
        {"event": {"id": f"{batch}:{reason}", "reason": reason}, "triton": {"batch": batch}}
        for batch, reason in facts
    ]


WHOLE = ((0, "Received"), (1, "BatchStarted"), (1, "BatchFinished"), (0, "Success"))


def test_a_whole_log_lacks_nothing() -> None:
    assert in_log(flow(), _entries(*WHOLE)) == []


@pytest.mark.parametrize(
    "facts",
    [WHOLE[:-1], WHOLE[:1] + WHOLE[2:], WHOLE[:2] + WHOLE[3:], (*WHOLE, (0, "Failed")), (*WHOLE, WHOLE[-1])],
    ids=["no end", "no beginning of a batch", "no end of a batch", "two ends", "one twice"],
)
def test_a_log_that_lacks_or_doubles_a_fact_is_found(facts: tuple[tuple[int, str], ...]) -> None:
    assert {violation.check for violation in in_log(flow(), _entries(*facts))} == {LOG}
