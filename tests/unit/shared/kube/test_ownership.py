"""Whose a CloneSet is, and what an adoption writes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet
from shared.kube.ownership import (
    Ownership,
    adoption_patch,
    explain_obstacles,
    identity_labels,
    labels_for_template,
    missing_pod_labels,
    ownership_of,
    refusal_of,
)
from tests.unit.parts import LABELS

PLAIN: Json = {"app": "web"}
ADOPTED: Json = {cs.ADOPT: "true"}


def cloneset(*, labels: Json = PLAIN, annotations: Json | None = None, **spec: Any) -> CloneSet:
    template = {"metadata": {"labels": PLAIN}, "spec": {"containers": [{"name": "main", "image": "demo:1"}]}}
    metadata = {"name": "web", "namespace": "default", "uid": "1", "resourceVersion": "7"}
    body = {
        "metadata": {**metadata, "labels": labels, "annotations": annotations or {}},
        "spec": {"selector": {"matchLabels": PLAIN}, "template": template, **spec},
    }
    return msgspec.convert(body, CloneSet)


@pytest.mark.parametrize(
    ("labels", "annotations", "owner"),
    [
        (PLAIN, {}, Ownership.FOREIGN),
        (LABELS, {}, Ownership.FOREIGN),
        (PLAIN, {cs.ADOPT: "false"}, Ownership.FOREIGN),
        (PLAIN, ADOPTED, Ownership.REQUESTED),
        (LABELS, ADOPTED, Ownership.OURS),
        (LABELS, {cs.SEQUENCE: "4"}, Ownership.OURS),
        (PLAIN, {cs.SEQUENCE: "4"}, Ownership.UNLABELED),
        (PLAIN, {cs.SEQUENCE: "4", **ADOPTED}, Ownership.UNLABELED),
    ],
)
def test_whose_it_is(labels: Json, annotations: Json, owner: Ownership) -> None:
    found = cloneset(labels=labels, annotations=annotations)
    assert ownership_of(found) == owner
    assert (refusal_of(found) is None) == (owner == Ownership.OURS)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (
            {"selector": {"matchLabels": {"app.kubernetes.io/instance": "shop"}}},
            "app.kubernetes.io/instance=web",
        ),
        ({"selector": {"matchLabels": {"managed-by": "helm"}}}, "managed-by=triton-io"),
        (
            {"selector": {"matchExpressions": [{"key": "managed-by", "operator": "Exists"}]}},
            "managed-by=triton-io",
        ),
        (
            {"template": {"metadata": {"labels": {"app.kubernetes.io/instance": "shop"}}}},
            "app.kubernetes.io/instance=web",
        ),
        ({"scaleStrategy": {"maxUnavailable": 1}}, "spec.scaleStrategy.maxUnavailable"),
        ({"updateStrategy": {"type": "InPlaceOnly"}}, "spec.updateStrategy.type"),
    ],
)
def test_what_can_not_work_is_named_and_stays_foreign(spec: Json, field: str) -> None:
    found = cloneset(annotations=ADOPTED, **spec)
    assert field in explain_obstacles(found)
    assert refusal_of(found) == ("NotOurs", explain_obstacles(found))


def test_another_controller_and_a_long_name_are_named_too() -> None:
    body = msgspec.to_builtins(cloneset(annotations=ADOPTED))
    owner = {"apiVersion": "core.oam.dev/v1beta1", "kind": "Application", "name": "shop", "controller": True}
    body["metadata"] |= {"ownerReferences": [owner], "name": "w" * 53}
    text = explain_obstacles(msgspec.convert(body, CloneSet))
    assert "Application shop controls it" in text
    assert "at most 52" in text


def test_the_instance_label_of_helm_fits_where_it_is_the_name() -> None:
    helm = {"app.kubernetes.io/instance": "web", "app.kubernetes.io/name": "chart"}
    found = cloneset(annotations=ADOPTED, selector={"matchLabels": helm})
    assert explain_obstacles(found) == ""


def test_an_adoption_adds_labels_and_changes_no_spec() -> None:
    patch = adoption_patch(cloneset(), requested_by="ann")
    assert patch == {
        "metadata": {
            "uid": "1",
            "resourceVersion": "7",
            "labels": {"app.kubernetes.io/instance": "web", "managed-by": "triton-io"},
            "annotations": {cs.ADOPT: "true", cs.ADOPTED_BY: "ann"},
        }
    }


@pytest.mark.parametrize(
    "found",
    [
        cloneset(labels=LABELS, annotations={**ADOPTED, cs.ADOPTED_BY: "ann"}),
        cloneset(labels=LABELS, annotations={cs.SEQUENCE: "4"}),
    ],
    ids=["adopted before", "made by Triton"],
)
def test_an_adoption_of_what_is_ours_changes_nothing(found: CloneSet) -> None:
    assert adoption_patch(found, requested_by="bob") is None


def test_an_adoption_of_ours_brings_only_the_label_back() -> None:
    patch = adoption_patch(cloneset(annotations={cs.SEQUENCE: "4"}), requested_by="bob")
    assert patch is not None
    assert (patch["metadata"]["labels"]["managed-by"], patch["metadata"]["annotations"]) == ("triton-io", {})


def test_the_identity_replaces_the_labels_of_the_cloneset_itself() -> None:
    patch = adoption_patch(cloneset(), identity=identity_labels(20001, None, "shop"))
    assert patch is not None
    labels = patch["metadata"]["labels"]
    assert (labels["app"], labels["app.kubernetes.io/name"], "group" in labels) == ("20001", "shop", False)


def test_a_pod_gets_what_it_lacks_and_keeps_its_own() -> None:
    found = cloneset(labels=LABELS, annotations=ADOPTED)
    assert missing_pod_labels(found, {"app": "web"}) == {k: v for k, v in LABELS.items() if k != "app"}
    assert missing_pod_labels(found, {**LABELS, "app": "web"}) == {}


def test_the_labels_of_the_owner_win_in_the_template() -> None:
    found = cloneset(labels=LABELS, annotations=ADOPTED)
    labels = labels_for_template(found, {"tier": "front", "group": "own"}, LABELS)
    assert labels == {**LABELS, "tier": "front", "group": "own", "app": "web"}
