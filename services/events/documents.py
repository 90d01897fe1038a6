"""From what the services say to what people search for: one document a fact, in Elastic's field names.

A document says by itself what it is about, so that it can be read alone. Its id is made from the fact, not
from the telling: Kafka delivers again, and a replica that takes over tells the state of its pods anew, and
both must leave one document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from shared.domain.deployflow import BatchPhase, FlowPhase
from shared.domain.messages import (
    About,
    AppRef,
    CloneSetEvent,
    ClusterEvent,
    ContainerLog,
    FlowEvent,
    FlowRef,
    Message,
    PodFact,
    PodGone,
    PodsSeen,
    PodTransition,
    Transition,
)
from shared.event_store import Document, Stream, from_ms

ECS_VERSION: Final = "9.0.0"
IN_ONE_MESSAGE: Final = 100_000
"""More documents than one message comes to: `event.sequence` orders them as it orders the messages."""
Json = dict[str, Any]


class _Fact(NamedTuple):
    """What a document is made of; `fields` by their dotted names."""

    stream: Stream
    id: str
    fields: Json


def documents(message: Message, offset: int, cluster: str = "") -> list[Document]:
    """The documents of a message. `offset` orders what happened in the same millisecond; `cluster`: its name."""
    made: list[Document] = []
    for number, (stream, told, fields) in enumerate(_facts(message)):
        sequence = offset * IN_ONE_MESSAGE + number
        made.append(Document(stream, told, _nested(fields, _every(message, stream, told, sequence, cluster))))
    return made


def _every(message: Message, stream: Stream, told: str, sequence: int, cluster: str) -> Json:
    """What all documents have; objects already, since it is made for each of thousands a second."""
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
            "id": told,
            "module": "triton",
            "dataset": f"triton.{stream}",
            "sequence": sequence,
        },
        "kubernetes": {"namespace": message.namespace},
        "orchestrator": orchestrator,
        "triton": {"instance": message.instance},
    }


def _facts(message: Message) -> Iterator[_Fact]:
    match message:
        case FlowEvent():
            yield _flow(message)
        case CloneSetEvent():
            yield _cloneset(message)
        case ClusterEvent():
            yield _cluster_event(message)
        case ContainerLog():
            yield _container_log(message)
        case PodsSeen():
            last = [pod.last for pod in message.gone if pod.last]
            for fact in (*message.pods, *last):
                for transition in fact.transitions:
                    yield _transition(message, fact, transition)
            for pod in message.gone:
                yield _gone(message, pod)
        case _:
            msg = f"{type(message).__name__} is no event"
            raise TypeError(msg)


# --- releases ---------------------------------------------------------------------------------------------


def _flow(event: FlowEvent) -> _Fact:
    batch = (
        f" batch {event.batch}/{event.batches}{' (canary)' if event.canary else ''}" if event.batch else ""
    )
    outcome = _flow_outcome(event)
    fields: Json = {
        **_timing(event.at, event.at, event.duration_ms),
        "message": f"{event.flow.name}{batch}: {_sentence(event.reason, event.message)}",
        "event.category": ["configuration"],
        "event.type": ["error" if outcome == "failure" else "end" if event.phase.finished else "change"],
        "event.action": _action(event.reason),
        "event.outcome": outcome,
        "event.reason": event.reason,
        "event.provider": "planner",
        "orchestrator.resource.name": event.flow.name,
        "orchestrator.resource.id": event.flow.uid,
        **_of_release(event.flow, AppRef(name=event.app_name, app_id=event.app_id, group_id=event.group_id)),
        "user.name": event.requested_by,
        "triton.application_id": event.app_id,
        "triton.group": event.group_id,
        "triton.action": event.action,
        "triton.command": event.command,
        "triton.request": event.request,
        "triton.phase": event.phase,
        "triton.batches": event.batches or None,
        "triton.failed_replicas": event.failed_replicas or None,
        "triton.reason": event.reason,
        "triton.message": event.message,
        "triton.revision": event.revision,
        "triton.age_ms": max(event.at - event.started_at, 0) if event.started_at else None,
    }
    if event.batch:
        fields |= {
            "triton.batch": event.batch,
            "triton.batch_phase": event.batch_phase,
            "triton.batch_size": event.batch_size,
            "triton.canary": event.canary,
            "triton.step": _step(event),
        }
    return _Fact(Stream.DEPLOYFLOW, event.id, fields)


def _flow_outcome(event: FlowEvent) -> str:
    if event.command:
        return "unknown"  # what comes of it is told by others
    if event.phase.finished:
        return {FlowPhase.SUCCESS: "success", FlowPhase.FAILED: "failure"}.get(event.phase, "unknown")
    if event.batch_phase in {BatchPhase.SMOKE_FAILED, BatchPhase.BAKE_FAILED}:
        return "failure"
    return "success" if event.batch_phase in {BatchPhase.SMOKED, BatchPhase.BAKED} else "unknown"


def _step(event: FlowEvent) -> str:
    """Which of a batch's commands the event belongs to."""
    if event.reason == "BatchFinished":
        return "retire"
    smoke = {BatchPhase.SMOKING, BatchPhase.SMOKED, BatchPhase.SMOKE_FAILED}
    return "surge" if event.batch_phase in smoke else "pull_in"


