"""The change of a CloneSet as one JSON patch that only applies to what it was decided on.

OpenKruise writes the status of a CloneSet all the time, so a guard by resourceVersion would refuse most writes in
the middle of a batch; what a decision rests on is the spec (its generation) and the last command (its sequence).
"""

from __future__ import annotations

from typing import Any, Final

from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet

Json = dict[str, Any]

_SEQUENCE: Final = "/metadata/annotations/" + cs.SEQUENCE.replace("/", "~1")


def guarded(live: CloneSet, body: Json) -> list[Json]:
    """The merge patch `body` as operations (RFC 6902) on `live`; on another spec or after another command the API
    server refuses them with 422.
    """
    meta = live.metadata
    tests: list[Json] = [_test("/metadata/uid", meta.uid)]
    if cs.SEQUENCE in meta.annotations:
        tests += [
            _test("/metadata/generation", meta.generation),
            _test(_SEQUENCE, meta.annotations[cs.SEQUENCE]),
        ]
    else:
        tests.append(_test("/metadata/resourceVersion", meta.resource_version))
    written = body["metadata"]
    changes = _entries("/metadata/annotations", meta.annotations, written["annotations"])
    changes += _entries("/metadata/labels", meta.labels, written.get("labels", {}))
    if "ownerReferences" in written:
        owners, path = written["ownerReferences"], "/metadata/ownerReferences"
        changes += _set(path, owners) if owners else _taken_away(path, [])
    now = {
        "replicas": live.spec.replicas,
        "template": live.spec.template,
        "updateStrategy": live.spec.update_strategy,
        "scaleStrategy": live.spec.scale_strategy,
        "volumeClaimTemplates": live.spec.volume_claim_templates,
    }
    for name, value in body["spec"].items():
        changes += _set(f"/spec/{name}", merged(now[name], value))
    return [*tests, *changes]


def same(one: CloneSet | None, other: CloneSet | None) -> bool:
    """Whether what is guarded is the same in both."""
    return _guards(one) == _guards(other)


def _guards(live: CloneSet | None) -> object:
    if live is None:
        return None
    meta = live.metadata
    sequence = meta.annotations.get(cs.SEQUENCE)
    return meta.uid, meta.generation, sequence, sequence is None and meta.resource_version


def _test(path: str, value: Any) -> Json:
    return {"op": "test", "path": path, "value": value}


def _entries(path: str, live: dict[str, str], written: dict[str, str | None]) -> list[Json]:
    """Annotations or labels, set or taken away."""
    if not live and written:
        return _set(path, merged({}, written))
    operations: list[Json] = []
    for name, value in written.items():
        at = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        operations += _taken_away(at, "") if value is None else _set(at, value)
    return operations


def _set(path: str, value: Any) -> list[Json]:
    return [{"op": "add", "path": path, "value": value}]


def _taken_away(path: str, empty: Any) -> list[Json]:
    """A `remove` alone is refused where there is nothing, and whether there is can change without the guards."""
    return [*_set(path, empty), {"op": "remove", "path": path}]


def merged(live: Any, body: Any) -> Any:
    """`live` with the merge patch `body` (RFC 7386) in it."""
    if not isinstance(body, dict):
        return body
    result = dict(live) if isinstance(live, dict) else {}
    for name, value in body.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
