"""From what the services say to what people search for: one document a fact, in Elastic's field names.

A document says by itself what it is about, so that it can be read alone. Its id is made from the fact, not
from the telling: Kafka delivers again, and a replica that takes over tells the state of its pods anew, and
both must leave one document.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, Final

from shared.deployflow import BatchPhase, FlowPhase, PodPhase
from shared.event_store import Document, Stream, from_ms
from shared.messages import CloneSetEvent, FlowEvent, Gate, Message, PodFact, PodGone, PodsSeen

ECS_VERSION: Final = "9.0.0"
Json = dict[str, Any]


def documents(message: Message, sequence: int) -> list[Document]:
    """The documents of a message. `sequence` (its offset) orders what happened in the same millisecond."""
    match message:
        case FlowEvent():
            return [_flow(message, sequence)]
        case CloneSetEvent():
            return [_cloneset(message, sequence)]
        case PodsSeen():
            facts = [_pod(message, fact, sequence) for fact in message.pods]
            facts += [_details(message, fact, sequence) for fact in message.pods if fact.event or fact.log]
            return facts + [_gone(message, pod, sequence) for pod in message.gone]
        case _:
            msg = f"{type(message).__name__} is no event"
            raise TypeError(msg)


def happened(at: int, seen: int, *, news: bool) -> int:
    """When a fact came true, in ms, from what Kubernetes says of it and when it was seen.

    Kubernetes cuts its times to seconds, dates a deletion to the end of the grace period, and says nothing of
    the gate or of a restart: what is told as news has just been seen, which is nearer to the truth. What is
    told as part of the whole state may be old; then Kubernetes' time counts, but nothing happened after it
    was seen.
    """
    return seen if news else min(seen, at + 999 if at % 1000 == 0 else at)


def _flow(event: FlowEvent, sequence: int) -> Document:
    batch = (
        f" batch {event.batch}/{event.batches}{' (canary)' if event.canary else ''}" if event.batch else ""
    )
    text = f"{event.flow.name}{batch}: {_sentence(event.reason, event.message)}"
    outcome = _flow_outcome(event)
    ended = {"failure": "error"}.get(outcome, "end" if event.phase.finished else "change")
    fields: Json = {
        **_every(Stream.DEPLOYFLOW, event, event.id, sequence),
        **_timing(event.at, event.at, event.duration_ms),
        "message": text,
        "event.category": ["configuration"],
        "event.type": [ended],
        "event.action": _action(event.reason),
        "event.outcome": outcome,
        "event.reason": event.reason,
        "orchestrator.resource.name": event.flow.name,
        "orchestrator.resource.id": event.flow.uid,
        "user.name": event.requested_by,
        "triton.deployflow": event.flow.name,
        "triton.uid": event.flow.uid,
        "triton.application": event.app_name,
        "triton.application_id": event.app_id,
        "triton.group": event.group_id,
        "triton.action": event.action,
        "triton.phase": event.phase,
        "triton.batches": event.batches or None,
        "triton.failed_replicas": event.failed_replicas or None,
        "triton.reason": event.reason,
        "triton.message": event.message,
        "triton.revision": event.revision,
    }
    if event.batch:
        fields |= {
            "triton.batch": event.batch,
            "triton.batch_phase": event.batch_phase,
            "triton.batch_size": event.batch_size,
            "triton.canary": event.canary,
        }
    return Document(Stream.DEPLOYFLOW, event.id, _nested(fields))


def _flow_outcome(event: FlowEvent) -> str:
    if event.phase.finished:
        return {FlowPhase.SUCCESS: "success", FlowPhase.FAILED: "failure"}.get(event.phase, "unknown")
    if event.batch_phase in {BatchPhase.SMOKE_FAILED, BatchPhase.BAKE_FAILED}:
        return "failure"
    return "success" if event.batch_phase in {BatchPhase.SMOKED, BatchPhase.BAKED} else "unknown"


def _pod(message: PodsSeen, fact: PodFact, sequence: int) -> Document:
    action, doing = _doing(fact)
    at = happened(fact.at, message.at, news=not message.complete)
    # a restart of a container and a new reason are news although the phase stays
    state = (fact.phase, fact.ready, fact.gate, fact.deleting, fact.restarts, fact.reason, fact.at)
    told = ":".join(
        [fact.uid, *(str(part).lower() if isinstance(part, bool) else str(part) for part in state)]
    )
    why = _sentence(fact.reason, fact.message)
    failed = fact.phase == PodPhase.FAILED
    fields: Json = {
        **_every(Stream.POD, message, told, sequence),
        **_timing(at, message.at, max(at - fact.created_at, 0)),
        "message": f"pod {fact.name} {doing}" + (f": {why}" if why and not fact.deleting else ""),
        "event.category": ["process"],
        "event.type": ["error" if failed else "change"],
        "event.action": action,
        "event.outcome": "failure" if failed else "success" if fact.ready else "unknown",
        "event.reason": fact.reason,
        **_of_pod(fact),
        "triton.ready": fact.ready,
        "triton.containers_ready": fact.containers_ready,
        "triton.gate": fact.gate,
        "triton.deleting": fact.deleting,
        "triton.restarts": fact.restarts or None,
        "triton.port": fact.port or None,
        "triton.sequence": fact.sequence or None,
        "triton.reason": fact.reason,
        "triton.message": fact.message,
    }
    return Document(Stream.POD, told, _nested(fields))


def _details(message: PodsSeen, fact: PodFact, sequence: int) -> Document:
    """What became known of a pod in trouble after its state was told: a document of its own, as that one is written."""
    words = "\n".join(text for text in (fact.event, fact.log) if text)
    told = f"{fact.uid}:details:{sha256(words.encode()).hexdigest()[:16]}"
    fields: Json = {
        **_every(Stream.POD, message, told, sequence),
        **_timing(message.at, message.at, None),
        "message": f"pod {fact.name} is in trouble: {words}",
        "event.category": ["process"],
        "event.type": ["info"],
        "event.action": "pod-details",
        "event.outcome": "failure" if fact.phase == PodPhase.FAILED else "unknown",
        "event.reason": fact.reason,
        **_of_pod(fact),
        "triton.reason": fact.reason,
        "triton.message": fact.message,
        "triton.warning": fact.event,
        "triton.log": fact.log,
        "triton.since": from_ms(fact.since) if fact.since else None,
    }
    return Document(Stream.POD, told, _nested(fields))


def _of_pod(fact: PodFact) -> Json:
    return {
        "orchestrator.resource.name": fact.name,
        "orchestrator.resource.id": fact.uid,
        "kubernetes.pod.name": fact.name,
        "kubernetes.pod.uid": fact.uid,
        "kubernetes.pod.ip": fact.ip,
        "kubernetes.node.name": fact.node,
        "container.image.name": fact.image,
        "triton.phase": fact.phase,
        "triton.revision": fact.revision,
    }


def _doing(fact: PodFact) -> tuple[str, str]:
    """What a pod in this state has come to: the action, and the verb of a sentence about it."""
    if fact.deleting:
        return "pod-terminating", "is terminating"
    match fact.phase:
        case PodPhase.FAILED:
            return "pod-failed", "failed"
        case PodPhase.OUTDATED:
            return "pod-outdated", f"is outdated (revision {fact.revision})"
        case PodPhase.READY:
            return "pod-ready", "is Ready and takes traffic"
        case PodPhase.CONTAINERS_READY if fact.gate == Gate.OPEN:
            return "pod-pulled-in", "is pulled in, not Ready yet"
        case PodPhase.CONTAINERS_READY if fact.gate == Gate.CLOSED and fact.sequence:
            return "pod-pulled-out", "is pulled out and takes no traffic"
        case PodPhase.CONTAINERS_READY if fact.gate == Gate.CLOSED:
            return "pod-containers-ready", "has all containers ready, without traffic"
        case PodPhase.CONTAINERS_READY:
            return "pod-containers-ready", "has all containers ready"
        case PodPhase.RUNNING:
            return "pod-running", "runs, its containers are starting"
        case _:
            return "pod-pending", "is pending"


def _gone(message: PodsSeen, pod: PodGone, sequence: int) -> Document:
    told = f"{pod.uid}:gone"
    fields: Json = {
        **_every(Stream.POD, message, told, sequence),
        **_timing(message.at, message.at, None),
        "message": f"pod {pod.name} is gone",
        "event.category": ["process"],
        "event.type": ["end"],
        "event.action": "pod-gone",
        "event.outcome": "success",
        "orchestrator.resource.id": pod.uid,
        "orchestrator.resource.name": pod.name,
        "kubernetes.pod.uid": pod.uid,
        "kubernetes.pod.name": pod.name,
    }
    return Document(Stream.POD, told, _nested(fields))


def _cloneset(event: CloneSetEvent, sequence: int) -> Document:
    facts = event.cloneset
    counts = f"{facts.updated_ready_replicas} updated and ready, {facts.ready_replicas} ready, {facts.replicas} wanted"
    fields: Json = {
        **_every(Stream.CLONESET, event, event.id, sequence),
        **_timing(event.at, event.at, None),
        "message": f"CloneSet {event.instance}: {_sentence(event.reason, event.message)} ({counts})",
        "event.category": ["configuration"],
        "event.type": ["change" if facts.exists else "end"],
        "event.action": _action(event.reason),
        "event.outcome": "success",
        "event.reason": event.reason,
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
    return Document(Stream.CLONESET, event.id, _nested(fields))


def _every(stream: Stream, message: Message, event_id: str, sequence: int) -> Json:
    """The fields that all documents have."""
    return {
        "ecs.version": ECS_VERSION,
        "event.kind": "event",
        "event.id": event_id,
        "event.module": "triton",
        "event.dataset": f"triton.{stream}",
        "event.sequence": sequence,
        "kubernetes.namespace": message.namespace,
        "orchestrator.type": "kubernetes",
        "orchestrator.namespace": message.namespace,
        "orchestrator.resource.type": stream,
        "triton.instance": message.instance,
    }


def _timing(at: int, seen: int, duration_ms: int | None) -> Json:
    """`@timestamp` is when it happened, `event.created` when it was seen; durations in ns, as in ECS."""
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


def _action(reason: str) -> str:
    """`SmokeFailed` as `smoke-failed`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", reason).lower()


def _nested(fields: Json) -> Json:
    """Dotted names as objects, without what is not known."""
    root: Json = {}
    for name, value in fields.items():
        if value is None or value == "":
            continue
        *parents, leaf = name.split(".")
        at = root
        for parent in parents:
            at = at.setdefault(parent, {})
        at[leaf] = str(value) if isinstance(value, str) else value
    return root