# --- pods -------------------------------------------------------------------------------------------------

_DOING: Final[dict[str, str]] = {
    PodTransition.CREATED: "is made",
    PodTransition.SCHEDULED: "is scheduled",
    PodTransition.STARTED: "runs, its containers are starting",
    PodTransition.CONTAINERS_READY: "has all containers ready",
    PodTransition.PULLED_IN: "is pulled in",
    PodTransition.READY: "is Ready and takes traffic",
    PodTransition.UNREADY: "is not Ready any more",
    PodTransition.PULLED_OUT: "is pulled out and takes no traffic",
    PodTransition.RESTARTED: "has a container that was started again",
    PodTransition.WAITING: "does not get on",
    PodTransition.FAILED: "failed",
    PodTransition.TERMINATING: "is terminating",
    PodTransition.GONE: "is gone",
}
_GOOD: Final = frozenset({PodTransition.CONTAINERS_READY, PodTransition.READY})
_TYPES: Final[dict[str, str]] = {
    PodTransition.CREATED: "start",
    PodTransition.FAILED: "error",
    PodTransition.GONE: "end",
}


def _transition(message: PodsSeen, fact: PodFact, came: Transition) -> _Fact:
    doing = _DOING.get(came.name, f"is {came.name}")
    if came.name == PodTransition.SCHEDULED and fact.node:
        doing += f" to {fact.node}"
    why = _sentence(came.reason, came.message)
    failed = came.name == PodTransition.FAILED
    fields: Json = {
        **_timing(came.at, message.at, max(came.at - came.since, 0) if came.since else None),
        **_of_pod(message, fact),
        "message": f"pod {fact.name} {doing}" + (f": {why}" if why else ""),
        "event.type": [_TYPES.get(came.name, "change")],
        "event.action": f"pod-{came.name}",
        "event.outcome": "failure" if failed else "success" if came.name in _GOOD else "unknown",
        "event.reason": came.reason,
        "triton.reason": came.reason,
        "triton.message": came.message,
        "triton.age_ms": came.age,
    }
    return _Fact(Stream.POD, f"{fact.uid}:{came.id}", fields)


def _gone(message: PodsSeen, pod: PodGone) -> _Fact:
    at = pod.at or message.at
    age = max(at - pod.last.created_at, 0) if pod.last else 0
    gone = Transition(name=PodTransition.GONE, id=PodTransition.GONE, at=at, since=pod.since, age=age)
    if pod.last is not None:
        return _transition(message, pod.last, gone)
    fields: Json = {
        **_timing(at, message.at, None),
        **_named(message, pod.name, pod.uid),
        "message": f"pod {pod.name} is gone",
        "event.type": ["end"],
        "event.action": "pod-gone",
        "event.outcome": "unknown",
    }
    return _Fact(Stream.POD, f"{pod.uid}:{gone.id}", fields)


def _of_pod(message: PodsSeen, fact: PodFact) -> Json:
    return {
        **_named(message, fact.name, fact.uid),
        **_of_release(fact.flow, message.app),
        "kubernetes.pod.ip": fact.ip,
        "kubernetes.node.name": fact.node,
        "container.image.name": fact.image,
        "triton.phase": fact.phase,
        "triton.revision": fact.revision,
        "triton.ready": fact.ready,
        "triton.containers_ready": fact.containers_ready,
        "triton.gate": fact.gate,
        "triton.deleting": fact.deleting,
        "triton.restarts": fact.restarts or None,
        "triton.port": fact.port or None,
        "triton.sequence": fact.sequence or None,
    }


def _named(message: PodsSeen, name: str, uid: str) -> Json:
    return {
        **_of_release(None, message.app),
        "event.category": ["process"],
        "event.provider": "readiness",
        "orchestrator.resource.name": name,
        "orchestrator.resource.id": uid,
        "kubernetes.pod.name": name,
        "kubernetes.pod.uid": uid,
    }


# --- CloneSets --------------------------------------------------------------------------------------------


