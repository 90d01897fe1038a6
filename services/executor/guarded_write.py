"""Turns the change of a CloneSet into one JSON patch that only applies to the state it was decided on.

OpenKruise writes the status of a CloneSet all the time, so a guard by resourceVersion would refuse most writes in
the middle of a batch; what a decision rests on is the spec (its generation) and the last command (its sequence).
"""

from __future__ import annotations

from typing import Any, Final

from shared.domain.deployflow import MANAGED_BY
from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet

_SEQUENCE: Final = "/metadata/annotations/" + cs.SEQUENCE.replace("/", "~1")


def guarded(live: CloneSet, body: Json) -> list[Json]:
    """Return the merge patch `body` as operations (RFC 6902) on `live`.

    The API server refuses them with 422 when the spec has changed, another command was written, or the label of
    Triton's CloneSets was removed meanwhile.
    """
    meta = live.metadata
    tests: list[Json] = [_test("/metadata/uid", meta.uid)]
    tests += [
        _test(f"/metadata/labels/{name}", meta.labels[name]) for name in MANAGED_BY if name in meta.labels
    ]
    if cs.SEQUENCE in meta.annotations:
        tests += [
            _test("/metadata/generation", meta.generation),
            _test(_SEQUENCE, meta.annotations[cs.SEQUENCE]),
        ]
    else:
        tests.append(_test("/metadata/resourceVersion", meta.resource_version))
    written = body["metadata"]
    changes = _map_operations("/metadata/annotations", meta.annotations, written["annotations"])
    changes += _map_operations("/metadata/labels", meta.labels, written.get("labels", {}))
    if "ownerReferences" in written:
        owners, path = written["ownerReferences"], "/metadata/ownerReferences"
        changes += _set(path, owners) if owners else _remove(path, [])
    now = {
        "replicas": live.spec.replicas,
        "template": live.spec.template,
        "updateStrategy": live.spec.update_strategy,
        "scaleStrategy": live.spec.scale_strategy,
        "volumeClaimTemplates": live.spec.volume_claim_templates,
        "lifecycle": live.spec.lifecycle,
    }
    for name, value in body["spec"].items():
        path = f"/spec/{name}"
        changes += _remove(path, {}) if value is None else _set(path, merged(now[name], value))
    return [*tests, *changes]


def have_same_guards(one: CloneSet | None, other: CloneSet | None) -> bool:
    """Decide whether a patch guarded on `one` would apply to `other` too."""
    return _guards(one) == _guards(other)


def _guards(live: CloneSet | None) -> object:
    if live is None:
        return None
    meta = live.metadata
    sequence = meta.annotations.get(cs.SEQUENCE)
    labels = [meta.labels.get(name) for name in MANAGED_BY]
    return meta.uid, meta.generation, sequence, labels, sequence is None and meta.resource_version


def _test(path: str, value: Any) -> Json:
    return {"op": "test", "path": path, "value": value}


def _map_operations(path: str, live: dict[str, str], written: dict[str, str | None]) -> list[Json]:
    """Return the operations that set or remove annotations or labels."""
    if not live and written:
        return _set(path, merged({}, written))
    operations: list[Json] = []
    for name, value in written.items():
        at = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        operations += _remove(at, "") if value is None else _set(at, value)
    return operations


def _set(path: str, value: Any) -> list[Json]:
    return [{"op": "add", "path": path, "value": value}]


def _remove(path: str, empty: Any) -> list[Json]:
    """Set, then remove: a `remove` alone is refused where nothing is, and no guard covers whether something is."""
    return [*_set(path, empty), {"op": "remove", "path": path}]


def merged(live: Any, body: Any) -> Any:
    """Return `live` with the merge patch `body` (RFC 7386) applied."""
    if not isinstance(body, dict):
        return body
    result = dict(live) if isinstance(live, dict) else {}
    for name, value in body.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
