"""A `.status` fits into its DeployFlow, however many pods and batches the release has."""

from __future__ import annotations

import json
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.planner.decision.apply_facts import apply_fact, make_flow
from services.planner.decision.decide import decide
from services.planner.model.state import Batch, CloneSet, Flow, Instance, Pod, Step, StepCommand
from services.planner.recovery.rebuild import rebuild
from services.planner.views.bounded_status import LARGEST_OBJECT, bound_status
from services.planner.views.status import status_of
from shared.domain import messages as m
from shared.domain.deployflow import BatchPhase, DeployFlowStatus, FlowPhase, PodPhase
from shared.domain.json_types import Json
from shared.domain.topics import Key
from tests.unit.parts import application

ETCD_TAKES: Final = 3 << 19
INSTANCE: Final = "2000001-an-application-with-a-long-name-1001001"
LISTS: Final = {"pods", "conditions"}
NOW: Final = 1_700_000_000_000
TARGET: Final = f"{INSTANCE}-6b8c9d7f5b"


def release(pods: int, size: int, done: int, *, failed: int = 0) -> Instance:
    """Return an update of so many pods in batches of `size`, of which `done` are finished; the next one is Baking."""
    batches = tuple(
        Batch(
            number=number,
            surge=size,
            retire=size,
            phase=BatchPhase.BAKED if number <= done else BatchPhase.BAKING,
            surge_acknowledged=True,
            started_at=NOW + number,
            finished_at=NOW + number if number <= done else 0,
            failed_replicas=failed if number > done else 0,
        )
        for number in range(1, done + 2)
    )
    known = {
        f"{number:08}-5d2b-4d8a-9d0e-3f4f1e6f6a10": Pod(
            name=f"{INSTANCE}-{number:05x}",
            revision=TARGET if number < (done + 1) * size else f"{INSTANCE}-old",
            phase=PodPhase.FAILED if number >= (done + 1) * size - failed else PodPhase.READY,
            ready=True,
            containers_ready=True,
            gate="open",
            ip=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            port=8080,
            reason="CrashLoopBackOff" if number >= (done + 1) * size - failed else "",
            created_at=NOW + number,
            batch=number // size + 1 if number < (done + 1) * size else 0,
        )
        for number in range(pods)
    }
    flow = Flow(
        name="new",
        uid="uid-new",
        action="update",
        app_id=1,
        group_id=2,
        app_name="shop",
        wanted=pods,
        strategy=make_flow(_spec({}), NOW).strategy,
        phase=FlowPhase.BATCH_STARTED,
        step=Step.PULL_IN,
        step_command=StepCommand.ISSUED,
        target_revision=TARGET,
        updated=done * size,
        others=pods - done * size,
        to_process=pods,
        batches=batches,
        total=-(-pods // size),
        started_at=NOW,
        updated_at=NOW,
    )
    live = CloneSet(replicas=pods + size, exists=True, update_revision=TARGET)
    return Instance("default", INSTANCE, 9, 20, flow, pods=known, cloneset=live)


def _spec(status: Json) -> m.SpecObserved:
    spec = {
        "action": "update",
        "application": application(instanceName=INSTANCE, replicas=10_000),
        "updateStrategy": {"mode": "auto", "batchSize": 100},
    }
    ref = m.FlowRef(name="new", uid="uid-new")
    return m.SpecObserved(
        namespace="default",
        instance=INSTANCE,
        flow=ref,
        generation=1,
        created_at=NOW,
        spec=spec,
        status=status,
    )


def shown(instance: Instance, beside: int = 2_000) -> Json:
    assert instance.active is not None
    return bound_status(status_of(instance, instance.active), beside)


def counts(status: Json) -> Json:
    return {name: value for name, value in status.items() if name not in LISTS}


LAYOUTS = {
    "one batch": (10_000, 10_000, 0),
    "batches of a hundred": (10_000, 100, 56),
    "the last of few batches": (8_000, 2_000, 3),
    "one by one": (10_000, 1, 9_000),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spec_bytes", [2_000, 1_000_000])
def test_the_status_of_thousands_of_pods_fits_with_all_its_counts(layout: str, spec_bytes: int) -> None:
    instance = release(*LAYOUTS[layout])
    assert instance.active is not None
    whole = status_of(instance, instance.active)
    assert len(json.dumps(whole)) > ETCD_TAKES
    status = shown(instance, spec_bytes)
    assert len(json.dumps(status)) + spec_bytes < ETCD_TAKES
    assert counts(status) == counts(whole)
    DeployFlowStatus.model_validate(status)


def test_the_pods_of_the_current_batch_come_first_and_then_those_of_the_batches_before() -> None:
    instance = release(10_000, 100, 56)
    assert instance.active is not None
    whole = status_of(instance, instance.active)
    status = shown(instance)
    assert status["conditions"][-1] == whole["conditions"][-1]
    assert status["conditions"][-2] == whole["conditions"][-2]
    listed = [len(condition["pods"]) for condition in status["conditions"]]
    assert listed == sorted(listed)
    assert [c["batch"] for c in status["conditions"]] == [c["batch"] for c in whole["conditions"]]


def test_the_failed_pods_of_a_batch_that_does_not_fit_are_listed() -> None:
    (condition,) = shown(release(10_000, 10_000, 0, failed=7))["conditions"]
    assert sum(pod["phase"] == "Failed" for pod in condition["pods"]) == 7
    assert 3_000 < len(condition["pods"]) < 10_000
    assert condition["batchSize"] == 10_000


def test_of_batches_that_do_not_fit_the_first_and_the_newest_are_listed() -> None:
    status = shown(release(10_000, 1, 9_000))
    numbers = [condition["batch"] for condition in status["conditions"]]
    assert numbers[0] == 1
    assert numbers[1:] == list(range(numbers[1], 9_002))
    assert status["finishedBatches"] == 9_000


def test_what_fits_is_the_same() -> None:
    instance = release(500, 50, 4)
    assert instance.active is not None
    assert shown(instance) == status_of(instance, instance.active)


def test_a_message_that_names_thousands_of_pods_is_cut() -> None:
    instance = release(10_000, 10_000, 0)
    assert instance.active is not None
    long = replace(instance.active, failed=True, message="a pod, " * 200_000)
    status = shown(replace(instance, active=long))
    assert len(json.dumps(status)) < ETCD_TAKES
    assert status["message"].startswith("a pod, ")


@settings(deadline=None)
@given(
    pods=st.integers(1, 300),
    size=st.integers(1, 60),
    done=st.integers(0, 40),
    room=st.integers(0, 60_000),
)
def test_whatever_the_room_the_order_of_what_is_left_out_is_the_same(
    pods: int, size: int, done: int, room: int
) -> None:
    instance = release(pods, size, min(done, pods // size))
    assert instance.active is not None
    whole = status_of(instance, instance.active)
    status = shown(instance, LARGEST_OBJECT - room)
    assert counts(status) == counts(whole)
    bare = {**whole, "pods": [], "conditions": [{**c, "pods": []} for c in whole["conditions"]]}
    smallest = {**bare, "conditions": bare["conditions"][:1] + bare["conditions"][1:][-1:]}
    size_of_it = len(json.dumps(status, separators=(",", ":")))
    assert size_of_it <= max(room, len(json.dumps(smallest, separators=(",", ":"))) + 3)
    # a batch has pods left out only where those before it have none
    full = {c["batch"]: len(c["pods"]) for c in whole["conditions"]}
    listed = {c["batch"]: len(c["pods"]) for c in status["conditions"]}
    cut = [number for number in listed if listed[number] < full[number]]
    assert all(listed[number] == 0 for number in cut[:-1])


@pytest.mark.parametrize("layout", ["one batch", "batches of a hundred", "one by one"])
def test_a_release_of_thousands_of_pods_is_rebuilt_as_it_was(layout: str) -> None:
    before = release(*LAYOUTS[layout])
    old = before.active
    assert old is not None
    assert old.batch is not None
    status = shown(before)
    after = rebuild(Key("default", INSTANCE), [_spec(status)], make_flow, NOW)
    after = decide(after, [m.Due(namespace="default", instance=INSTANCE)], NOW, resend_ms=10_000).instance
    assert after.pending is not None
    hold = m.Hold(
        flow="uid-new", batch=old.batch.number, surge=old.batch.surge, updated=old.updated, others=old.others
    )
    head = {"namespace": "default", "instance": INSTANCE}
    live = m.CloneSetFacts(replicas=before.cloneset.replicas, update_revision=TARGET, hold=hold, sequence=20)
    refs = [
        m.PodRef(
            uid=uid,
            name=pod.name,
            revision=pod.revision,
            gate=m.Gate(pod.gate),
            ready=pod.ready,
            containers_ready=pod.containers_ready,
            created_at=pod.created_at,
        )
        for uid, pod in before.pods.items()
    ]
    done = m.Done(**head, sequence=after.pending.sequence, cloneset=live, pods=refs, same_template=True)
    after = apply_fact(after, done, NOW)
    new = after.active
    assert new is not None
    assert (new.step, new.phase, new.total, new.updated, new.others, new.to_process) == (
        old.step,
        old.phase,
        old.total,
        old.updated,
        old.others,
        old.to_process,
    )
    assert [(b.number, b.size, bool(b.finished_at)) for b in new.batches] == [
        (b.number, b.size, bool(b.finished_at)) for b in old.batches
    ]
    assert after.live_pods_of(new.batches[-1]).keys() == before.live_pods_of(old.batch).keys()
    assert (
        counts(status_of(after, new)).items()
        >= {
            name: status[name]
            for name in ("replicas", "availableReplicas", "updatedReplicas", "finishedReplicas")
        }.items()
    )