def _cloneset(event: CloneSetEvent) -> _Fact:
    facts = event.cloneset
    counts = f"{facts.updated_ready_replicas} updated and ready, {facts.ready_replicas} ready, {facts.replicas} wanted"
    fields: Json = {
        **_timing(event.at, event.at, None),
        **_of_release(event.flow, event.app),
        "message": f"CloneSet {event.instance}: {_sentence(event.reason, event.message)} ({counts})",
        "event.category": ["configuration"],
        "event.type": ["end" if event.reason == "Deleted" else "change"],
        "event.action": _action(event.reason),
        "event.outcome": "success",
        "event.reason": event.reason,
        "event.provider": "executor",
        "orchestrator.resource.name": event.instance,
        "orchestrator.resource.id": facts.uid,
        "triton.reason": event.reason,
        "triton.message": event.message,
        "triton.revision": facts.update_revision,
        "triton.sequence": facts.sequence or None,
        "triton.generation": facts.generation,
        "triton.observed_generation": facts.observed_generation,
        "triton.replicas": facts.replicas,
        "triton.partition": facts.partition,
        "triton.hold": facts.hold is not None,
        "triton.status_replicas": facts.status_replicas,
        "triton.ready_replicas": facts.ready_replicas,
        "triton.available_replicas": facts.available_replicas,
        "triton.updated_replicas": facts.updated_replicas,
        "triton.updated_ready_replicas": facts.updated_ready_replicas,
    }
    return _Fact(Stream.CLONESET, event.id, fields)


# --- what the cluster says --------------------------------------------------------------------------------


def _cluster_event(event: ClusterEvent) -> _Fact:
    fields: Json = {
        **_about(event),
        "message": f"{event.kind} {event.name}: {_sentence(event.reason, event.message)}",
        "event.type": ["info"],
        "event.action": _action(event.reason),
        "event.outcome": "failure" if event.warning else "unknown",
        "event.reason": event.reason,
        "event.provider": event.component,
        "kubernetes.event.type": "Warning" if event.warning else "Normal",
        "kubernetes.event.count": event.count,
        "triton.reason": event.reason,
        "triton.message": event.message,
    }
    return _Fact(_stream_of(event), event.id, fields)


def _container_log(log: ContainerLog) -> _Fact:
    which = f"container {log.container}{' before its last start' if log.previous else ''}"
    fields: Json = {
        **_about(log),
        "message": f"pod {log.name}, {which}, last lines:\n{log.text}",
        "event.type": ["info"],
        "event.action": "pod-log",
        "event.outcome": "failure",
        "event.provider": "readiness",
        "container.name": log.container,
        "triton.log": log.text,
        "triton.log_previous": log.previous,
        "triton.restarts": log.restarts or None,
    }
    return _Fact(Stream.POD, log.id, fields)


def _about(message: About) -> Json:
    of_pod = message.kind == "Pod"
    return {
        **_timing(message.at, message.at, None),
        **_of_release(message.flow, message.app),
        "event.category": ["process" if of_pod else "configuration"],
        "orchestrator.resource.name": message.name,
        "orchestrator.resource.id": message.uid,
        "kubernetes.pod.name": message.name if of_pod else None,
        "kubernetes.pod.uid": message.uid if of_pod else None,
    }


def _stream_of(message: About) -> Stream:
    return Stream.POD if message.kind == "Pod" else Stream.CLONESET


# --- the same for all -------------------------------------------------------------------------------------


def _of_release(flow: FlowRef | None, app: AppRef) -> Json:
    """Which application it is about, and which release, where one was under way; `user.name` is who let it go on."""
    fields: Json = {
        "triton.application": app.name,
        "triton.application_id": app.app_id or None,
        "triton.group": app.group_id or None,
    }
    if flow is not None:
        fields |= {
            "trace.id": flow.uid.replace("-", ""),
            "user.name": flow.requested_by,
            "triton.deployflow": flow.name,
            "triton.uid": flow.uid,
            "triton.batch": flow.batch or None,
        }
    return fields


def _timing(at: int, seen: int, duration_ms: int | None) -> Json:
    """`@timestamp` is when it happened, `event.created` when it was told; durations in ns, as in ECS."""
    fields: Json = {"@timestamp": from_ms(at), "event.created": from_ms(seen)}
    if duration_ms is not None:
        fields |= {
            "event.start": from_ms(at - duration_ms),
            "event.end": from_ms(at),
            "event.duration": duration_ms * 1_000_000,
        }
    return fields


def _sentence(reason: str, text: str) -> str:
    return f"{reason}: {text}" if reason and text else reason or text


@cache
def _action(reason: str) -> str:
    """`SmokeFailed` as `smoke-failed`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", reason).lower()


@cache
def _path(name: str) -> tuple[tuple[str, ...], str]:
    """The objects that a field is in, and its own name there."""
    *parents, leaf = name.split(".")
    return tuple(parents), leaf


def _nested(fields: Json, root: Json) -> Json:
    """Dotted names put into `root` as objects, without what is not known."""
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
