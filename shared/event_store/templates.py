"""Elasticsearch's templates for our documents: the type of every field, and the settings of the data streams.

Fields that are not named here are kept in the document but can't be searched: a service of a newer version
beside an older mapping loses nothing, and nobody's data makes the mapping grow. Hence `dynamic: false`, not
`strict`, which would refuse such documents. The types of the fields that are named are strict, but for addresses.

Shards are refreshed at Elasticsearch's default interval: every second while somebody searches, else when a search
comes. Replicas, shards, codec and so on are for `CUSTOM`, an administrator's own template.
"""

from __future__ import annotations

from typing import Final

from shared.domain.json_types import Json
from shared.event_store.interface import Stream, dataset
from shared.settings import Settings

VERSION: Final = 3
"""Raise it with every change below: a higher version replaces a lower one, never the other way round."""
PRIORITY: Final = 300
"""Above Elastic's own `logs` template (100), below what an administrator may want to put above ours (500)."""

KEYWORD: Final[Json] = {"type": "keyword", "ignore_above": 1024}
# one long text must neither be refused nor cut out of the search; nobody ranks these by relevance. Not
# match_only_text: a node without Elastic's own modules has no such type
TEXT: Final[Json] = {"type": "text", "norms": False}
DATE: Final[Json] = {"type": "date"}
LONG: Final[Json] = {"type": "long"}
IP: Final[Json] = {"type": "ip", "ignore_malformed": True}
BOOLEAN: Final[Json] = {"type": "boolean"}

EVERY: Final[dict[str, Json]] = {
    "@timestamp": DATE,
    "ecs.version": KEYWORD,
    "message": TEXT,
    "event.kind": KEYWORD,
    "event.category": KEYWORD,
    "event.type": KEYWORD,
    "event.action": KEYWORD,
    "event.outcome": KEYWORD,
    "event.reason": KEYWORD,
    "event.id": KEYWORD,
    "event.module": KEYWORD,
    "event.dataset": KEYWORD,
    "event.created": DATE,
    "event.sequence": LONG,
    "event.start": DATE,
    "event.end": DATE,
    "event.duration": LONG,
    "event.provider": KEYWORD,
    "trace.id": KEYWORD,
    "user.name": KEYWORD,
    "kubernetes.namespace": KEYWORD,
    "kubernetes.event.type": KEYWORD,
    "kubernetes.event.count": LONG,
    "orchestrator.cluster.name": KEYWORD,
    "orchestrator.type": KEYWORD,
    "orchestrator.namespace": KEYWORD,
    "orchestrator.resource.type": KEYWORD,
    "orchestrator.resource.name": KEYWORD,
    "orchestrator.resource.id": KEYWORD,
    "triton.instance": KEYWORD,
    "triton.deployflow": KEYWORD,
    "triton.uid": KEYWORD,
    "triton.requested_by_claimed": BOOLEAN,
    "triton.requested_via": KEYWORD,
    "triton.release_requested_by": KEYWORD,
    "triton.release_requested_by_claimed": BOOLEAN,
    "triton.release_requested_via": KEYWORD,
    "triton.application": KEYWORD,
    "triton.application_id": KEYWORD,
    "triton.group": KEYWORD,
    "triton.batch": LONG,
    "triton.phase": KEYWORD,
    "triton.reason": KEYWORD,
    "triton.message": TEXT,
    "triton.revision": KEYWORD,
    "triton.age_ms": LONG,
}
"""Fields of all three streams. `event.duration` is nanoseconds, as the Elastic Common Schema has it: how long it took to
happen. `triton.age_ms` counts from the start of the release, or the making of the pod.
"""

FIELDS: Final[dict[Stream, dict[str, Json]]] = {
    Stream.DEPLOYFLOW: {
        "triton.action": KEYWORD,
        "triton.image_from": KEYWORD,
        "triton.image_to": KEYWORD,
        "triton.command": KEYWORD,
        "triton.request": KEYWORD,
        "triton.step": KEYWORD,
        "triton.batches": LONG,
        "triton.batch_phase": KEYWORD,
        "triton.batch_size": LONG,
        "triton.canary": BOOLEAN,
        "triton.failed_replicas": LONG,
    },
    Stream.POD: {
        "kubernetes.pod.name": KEYWORD,
        "kubernetes.pod.uid": KEYWORD,
        "kubernetes.pod.ip": IP,
        "kubernetes.node.name": KEYWORD,
        "container.name": KEYWORD,
        "container.image.name": KEYWORD,
        "triton.log_previous": BOOLEAN,
        "triton.ready": BOOLEAN,
        "triton.containers_ready": BOOLEAN,
        "triton.gate": KEYWORD,
        "triton.deleting": BOOLEAN,
        "triton.restarts": LONG,
        "triton.log": TEXT,
        "triton.port": LONG,
        "triton.sequence": LONG,
    },
    Stream.CLONESET: {
        "triton.sequence": LONG,
        "triton.generation": LONG,
        "triton.observed_generation": LONG,
        "triton.replicas": LONG,
        "triton.partition": LONG,
        "triton.hold": BOOLEAN,
        "triton.status_replicas": LONG,
        "triton.ready_replicas": LONG,
        "triton.available_replicas": LONG,
        "triton.updated_replicas": LONG,
        "triton.updated_ready_replicas": LONG,
    },
}


