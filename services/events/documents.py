"""Turns the services' messages into documents of the release log: one for each fact, in Elastic's field names.

A document can be read alone: it names everything that it is about. Its id is derived from the fact, not from the
message. Kafka delivers again, and a replica that takes over publishes the state of its pods again; both must leave
one document.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from services.events.cluster_documents import cloneset_fact, cluster_event_fact, container_log_fact
from services.events.document_fields import Fact
from services.events.flow_documents import flow_fact
from services.events.pod_documents import pod_facts
from shared.domain.json_types import Json
from shared.domain.messages import (
    CloneSetEvent,
    ClusterEvent,
    ContainerLog,
    FlowEvent,
    Message,
    PodsSeen,
)
from shared.event_store import Document, Stream

ECS_VERSION: Final = "9.0.0"
IN_ONE_MESSAGE: Final = 100_000
"""More documents than one message results in: `event.sequence` orders them as it orders the messages."""


def documents(message: Message, offset: int, cluster: str = "") -> list[Document]:
    """Return the documents of a message.

    `offset` orders what happened in the same millisecond. `cluster`: its name. Raises TypeError for a message that is
    no event, ValueError or OverflowError for a time outside of the calendar.
    """
    made: list[Document] = []
    for number, (stream, id_, fields) in enumerate(_facts(message)):
        sequence = offset * IN_ONE_MESSAGE + number
        made.append(
            Document(stream, id_, _nested(fields, _envelope(message, stream, id_, sequence, cluster)))
        )
    return made


def _envelope(message: Message, stream: Stream, id_: str, sequence: int, cluster: str) -> Json:
    """Return the fields of every document, nested already: thousands a second are made."""
    orchestrator: Json = {
        "type": "kubernetes",
        "namespace": message.namespace,
        "resource": {"type": stream},
    }
    if cluster:
        orchestrator["cluster"] = {"name": cluster}
    return {
        "ecs": {"version": ECS_VERSION},
        "event": {
            "kind": "event",
            "id": id_,
            "module": "triton",
            "dataset": f"triton.{stream}",
            "sequence": sequence,
        },
        "kubernetes": {"namespace": message.namespace},
        "orchestrator": orchestrator,
        "triton": {"instance": message.instance},
    }


def _facts(message: Message) -> Iterator[Fact]:
    match message:
        case FlowEvent():
            yield flow_fact(message)
        case CloneSetEvent():
            yield cloneset_fact(message)
        case ClusterEvent():
            yield cluster_event_fact(message)
        case ContainerLog():
            yield container_log_fact(message)
        case PodsSeen():
            yield from pod_facts(message)
        case _:
            msg = f"{type(message).__name__} is no event"
            raise TypeError(msg)


@cache
def _path(name: str) -> tuple[tuple[str, ...], str]:
    """Return the names of the objects that a field is in, and its own name there."""
    *parents, leaf = name.split(".")
    return tuple(parents), leaf


def _nested(fields: Json, root: Json) -> Json:
    """Add `fields` to `root` by their dotted names; empty ones are left out."""
    for name, value in fields.items():
        if value is None or value == "":
            continue
        parents, leaf = _path(name)
        at = root
        for parent in parents:
            inner = at.get(parent)
            if inner is None:
                inner = at[parent] = {}
            at = inner
        at[leaf] = value
    return root
