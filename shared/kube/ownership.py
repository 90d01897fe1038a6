"""Whose a CloneSet is: Triton changes only those that it made and those that were adopted. Pure.

Rights on DeployFlows are no rights on CloneSets. Without this check, whoever may create a DeployFlow could empty any
CloneSet of the namespace by naming it as an instance.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from shared.domain.deployflow import MANAGED_BY
from shared.kube.clonesets import SEQUENCE, CloneSet

NOT_OURS: Final = "NotOurs"
"""The reason of a release whose CloneSet Triton neither made nor adopted."""
LABELS_MISSING: Final = "LabelsMissing"
"""The reason of a release whose CloneSet has lost the label of Triton's CloneSets."""
LABEL: Final = "=".join(next(iter(MANAGED_BY.items())))


class Ownership(StrEnum):
    OURS = "ours"
    UNLABELED = "unlabeled"
    """Triton has written it, and somebody has removed its label since."""
    FOREIGN = "foreign"


def ownership_of(cloneset: CloneSet) -> Ownership:
    """Return whose the CloneSet is.

    The label alone is not enough: without it in the template too, Triton would not see the pods. Triton 0.1.x wrote it
    into both, and no sequence.
    """
    written = SEQUENCE in cloneset.metadata.annotations or bool(cloneset.owner)
    if not _is_labeled(cloneset.metadata.labels):
        return Ownership.UNLABELED if written else Ownership.FOREIGN
    return Ownership.OURS if written or _has_labeled_template(cloneset) else Ownership.FOREIGN


def explain_not_ours(namespace: str, name: str) -> str:
    return (
        f"CloneSet {namespace}/{name} was not made by Triton, which therefore leaves it as it is: "
        "choose another instanceName"
    )


def explain_missing_label(namespace: str, name: str) -> str:
    return (
        f"CloneSet {namespace}/{name} has lost its label {LABEL}, and Triton leaves it as it is until the label is back: "
        f"kubectl -n {namespace} label cloneset {name} {LABEL}"
    )


def _is_labeled(labels: dict[str, str]) -> bool:
    return MANAGED_BY.items() <= labels.items()


def _has_labeled_template(cloneset: CloneSet) -> bool:
    metadata = cloneset.spec.template.get("metadata") or {}
    return _is_labeled(metadata.get("labels") or {})
