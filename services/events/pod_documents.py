"""The facts about pods: their transitions and deletions, from readiness' messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from services.events.document_fields import (
    Fact,
    event_fields,
    reason_fields,
    release_fields,
    resource_fields,
    sentence,
    timing_fields,
)
from shared.domain.json_types import Json
from shared.domain.messages import PodFact, PodGone, PodsSeen, PodTransition, Transition
from shared.event_store import Stream

_PHRASES: Final[dict[str, str]] = {
    PodTransition.CREATED: "is made",
    PodTransition.SCHEDULED: "is scheduled",
    PodTransition.STARTED: "runs, its containers are starting",
    PodTransition.CONTAINERS_READY: "has all containers ready",
    PodTransition.PULLED_IN: "is pulled in",
    PodTransition.READY: "is Ready and takes traffic",
    PodTransition.UNREADY: "is not Ready any more",
    PodTransition.PULLED_OUT: "is pulled out and takes no traffic",
    PodTransition.RESTARTED: "has a container that was started again",
    PodTransition.WAITING: "makes no progress",
    PodTransition.FAILED: "failed",
    PodTransition.TERMINATING: "is terminating",
    PodTransition.LEFT: "has left the instance",
    PodTransition.GONE: "is gone",
}
_SUCCESSES: Final = frozenset({PodTransition.CONTAINERS_READY, PodTransition.READY})
_TYPES: Final[dict[str, str]] = {
    PodTransition.CREATED: "start",
    PodTransition.FAILED: "error",
    PodTransition.GONE: "end",
}


def pod_facts(message: PodsSeen) -> Iterator[Fact]:
    """Yield the transitions of the pods of a message, then the deletions."""
    last = [pod.last for pod in message.gone if pod.last]
    for fact in (*message.pods, *last):
        for transition in fact.transitions:
            yield _transition_fact(message, fact, transition)
    for pod in message.gone:
        if not pod.left:
            yield _deletion_fact(message, pod)


def _transition_fact(message: PodsSeen, fact: PodFact, transition: Transition) -> Fact:
    phrase = _PHRASES.get(transition.name, f"is {transition.name}")
    if transition.name == PodTransition.SCHEDULED and fact.node:
        phrase += f" to {fact.node}"
    why = sentence(transition.reason, transition.message)
    failed = transition.name == PodTransition.FAILED
    outcome = "failure" if failed else "success" if transition.name in _SUCCESSES else "unknown"
    fields: Json = {
        **timing_fields(
            transition.at, message.at, max(transition.at - transition.since, 0) if transition.since else None
        ),
        **_pod_fields(message, fact),
        "message": f"pod {fact.name} {phrase}" + (f": {why}" if why else ""),
        **_pod_event(_TYPES.get(transition.name, "change"), transition.name, outcome),
        **reason_fields(transition.reason, transition.message),
        "triton.age_ms": transition.age,
    }
    return Fact(Stream.POD, f"{fact.uid}:{transition.id}", fields)


def _deletion_fact(message: PodsSeen, pod: PodGone) -> Fact:
    at = pod.at or message.at
    age = max(at - pod.last.created_at, 0) if pod.last else 0
    gone = Transition(name=PodTransition.GONE, id=PodTransition.GONE, at=at, since=pod.since, age=age)
    if pod.last is not None:
        return _transition_fact(message, pod.last, gone)
    fields: Json = {
        **timing_fields(at, message.at, None),
        **_named_pod_fields(message, pod.name, pod.uid),
        "message": f"pod {pod.name} is gone",
        **_pod_event("end", PodTransition.GONE, "unknown"),
    }
    return Fact(Stream.POD, f"{pod.uid}:{gone.id}", fields)


def _pod_fields(message: PodsSeen, fact: PodFact) -> Json:
    return {
        **_named_pod_fields(message, fact.name, fact.uid),
        **release_fields(fact.flow, message.app),
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


def _named_pod_fields(message: PodsSeen, name: str, uid: str) -> Json:
    return {
        **release_fields(None, message.app),
        **resource_fields(name, uid),
        "kubernetes.pod.name": name,
        "kubernetes.pod.uid": uid,
    }


def _pod_event(kind: str, transition: str, outcome: str) -> Json:
    return event_fields("readiness", "process", kind, f"pod-{transition}", outcome)
