"""Keeps the template of the last good release while another one is under way, so that a cancel can restore it. Pure.

It is kept in an annotation of the CloneSet where it fits. A larger one is in the ControllerRevision that OpenKruise made
of it: of that the annotation has the name. OpenKruise keeps a revision while a pod has it and, of the others, the newest
`revisionHistoryLimit`; this one is the newest of them in a release.
"""

from __future__ import annotations

import json
from typing import Any, Final

from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet

LARGEST_ANNOTATIONS: Final = 200_000
"""Bytes of all annotations with the template among them. The API server takes 262,144: the rest is for those that
Triton and others write during the release."""


class TooLarge(Exception):
    """The template fits nowhere: a release could not be canceled."""


def keep_template(live: CloneSet) -> dict[str, str]:
    """Return the annotation that keeps the live template; none where an earlier one is kept.

    Raises `TooLarge`, and `Unavailable` while OpenKruise has not made its revision yet.
    """
    annotations = live.metadata.annotations
    if cs.STABLE_TEMPLATE in annotations or cs.STABLE_REVISION in annotations:
        return {}
    text = json.dumps(live.spec.template, separators=(",", ":"))
    others = sum(len(name.encode()) + len(value.encode()) for name, value in annotations.items())
    if others + len(text) <= LARGEST_ANNOTATIONS:
        return {cs.STABLE_TEMPLATE: text}
    where = f"CloneSet {live.metadata.namespace}/{live.metadata.name}"
    if live.spec.revision_history_limit == 0:
        msg = (
            f"the template of {where} has {len(text)} bytes, too many for an annotation, and with "
            "revisionHistoryLimit 0 OpenKruise does not keep it: set spec.revisionHistoryLimit of the CloneSet to 1 or "
            "more"
        )
        raise TooLarge(msg)
    if not live.settled or not live.status.update_revision:
        msg = f"OpenKruise has not processed the last change of {where} yet: check the log of its manager"
        raise Unavailable(msg)
    return {cs.STABLE_REVISION: live.status.update_revision}


def template_in(revision: Json) -> Json | None:
    """Return the pod template of a ControllerRevision, without its merge directive; None where it has none."""
    template: Any = revision
    for name in ("data", "spec", "template"):
        template = template.get(name) if isinstance(template, dict) else None
    if not isinstance(template, dict):
        return None
    return {name: value for name, value in template.items() if name != "$patch"}


def stable_template(live: CloneSet, revised: Json | None) -> Json | None:
    """Return the kept template; None where none is. `revised`: that of the ControllerRevision that is named."""
    if cs.STABLE_TEMPLATE not in live.metadata.annotations:
        return revised
    return cs.kept_value(live, cs.STABLE_TEMPLATE, dict)


def forget_template(live: CloneSet, annotations: Json) -> None:
    """Remove what was kept: no release can restore it any more."""
    annotations[cs.STABLE_TEMPLATE] = None
    if cs.STABLE_REVISION in live.metadata.annotations:
        annotations[cs.STABLE_REVISION] = None
