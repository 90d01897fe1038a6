"""Recognise a release that waits for the label of its CloneSet: somebody has removed it in the middle. Pure."""

from __future__ import annotations

from typing import Final

from services.planner.model.state import Flow, Resync
from shared.kube.ownership import LABELS_MISSING

_PREFIX: Final = f"{LABELS_MISSING}: "


def missing_labels(flow: Flow) -> str | None:
    """Return the message of a release that waits for the label of its CloneSet; None for any other."""
    waits = flow.resync != Resync.NONE and flow.rejected.startswith(_PREFIX)
    return flow.rejected.removeprefix(_PREFIX) if waits else None
