"""The scale subresource: one number of an object, at the paths its definition names, as an autoscaling/v1
Scale.
"""

from __future__ import annotations

from shared.domain.json_types import Json

from .causes import Cause
from .errors import invalid
from .objects import lookup, timestamp
from .resources import Resource


def _steps(path: str) -> list[str]:
    return path.strip(".").split(".")


def read_scale(resource: Resource, obj: Json) -> Json:
    paths = resource.scale or {}
    metadata = obj["metadata"]
    kept = {
        key: metadata[key]
        for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if key in metadata
    }
    status: Json = {"replicas": lookup(obj, _steps(paths["statusReplicasPath"])) or 0}
    if selector := lookup(obj, _steps(paths.get("labelSelectorPath", ""))):
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": kept or {"creationTimestamp": timestamp()},
        "spec": {"replicas": lookup(obj, _steps(paths["specReplicasPath"])) or 0},
        "status": status,
    }


def with_replicas(resource: Resource, live: Json, scale: Json) -> Json:
    """Return the object with the replicas of a Scale, under that Scale's resourceVersion if it has one."""
    replicas = lookup(scale, ("spec", "replicas")) or 0
    if not isinstance(replicas, int) or replicas < 0:
        raise invalid(
            resource,
            live["metadata"]["name"],
            [
                Cause(
                    "spec.replicas",
                    "FieldValueInvalid",
                    f"Invalid value: {replicas}: should be a non-negative integer",
                )
            ],
        )
    wanted = scale.get("metadata") or {}
    guarded = {key: wanted[key] for key in ("resourceVersion", "uid") if wanted.get(key)}
    result = {**live, "metadata": {**live["metadata"], **guarded}}
    path = _steps((resource.scale or {})["specReplicasPath"])
    level = result
    for step in path[:-1]:
        level[step] = {**(level.get(step) or {})}
        level = level[step]
    level[path[-1]] = replicas
    return result
