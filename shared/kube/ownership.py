"""Whose a CloneSet is: Triton changes only those that it made and those that were adopted. Pure.

Rights on DeployFlows are no rights on CloneSets. Without this check, whoever may create a DeployFlow could empty any
CloneSet of the namespace by naming it as an instance. Who may write a CloneSet may have it adopted, by an annotation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from shared.domain.deployflow import INSTANCE_LABEL, LONGEST_NAME, MANAGED_BY, NAME_LABEL
from shared.domain.json_types import Json
from shared.kube.clonesets import ADOPT, ADOPTED_BY, SEQUENCE, CloneSet, is_deployflow

NOT_OURS: Final = "NotOurs"
"""The reason of a release whose CloneSet Triton neither made nor adopted."""
LABELS_MISSING: Final = "LabelsMissing"
"""The reason of a release whose CloneSet has lost the label of Triton's CloneSets."""
LABEL: Final = "=".join(next(iter(MANAGED_BY.items())))
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_IDENTITY: Final = ("app", "group", NAME_LABEL)


class Ownership(StrEnum):
    OURS = "ours"
    REQUESTED = "requested"
    """Somebody has requested its adoption, and it has not Triton's label yet."""
    UNLABELED = "unlabeled"
    """Triton has written it, and somebody has removed its label since."""
    FOREIGN = "foreign"


def ownership_of(cloneset: CloneSet) -> Ownership:
    """Return whose the CloneSet is.

    The label alone is not enough: without it in the template too, Triton would not see the pods. Triton 0.1.x wrote it
    into both, and no sequence.
    """
    if _is_labeled(cloneset.metadata.labels):
        ours = was_written(cloneset) or is_adopted(cloneset) or has_labeled_template(cloneset)
        return Ownership.OURS if ours else Ownership.FOREIGN
    if was_written(cloneset):
        return Ownership.UNLABELED
    return Ownership.REQUESTED if is_adopted(cloneset) else Ownership.FOREIGN


def is_adopted(cloneset: CloneSet) -> bool:
    """Return whether somebody has had Triton adopt it."""
    return cloneset.metadata.annotations.get(ADOPT) == "true"


def has_labeled_template(cloneset: CloneSet) -> bool:
    """Return whether new pods get the label by which Triton finds them."""
    return _is_labeled(_template_labels(cloneset))


def refusal_of(cloneset: CloneSet) -> tuple[str, str] | None:
    """Return why no command may change it, as a reason and a message; None where one may."""
    meta = cloneset.metadata
    owner = ownership_of(cloneset)
    if owner == Ownership.FOREIGN:
        return NOT_OURS, explain_not_ours(meta.namespace, meta.name)
    if not was_written(cloneset) and is_adopted(cloneset) and (text := explain_obstacles(cloneset)):
        return NOT_OURS, text
    if owner != Ownership.OURS:
        return LABELS_MISSING, explain_missing_label(meta.namespace, meta.name)
    return None


def explain_not_ours(namespace: str, name: str) -> str:
    return (
        f"CloneSet {namespace}/{name} was not made by Triton, which therefore leaves it as it is: "
        f"have it adopted first (triton adopt {name}, or the annotation {ADOPT}=true on the CloneSet), "
        "or choose another instanceName"
    )


def explain_missing_label(namespace: str, name: str) -> str:
    return (
        f"CloneSet {namespace}/{name} has lost its label {LABEL}, and Triton leaves it as it is until the label is back: "
        f"kubectl -n {namespace} label cloneset {name} {LABEL}"
    )


def explain_obstacles(cloneset: CloneSet) -> str:
    """Return why the CloneSet can't be adopted; empty where it can."""
    obstacles = "; ".join(_obstacles(cloneset))
    meta = cloneset.metadata
    return f"CloneSet {meta.namespace}/{meta.name} can't be adopted: {obstacles}" if obstacles else ""


