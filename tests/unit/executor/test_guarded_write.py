"""What is sent to the API server is the decision, and applies to nothing but what it was made on."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from sandbox.kubernetes.errors import ApiError
from sandbox.kubernetes.patches import json_patch
from services.executor.guarded_write import guarded, have_same_guards
from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet
from tests.simulation.cluster import merged

BODY: Json = {
    "metadata": {
        "annotations": {cs.SEQUENCE: "5", cs.HOLD: None, cs.REPLICAS: "4"},
        "labels": {"a/b~c": "new"},
    },
    "spec": {
        "replicas": 4,
        "updateStrategy": {"paused": True, "maxUnavailable": None},
        "scaleStrategy": {"podsToDelete": ["web-1"]},
        "template": {"spec": {"containers": [{"name": "main", "image": "demo:2"}], "nodeName": None}},
    },
}


def raw(**metadata: Any) -> Json:
    return {
        "metadata": {
            "name": "web",
            "namespace": "default",
            "uid": "cloneset-1",
            "resourceVersion": "77",
            "generation": 7,
            "annotations": {cs.SEQUENCE: "4", cs.HOLD: "{}", "owner": "kept"},
            "labels": {"a/b~c": "old", "kept": "yes"},
            **metadata,
        },
        "spec": {
            "replicas": 3,
            "updateStrategy": {"type": "ReCreate", "maxUnavailable": "20%"},
            "template": {"spec": {"containers": [{"name": "main", "image": "demo:1"}], "nodeName": "n"}},
            "minReadySeconds": 3,
        },
        "status": {"replicas": 3},
    }


def read(body: Json) -> CloneSet:
    return msgspec.convert(body, CloneSet)


@pytest.mark.parametrize(
    "metadata",
    [{}, {"annotations": {}}, {"labels": {}}, {"annotations": {"owner": "kept"}, "labels": {"kept": "yes"}}],
    ids=["written before", "no annotations", "no labels", "never written"],
)
def test_the_operations_make_of_a_cloneset_what_the_decision_says(metadata: Json) -> None:
    live = raw(**metadata)
    before = copy.deepcopy(live)
    for name in ("annotations", "labels"):  # the API server leaves empty maps out
        live["metadata"] = {k: v for k, v in live["metadata"].items() if k != name or v}
    assert json_patch(live, guarded(read(live), BODY)) == merged(before, BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 8},
        {"uid": "cloneset-2"},
        {"annotations": {cs.SEQUENCE: "9"}},
        {"annotations": {"a": "b"}},
    ],
    ids=["another spec", "made again", "another command", "the sequence taken away"],
)
def test_they_are_refused_by_what_the_decision_was_not_made_on(change: Json) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch(raw(**change), guarded(read(raw()), BODY))
    assert refused.value.code == 422
    assert not have_same_guards(read(raw()), read(raw(**change)))


@pytest.mark.parametrize("kept", [None, [{"kind": "Other", "name": "o"}]], ids=["alone", "beside another"])
def test_an_owner_is_taken_away(kept: list[Json] | None) -> None:
    live = raw(ownerReferences=[{"kind": "DeployFlow", "name": "web-df"}, *(kept or [])])
    body = {**BODY, "metadata": {**BODY["metadata"], "ownerReferences": kept}}
    assert json_patch(live, guarded(read(live), body)) == merged(live, body)


@pytest.mark.parametrize("labels", [{}, {"managed-by": "somebody"}], ids=["removed", "another"])
def test_a_label_of_ours_that_somebody_took_away_meanwhile_refuses_all(labels: Json) -> None:
    live, changed = raw(labels={"managed-by": "triton-io"}), raw(labels=labels)
    with pytest.raises(ApiError) as refused:
        json_patch(changed, guarded(read(live), BODY))
    assert refused.value.code == 422
    assert not have_same_guards(read(live), read(changed))


def test_an_annotation_that_somebody_took_away_meanwhile_refuses_nothing() -> None:
    live = raw(annotations={cs.SEQUENCE: "4", "owner": "kept"})
    assert json_patch(live, guarded(read(raw()), BODY)) == merged(live, BODY)


def test_a_new_status_and_other_annotations_refuse_nothing() -> None:
    live = raw(resourceVersion="78", annotations={cs.SEQUENCE: "4", cs.HOLD: "{}", "other": "new"})
    live["status"]["replicas"] = 5
    assert json_patch(live, guarded(read(raw()), BODY))["status"] == {"replicas": 5}
    assert have_same_guards(read(raw()), read(live))


def test_a_cloneset_without_a_command_is_guarded_as_a_whole() -> None:
    live = raw(annotations={"owner": "kept"})
    changed = raw(annotations={"owner": "kept"}, resourceVersion="78")
    with pytest.raises(ApiError):
        json_patch(changed, guarded(read(live), BODY))
    assert not have_same_guards(read(live), read(changed))
    assert not have_same_guards(read(live), None)
    assert have_same_guards(None, None)
