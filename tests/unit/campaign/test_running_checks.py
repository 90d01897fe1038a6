"""Each check that runs all the time fails on what must not be, and not on what may."""

from __future__ import annotations

from bench.campaigns.running_checks import (
    BATCHES,
    CRASHING,
    GATE,
    READY,
    SEQUENCE,
    TWO,
    UNAPPROVED,
    CrashingImages,
    GrowingBatches,
    OpenedGates,
    ReadyFloor,
    Violation,
)
from shared.kube.clonesets import SEQUENCE as SEQUENCE_NOTE
from tests.unit.campaign.samples import cloneset, flow, pod


def _floor(*names: str) -> ReadyFloor:
    """Two pods are wanted, and these are Ready."""
    floor = ReadyFloor()
    floor.begin(2)
    for name in names:
        assert floor.pod(None, pod(name)) is None
    return floor


def _check(violation: Violation | None) -> str | None:
    return violation and violation.check


def test_a_pod_deleted_below_the_wanted_count_is_found() -> None:
    floor = _floor("a", "b")
    assert _check(floor.pod(pod("a"), pod("a", deleting=True))) == READY


def test_a_gate_closed_below_the_wanted_count_is_found() -> None:
    floor = _floor("a", "b")
    assert _check(floor.pod(pod("a"), pod("a", ready=False, gate=False))) == READY


def test_a_pod_that_is_gone_at_once_is_found_too() -> None:
    assert _check(_floor("a", "b").pod(pod("a"), None)) == READY


def test_a_pod_deleted_beside_a_new_one_is_right() -> None:
    assert _floor("a", "b", "c").pod(pod("a"), pod("a", deleting=True)) is None


def test_a_pod_that_somebody_takes_lowers_the_floor_by_one() -> None:
    floor = _floor("a", "b", "c")
    floor.take("uid-a")
    assert floor.pod(pod("a"), pod("a", deleting=True)) is None
    # the next pod that becomes Ready may be one of a batch: what Triton removes then is not below what it left
    floor.pod(None, pod("d"))
    assert floor.pod(pod("b"), pod("b", deleting=True)) is None
    assert floor.pod(pod("c"), None) is None
    assert _check(floor.pod(pod("d"), None)) == READY
    floor.begin(1)
    floor.pod(None, pod("e"))
    assert _check(floor.pod(pod("e"), None)) == READY


def test_a_count_that_somebody_writes_may_take_as_many_pods_as_there_are_beyond_it() -> None:
    floor = _floor("a", "b", "c")
    floor.scale(live=3, count=2)
    assert floor.pod(pod("a"), pod("a", deleting=True)) is None
    assert floor.pod(pod("b"), pod("b", deleting=True)) is None
    assert _check(floor.pod(pod("c"), pod("c", deleting=True))) == READY


def test_a_pod_that_fails_by_itself_is_nobodys_fault() -> None:
    assert _floor("a", "b").pod(pod("a"), pod("a", ready=False, containers=False)) is None


def test_before_as_many_are_ready_and_after_fewer_are_wanted_there_is_no_floor() -> None:
    assert _floor("a").pod(pod("a"), None) is None
    floor = _floor("a", "b")
    floor.lower(1)
    assert floor.pod(pod("a"), None) is None
    assert _check(floor.pod(pod("b"), None)) == READY


def test_a_gate_opened_on_containers_that_are_not_ready_is_found() -> None:
    closed = pod(containers=False, ready=False, gate=False)
    assert _check(OpenedGates().pod(closed, pod(containers=False, ready=False))) == GATE
    assert OpenedGates().pod(pod(ready=False, gate=False), pod(ready=False)) is None


def test_a_gate_opened_before_the_release_was_approved_is_found() -> None:
    gates = OpenedGates()
    gates.waiting["app1:good"] = "release-1"
    assert _check(gates.pod(pod(ready=False, gate=False), pod(ready=False))) == UNAPPROVED
    gates.approve("release-1")
    assert gates.pod(pod(ready=False, gate=False), pod(ready=False)) is None


def test_traffic_for_a_crashing_image_is_found() -> None:
    crashing = CrashingImages()
    assert _check(crashing.pod(None, pod(image="app1:crash"))) == CRASHING
    assert crashing.pod(None, pod(image="app1:crash", ready=False, gate=False)) is None


def test_batches_that_go_back_are_found() -> None:
    checks = GrowingBatches()
    assert checks.flow(None, flow(phase="BatchStarted", batches=2), "release-1") is None
    assert _check(checks.flow(None, flow(phase="BatchStarted", batches=1), "release-1")) == BATCHES


def test_a_sequence_that_goes_back_is_found_but_not_that_of_a_new_cloneset() -> None:
    checks = GrowingBatches()
    assert checks.cloneset(cloneset(annotations={SEQUENCE_NOTE: "5"})) is None
    assert _check(checks.cloneset(cloneset(annotations={SEQUENCE_NOTE: "4"}))) == SEQUENCE
    assert checks.cloneset(None) is None


def test_two_releases_at_once_are_found() -> None:
    checks = GrowingBatches()
    assert checks.flow(None, flow(phase="BatchStarted"), "release-1") is None
    assert _check(checks.flow(None, flow("release-2", phase="Initializing"), "release-2")) == TWO
    checks = GrowingBatches()
    checks.flow(None, flow(phase="BatchStarted"), "release-1")
    checks.flow(None, flow(), "release-1")
    assert checks.flow(None, flow("release-2", phase="Initializing"), "release-2") is None
