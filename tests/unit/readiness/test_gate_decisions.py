"""Which gates are opened and closed: by command, and for pods that no release claims."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from services.readiness.gate_decisions import gate_patch, is_unclaimed, needs_command, waits_for_gate
from shared.domain.deployflow import READINESS_GATE
from shared.domain.json_types import Json
from shared.domain.messages import Hold
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet
from shared.kube.pods import Pod
from tests.unit.readiness.samples import UP, conditions, pod

DELETED: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:01:00Z"}


@pytest.mark.parametrize(
    ("gate", "written", "sequence", "opened", "done"),
    [
        pytest.param("closed", None, 5, True, True, id="a new pod is pulled in"),
        pytest.param("open", 4, 5, False, True, id="a pod is pulled out"),
        pytest.param("out", 4, 5, True, True, id="a pod is pulled in again"),
        pytest.param("out", 6, 5, True, False, id="a lower sequence never opens"),
        pytest.param("open", 6, 5, False, False, id="a lower sequence never closes"),
        pytest.param("out", 5, 5, True, True, id="an equal sequence is carried out"),
        pytest.param("open", 4, 5, True, False, id="open already"),
        pytest.param("open", 5, 5, True, False, id="the same command again"),
        pytest.param("closed", None, 5, False, False, id="closed already"),
        pytest.param(None, None, 5, True, False, id="no gate of ours"),
        pytest.param(None, None, 5, False, False, id="no gate of ours to close"),
    ],
)
def test_a_command_is_carried_out_where_it_changes_something_and_none_later_was(
    gate: str | None, written: int | None, sequence: int, opened: bool, done: bool
) -> None:
    assert needs_command(pod(gate=gate, sequence=written), opened=opened, sequence=sequence) is done


@pytest.mark.parametrize("opened", [True, False])
def test_the_gate_of_a_pod_that_is_being_deleted_is_left_alone(opened: bool) -> None:
    assert not needs_command(pod(gate="out" if opened else "open", **DELETED), opened=opened, sequence=5)


def cloneset(hold: bool = False, *, observed: int = 2, pods: int = 1, **annotations: str) -> CloneSet:
    """Return one of one pod."""
    if hold:
        annotations[cs.HOLD] = Hold(flow="f", batch=1, surge=1, updated=0, others=3).model_dump_json()
    return msgspec.convert(
        {
            "metadata": {"name": "web", "uid": "uid-web", "generation": 2, "annotations": annotations},
            "spec": {"replicas": 1},
            "status": {"observedGeneration": observed, "updateRevision": "new", "replicas": pods},
        },
        CloneSet,
    )


def of(revision: str) -> Any:
    def change(name: str = "web-1") -> Pod:
        made = pod(name, UP)
        labels = {**made.metadata.labels, "controller-revision-hash": revision}
        return msgspec.structs.replace(made, metadata=msgspec.structs.replace(made.metadata, labels=labels))

    return change


NO_PULL_IN: Json = {cs.NO_PULL_IN: "true"}
SCRIBBLED: Json = {cs.HOLD: "{nonsense"}


def owned(kind: str = "DeployFlow") -> CloneSet:
    """With the claim of Triton 0.1.x, or with that of something else."""
    owner = {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": kind,
        "name": "old",
        "uid": "u",
        "controller": True,
    }
    made = cloneset()
    return msgspec.structs.replace(
        made, metadata=msgspec.structs.replace(made.metadata, owner_references=[owner])
    )


@pytest.mark.parametrize(
    ("revision", "set_", "opened"),
    [
        pytest.param("new", cloneset(), True, id="no release is under way"),
        pytest.param("new", cloneset(hold=True), False, id="the batch's pods wait for their pull_in"),
        pytest.param(
            "old", cloneset(hold=True), True, id="a replacement of an old pod in the middle of a batch"
        ),
        pytest.param(
            "old",
            cloneset(hold=True, observed=1),
            False,
            id="the controller has not said which revision is held",
        ),
        pytest.param(
            "new", cloneset(observed=1), False, id="OpenKruise may yet remove it, as after a cancel"
        ),
        pytest.param("old", cloneset(observed=1), False, id="nor is it known which of the two it removes"),
        pytest.param("new", cloneset(pods=2), False, id="OpenKruise has one too many, and takes it first"),
        pytest.param("new", cloneset(**NO_PULL_IN), False, id="somebody else opens the gates"),
        pytest.param("old", cloneset(hold=True, **NO_PULL_IN), False, id="somebody else opens these too"),
        pytest.param("new", owned(), False, id="a release that Triton 0.1.x began claims it"),
        pytest.param("old", owned(), True, id="but only its new pods"),
        pytest.param("new", owned("Project"), True, id="another owner is no release"),
        pytest.param("new", cloneset(**SCRIBBLED), False, id="a hold that can't be read still holds"),
        pytest.param("old", cloneset(**SCRIBBLED), True, id="but only the new pods"),
    ],
)
def test_a_pod_that_no_release_claims_is_opened_and_no_other(
    revision: str, set_: CloneSet, opened: bool
) -> None:
    assert is_unclaimed(of(revision)(), set_) is opened


@pytest.mark.parametrize(
    ("waiting", "why"),
    [
        (pod(status=UP), True),
        (pod(status={"phase": "Running", "conditions": conditions(ContainersReady=False)}), False),
        (pod(status=UP, gate="open"), False),
        (pod(status=UP, gate=None), False),
        (pod(status=UP, gate="out"), False),
        (pod(status=UP, **DELETED), False),
    ],
    ids=[
        "only its gate is missing",
        "containers not ready",
        "open",
        "no gate",
        "pulled out on purpose",
        "deleting",
    ],
)
def test_only_a_pod_whose_gate_alone_keeps_it_from_traffic_waits(waiting: Pod, why: bool) -> None:
    assert waits_for_gate(waiting) is why
    assert is_unclaimed(waiting, cloneset()) is why


def test_a_gate_that_somebody_else_closed_without_triton_counts_as_never_opened() -> None:
    assert waits_for_gate(pod(status=UP, gate="out", reason="Whatever"))


@pytest.mark.parametrize("opened", [True, False])
def test_the_patch_is_for_this_very_pod_and_can_be_read_back(opened: bool) -> None:
    now = datetime(2026, 1, 1, 14, 0, 0, tzinfo=timezone(timedelta(hours=2)))
    body = gate_patch(pod(gate="closed"), opened=opened, sequence=12, now=now)
    assert body["metadata"] == {"uid": "uid-web-1", "resourceVersion": "1"}
    condition = body["status"]["conditions"][0]
    assert (condition["type"], condition["lastTransitionTime"]) == (READINESS_GATE, "2026-01-01T12:00:00Z")
    written = pod(status={"conditions": [*UP["conditions"], condition]})
    assert (written.sequence, written.gate == "open", waits_for_gate(written)) == (12, opened, False)
    assert datetime.now(UTC) > now