def _obstacles(cloneset: CloneSet) -> Iterator[str]:
    meta, spec = cloneset.metadata, cloneset.spec
    if len(meta.name) > LONGEST_NAME or not _NAME.fullmatch(meta.name):
        yield (
            f"metadata.name: an instance has at most {LONGEST_NAME} lower-case letters, digits and dashes, "
            "so it has to be made again under another name"
        )
    for ref in meta.owner_references:
        if ref.get("controller") and not is_deployflow(ref):
            yield f"metadata.ownerReferences: {ref.get('kind')} {ref.get('name')} controls it, and would undo what Triton does"
    wanted = {INSTANCE_LABEL: meta.name, **MANAGED_BY}
    selected = spec.selector.get("matchLabels") or {}
    expressions = {str(item.get("key")) for item in spec.selector.get("matchExpressions") or []}
    for label, value in wanted.items():
        found = selected.get(label, _template_labels(cloneset).get(label, value))
        if found != value or label in expressions:
            yield (
                f"spec.selector or spec.template: Triton finds pods by the label {label}={value}, "
                f"and this CloneSet uses {label} for something else"
            )
    if spec.scale_strategy.get("maxUnavailable") is not None:
        yield (
            "spec.scaleStrategy.maxUnavailable: new pods wait without traffic and would count as unavailable; "
            "remove it, Triton's batches limit how many pods are created at once"
        )
    if spec.update_strategy.get("type") == "InPlaceOnly":
        yield (
            "spec.updateStrategy.type: InPlaceOnly forbids the readiness gate that the first release adds; "
            "make it InPlaceIfPossible or ReCreate"
        )


def identity_labels(app_id: int | None, group_id: int | None, app_name: str | None) -> dict[str, str]:
    """Return the labels of the application that a CloneSet belongs to, without those that nobody named."""
    values = dict(zip(_IDENTITY, (app_id, group_id, app_name), strict=True))
    return {name: str(value) for name, value in values.items() if value is not None}


def adoption_patch(
    cloneset: CloneSet, *, requested_by: str = "", identity: Mapping[str, str] | None = None
) -> Json | None:
    """Return the merge patch that makes a CloneSet Triton's; it applies to the version that was read. None: it is already.

    `identity`: labels of the application, which replace those that it has; other labels of its own stay.
    """
    meta = cloneset.metadata
    labels = {INSTANCE_LABEL: meta.name, **meta.labels, **(identity or {}), **MANAGED_BY}
    labels = {name: value for name, value in labels.items() if meta.labels.get(name) != value}
    annotations = {}
    if not was_written(cloneset) and not (
        is_adopted(cloneset) and meta.annotations.get(ADOPTED_BY, requested_by)
    ):
        annotations = {ADOPT: "true"} | ({ADOPTED_BY: requested_by} if requested_by else {})
    if not labels and not annotations:
        return None
    changes: Json = {"labels": labels, "annotations": annotations}
    return {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, **changes}}


def pod_labels(cloneset: CloneSet) -> dict[str, str]:
    """Return the labels by which Triton finds the pods of an adopted CloneSet."""
    return {INSTANCE_LABEL: cloneset.metadata.name, **MANAGED_BY}


def missing_pod_labels(cloneset: CloneSet, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that a pod of an adopted CloneSet still needs; its own labels of the application stay."""
    known = cloneset.metadata.labels
    identity = {name: known[name] for name in _IDENTITY if name in known and name not in labels}
    needed = {name: value for name, value in pod_labels(cloneset).items() if labels.get(name) != value}
    return identity | needed if needed else {}


def labels_for_template(
    cloneset: CloneSet, own: Mapping[str, str], triton: Mapping[str, str]
) -> dict[str, Any]:
    """Return the labels of a template that is written into an adopted CloneSet.

    The owner's labels take precedence over those of Triton: its selector and its Services find pods by them.
    """
    return {**triton, **own, **(cloneset.spec.selector.get("matchLabels") or {}), **pod_labels(cloneset)}


def was_written(cloneset: CloneSet) -> bool:
    """Return whether a command of Triton has been written into it."""
    return SEQUENCE in cloneset.metadata.annotations or bool(cloneset.owner)


def _is_labeled(labels: Mapping[str, str]) -> bool:
    return MANAGED_BY.items() <= labels.items()


def _template_labels(cloneset: CloneSet) -> dict[str, str]:
    metadata = cloneset.spec.template.get("metadata") or {}
    return metadata.get("labels") or {}
