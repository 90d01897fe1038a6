"""The data views: the data streams that are searched together, and the meanings of their fields."""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.domain.json_types import Json
from shared.event_store import Stream
from shared.event_store.interface import dataset
from shared.event_store.templates import fields

MEANINGS: Final[dict[str, str]] = {
    "@timestamp": "when it happened",
    "message": "the whole fact in one sentence",
    "event.action": "what happened, as one word: `batch-smoke-failed`, `pod-ready`, `pod-log`",
    "event.outcome": "`failure`, `success` or `unknown`",
    "event.reason": "why, as one word: `BatchSmokeFailed`, `CrashLoopBackOff`, `FailedScheduling`",
    "event.duration": "how long it took to happen, in nanoseconds",
    "event.sequence": "order of what happened in the same millisecond",
    "event.dataset": "`triton.deployflow`, `triton.pod` or `triton.cloneset`",
    "event.provider": "who reported it: `planner`, `executor`, `readiness`, or a component of the cluster",
    "user.name": "who made the last request for this release",
    "kubernetes.namespace": "namespace of the instance",
    "kubernetes.pod.name": "the pod",
    "kubernetes.node.name": "the node that the pod is on",
    "kubernetes.event.type": "`Warning` or `Normal`, of the cluster's own Events",
    "container.name": "the container that a log is of",
    "container.image.name": "the image that the pod runs",
    "orchestrator.resource.type": "what the fact is about: `deployflow`, `pod` or `cloneset`",
    "orchestrator.resource.name": "its name",
    "trace.id": "the same for all facts of one release",
    "triton.instance": "the application instance; its CloneSet has the same name",
    "triton.deployflow": "the release, by the name of its DeployFlow",
    "triton.uid": "the release, by the uid of its DeployFlow, which a later one of the same name does not share",
    "triton.requested_by_claimed": "`true`: whoever sent the request wrote the name in `user.name`, and nobody checked it",
    "triton.requested_via": "how the request of `user.name` came: `kubectl`, `cli`, `rest`, `grpc`, `kafka`",
    "triton.release_requested_by": "who requested the release; `user.name` may have sent a later request to it",
    "triton.release_requested_by_claimed": "the same of `triton.release_requested_by` as `triton.requested_by_claimed`",
    "triton.release_requested_via": "how the request of the release came",
    "triton.image_from": "the images that the release replaces, once it is planned",
    "triton.image_to": "the images that it brings instead",
    "triton.application": "the application",
    "triton.group": "the group of the instance",
    "triton.action": "what the release does: `create`, `update`, `rollback`, `restart`, `scale` …",
    "triton.command": "what somebody requested: `deploy`, `next`, `pause`, `cancel`, `rollback` …; `user.name` is who",
    "triton.phase": "phase of the release or of the pod",
    "triton.batch": "number of the batch, from 1",
    "triton.batches": "how many batches the release has",
    "triton.batch_phase": "`Smoking`, `Smoked`, `Baking`, `Baked`, `SmokeFailed`, `BakeFailed`",
    "triton.batch_size": "how many pods the batch has",
    "triton.canary": "whether the batch is the canary",
    "triton.failed_replicas": "how many pods of the batch failed",
    "triton.revision": "revision of the pod template",
    "triton.age_ms": "milliseconds since the release began, or since the pod was made",
    "triton.gate": "readiness gate of the pod: `open`, `closed`, `none`",
    "triton.restarts": "how often containers of the pod were started again",
    "triton.log": "last lines of a failed pod's container",
    "triton.log_previous": "whether they are of the run before the last start",
    "triton.replicas": "how many pods the CloneSet shall have",
    "triton.ready_replicas": "how many of them are Ready",
    "triton.updated_ready_replicas": "how many of these are of the new revision",
    "triton.hold": "whether a batch holds the CloneSet: its pods wait for their gate",
}
"""The most used fields. Kibana shows the meaning beside the field, docs/release-log.md has the table."""

_DURATIONS: Final = {"event.duration": "nanoseconds", "triton.age_ms": "milliseconds"}


class View(NamedTuple):
    """A data view of some of the streams, with any prefix."""

    id: str
    name: str
    streams: tuple[Stream, ...]

    @property
    def title(self) -> str:
        """Return the pattern of the data streams that it searches."""
        return f"logs-{dataset(self.streams[0]) if len(self.streams) == 1 else 'triton.*'}-*"

    @property
    def fields(self) -> dict[str, Json]:
        """Return every field of its streams with its mapping."""
        return {name: kind for stream in self.streams for name, kind in fields(stream).items()}

    def kind(self, field: str) -> str:
        """Return the type of a field; raise ValueError for one that the mapping does not have."""
        if field not in self.fields:
            msg = f"{self.title} has no field {field!r}: see shared/event_store/templates.py"
            raise ValueError(msg)
        return str(self.fields[field]["type"])

    def grouped(self, field: str) -> str:
        """Return the type of a field to group, count or sort by; raise ValueError for a text too."""
        if (kind := self.kind(field)) == "text":
            msg = f"{field} is a text, which can be searched but not grouped or sorted by"
            raise ValueError(msg)
        return kind


EVERYTHING: Final = View("triton-events", "Triton: everything", tuple(Stream))
DEPLOYFLOWS: Final = View("triton-deployflows", "Triton: releases", (Stream.DEPLOYFLOW,))
PODS: Final = View("triton-pods", "Triton: pods", (Stream.POD,))
CLONESETS: Final = View("triton-clonesets", "Triton: CloneSets", (Stream.CLONESET,))
VIEWS: Final = (EVERYTHING, DEPLOYFLOWS, PODS, CLONESETS)


def formats(view: View) -> Json:
    """Return Kibana's formats of the durations: `1.5 min` instead of a number of nanoseconds."""
    return {
        field: {
            "id": "duration",
            "params": {
                "inputFormat": unit,
                "outputFormat": "humanizePrecise",
                "outputPrecision": 1,
                "includeSpaceWithSuffix": True,
                "useShortSuffix": True,
            },
        }
        for field, unit in _DURATIONS.items()
        if view.grouped(field)
    }


def meanings(view: View) -> dict[str, str]:
    """Return the meanings of the fields that the view has."""
    return {field: meaning for field, meaning in MEANINGS.items() if field in view.fields}
