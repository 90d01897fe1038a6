"""The Events of Kubernetes about a DeployFlow, made from the events of its release: `kubectl describe` shows them.

The release log has every event. Here are those that a person acts on, and how far the release is when it is awaited: an
Event costs a request to the API server, and a release must not cost more of them with every batch.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from hashlib import sha256
from typing import Final, NamedTuple

from shared.domain.deployflow import API_VERSION, KIND, FlowPhase
from shared.domain.json_types import Json
from shared.domain.messages import FlowEvent
from shared.domain.safe_text import shortened

COMPONENT: Final = "triton-planner"
LONGEST_MESSAGE: Final = 1000
"""Characters of the text of an Event; Kubernetes' newer Events have at most 1,024."""
_LONGEST_NAME: Final = 253
_HASH: Final = 16


class Weight(Enum):
    """When an event of a release is written."""

    END = "end"
    """At once; a step before it that is not written yet is left out."""
    NOW = "now"
    """At once, after the step before it."""
    STEP = "step"
    """Once no other event of its release has followed for a while."""


class Shown(NamedTuple):
    """An event of a release as an Event of Kubernetes: its reason there, and whether it is a warning."""

    reason: str
    weight: Weight
    warning: bool = False


_FAILED: Final = Shown("Unhealthy", Weight.NOW, warning=True)
SHOWN: Final[dict[str, Shown]] = {
    # `Deployed` and `Unhealthy` are those of Triton 0.1.x
    FlowPhase.SUCCESS: Shown("Deployed", Weight.END),
    FlowPhase.FAILED: Shown("Failed", Weight.END, warning=True),
    FlowPhase.ABORTED: Shown("Aborted", Weight.END),
    FlowPhase.CANCELED: Shown("Canceled", Weight.END),
    "BatchSmokeFailed": _FAILED,
    "BatchBakeFailed": _FAILED,
    "BatchFailed": _FAILED,
    "WaitingForNext": Shown("WaitingForNext", Weight.NOW),
    "GoAhead": Shown("GoAhead", Weight.NOW),
    "Paused": Shown("Paused", Weight.NOW),
    "Resumed": Shown("Resumed", Weight.NOW),
    "RetryRequested": Shown("RetryRequested", Weight.NOW),
    "CancelRequested": Shown("CancelRequested", Weight.NOW),
    "DeleteRequested": Shown("DeleteRequested", Weight.NOW),
    "BatchSizeChanged": Shown("BatchSizeChanged", Weight.NOW),
    "SpecChanged": Shown("SpecChanged", Weight.NOW),
    "Inherited": Shown("Inherited", Weight.NOW),
    "Frozen": Shown("Frozen", Weight.NOW),
    "FreezeOverridden": Shown("FreezeOverridden", Weight.NOW),
    "Scaled": Shown("Scaled", Weight.NOW, warning=True),
    "Warning": Shown("Warning", Weight.NOW, warning=True),
    "Planned": Shown("Planned", Weight.STEP),
    "BatchFinished": Shown("BatchFinished", Weight.STEP),
}
"""The events that are written, by their reason in the release log."""


def event_of(event: FlowEvent, shown: Shown) -> Json:
    """Return the Event, core/v1. Its name follows from the id of `event`: written twice, it exists once."""
    namespace, flow = event.namespace, event.flow
    at = datetime.fromtimestamp(event.at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    number = sha256(event.id.encode()).hexdigest()[:_HASH]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{flow.name[: _LONGEST_NAME - _HASH - 1].rstrip('-.')}.{number}",
            "namespace": namespace,
        },
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": namespace,
            "name": flow.name,
            "uid": flow.uid,
        },
        "type": "Warning" if shown.warning else "Normal",
        "reason": shown.reason,
        "message": shortened(event.message, LONGEST_MESSAGE),
        "count": 1,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": "",
    }