def fields(stream: Stream) -> dict[str, Json]:
    """Return every field of the stream's documents with its mapping."""
    return EVERY | FIELDS[stream]


def mapping(flat: dict[str, Json]) -> Json:
    """Return Elasticsearch's nested form of fields that have dotted names."""
    root: Json = {}
    for name, kind in flat.items():
        *parents, leaf = name.split(".")
        at = root
        for parent in parents:
            at = at.setdefault(parent, {"properties": {}})["properties"]
        at[leaf] = kind
    return {"dynamic": False, "properties": root}


COMPONENT: Final = "triton-events"
LIFECYCLE: Final = "triton-events-lifecycle"
CUSTOM: Final = "triton-events@custom"
"""Nobody's but the administrator's: what it says goes before the two above."""
POLICY: Final = "triton-events"
"""Triton's own policy of ILM."""


def component_template() -> Json:
    """Return the settings that the three streams share."""
    return {
        "version": VERSION,
        # newer Elasticsearch would take its own for everything that is called logs-…: documents come back as written
        "template": {"settings": {"index.mode": "standard"}, "mappings": mapping(EVERY)},
        "_meta": {"description": "Fields of every Triton event", "managed_by": "triton"},
    }


def lifecycle_template(settings: Settings) -> Json:
    """Return the template of how long the events live. `_meta` has the settings that it was made of."""
    match settings.elasticsearch_lifecycle:
        case "dsl":
            template: Json = {"lifecycle": data_stream_lifecycle(settings)}
        case "ilm":
            template = {"settings": {"index.lifecycle.name": settings.elasticsearch_ilm_policy or POLICY}}
        case _:
            template = {}
    return {"version": VERSION, "template": template, "_meta": {"managed_by": "triton", **chosen(settings)}}


def chosen(settings: Settings) -> Json:
    return {
        "lifecycle": settings.elasticsearch_lifecycle,
        "retention_days": settings.elasticsearch_retention_days,
        "policy": settings.elasticsearch_ilm_policy,
    }


def data_stream_lifecycle(settings: Settings) -> Json:
    days = settings.elasticsearch_retention_days
    return {"enabled": True} | ({"data_retention": f"{days}d"} if days else {})


def policy(retention_days: int) -> Json:
    """Return our ILM policy in the form in which Elasticsearch returns it, to detect a changed one."""
    phases: Json = {
        "hot": {
            "min_age": "0ms",
            "actions": {"rollover": {"max_age": "30d", "max_primary_shard_size": "50gb"}},
        }
    }
    if retention_days:
        phases["delete"] = {
            "min_age": f"{retention_days}d",
            "actions": {"delete": {"delete_searchable_snapshot": True}},
        }
    return {"phases": phases, "_meta": {"managed_by": "triton", "retention_days": retention_days}}


def is_ours(found: Json) -> bool:
    """Decide whether a policy is unchanged since we made it."""
    days = (found.get("_meta") or {}).get("retention_days")
    return isinstance(days, int) and found.get("phases") == policy(days)["phases"]


def index_template(stream: Stream) -> Json:
    """Return the index template of the data streams of one kind, with any prefix."""
    return {
        "version": VERSION,
        "priority": PRIORITY,
        "index_patterns": [f"logs-{dataset(stream)}-*"],
        "data_stream": {},
        "composed_of": [COMPONENT, LIFECYCLE, CUSTOM],
        "ignore_missing_component_templates": [CUSTOM],
        "template": {"mappings": mapping(FIELDS[stream])},
        "_meta": {"description": f"Triton's {stream} events", "managed_by": "triton"},
    }


def index_template_name(stream: Stream) -> str:
    return f"logs-{dataset(stream)}"
