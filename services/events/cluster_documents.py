"""The facts about CloneSets, and those that the cluster itself reports: its Events and the logs of containers."""

from __future__ import annotations

from services.events.document_fields import (
    Fact,
    action_name,
    event_fields,
    reason_fields,
    release_fields,
    resource_fields,
    sentence,
    timing_fields,
)
from shared.domain.json_types import Json
from shared.domain.messages import About, CloneSetEvent, ClusterEvent, ContainerLog
from shared.event_store import Stream


def cloneset_fact(event: CloneSetEvent) -> Fact:
    facts = event.cloneset
    kind = "end" if event.reason == "Deleted" else "change"
    counts = f"{facts.updated_ready_replicas} updated and ready, {facts.ready_replicas} ready, {facts.replicas} wanted"
    fields: Json = {
        **timing_fields(event.at, event.at, None),
        **release_fields(event.flow, event.app),
        "message": f"CloneSet {event.instance}: {sentence(event.reason, event.message)} ({counts})",
        **event_fields("executor", "configuration", kind, action_name(event.reason), "success"),
        **reason_fields(event.reason, event.message),
        **resource_fields(event.instance, facts.uid),
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
    return Fact(Stream.CLONESET, event.id, fields)


def cluster_event_fact(event: ClusterEvent) -> Fact:
    outcome = "failure" if event.warning else "unknown"
    fields: Json = {
        **_object_fields(event),
        "message": f"{event.kind} {event.name}: {sentence(event.reason, event.message)}",
        **event_fields(event.component, _category(event), "info", action_name(event.reason), outcome),
        **reason_fields(event.reason, event.message),
        "kubernetes.event.type": "Warning" if event.warning else "Normal",
        "kubernetes.event.count": event.count,
    }
    return Fact(_stream_of(event), event.id, fields)


def container_log_fact(log: ContainerLog) -> Fact:
    which = f"container {log.container}{' before its last start' if log.previous else ''}"
    fields: Json = {
        **_object_fields(log),
        "message": f"pod {log.name}, {which}, last lines:\n{log.text}",
        **event_fields("readiness", _category(log), "info", "pod-log", "failure"),
        "container.name": log.container,
        "triton.log": log.text,
        "triton.log_previous": log.previous,
        "triton.restarts": log.restarts or None,
    }
    return Fact(Stream.POD, log.id, fields)


def _object_fields(message: About) -> Json:
    of_pod = message.kind == "Pod"
    return {
        **timing_fields(message.at, message.at, None),
        **release_fields(message.flow, message.app),
        **resource_fields(message.name, message.uid),
        "kubernetes.pod.name": message.name if of_pod else None,
        "kubernetes.pod.uid": message.uid if of_pod else None,
    }


def _stream_of(message: About) -> Stream:
    return Stream.POD if message.kind == "Pod" else Stream.CLONESET


def _category(message: About) -> str:
    return "process" if message.kind == "Pod" else "configuration"
