"""The three ways of patching: JSON merge patch, JSON patch, and the strategic merge patch of built-in types.

Strategic merge exists because lists in pods are really maps: a patch that names one condition or one
container must leave the others alone. Which list is keyed by what is Kubernetes' own table (`patchMergeKey`
in its types).
"""

from __future__ import annotations

from typing import Any

from shared.domain.json_types import Json

from .errors import ApiError, bad_request
from .objects import copied

MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "conditions": ("type",),
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "readinessGates": ("conditionType",),
    "ownerReferences": ("uid",),
    "imagePullSecrets": ("name",),
    "secrets": ("name",),
    "hostAliases": ("ip",),
    "podIPs": ("ip",),
    "hostIPs": ("ip",),
    "addresses": ("type",),
    "topologySpreadConstraints": ("topologyKey",),
    "taints": ("key",),
    "ports": ("containerPort", "port"),
}
"""List field → the field its items are merged by. Ports: containers use containerPort, services port."""

PRIMITIVE_SETS = frozenset({"finalizers"})
"""Lists of plain values that are merged as sets."""


def merge(target: Any, patch: Any) -> Any:
    """Apply a merge patch (RFC 7386): objects merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Any, patch: Any) -> Any:
    """Apply a strategic merge patch: as `merge`, but keyed lists merge item by item and `$patch` directives apply."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            _directive(result, key, value)
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, list):
            result[key] = _merge_list(key, result.get(key) or [], value)
        else:
            result[key] = strategic(result.get(key), value)
    return result


def _directive(result: Json, key: str, value: Any) -> None:
    if key == "$retainKeys":
        for gone in set(result) - set(value):
            del result[gone]
    elif key.startswith("$deleteFromPrimitiveList/"):
        name = key.partition("/")[2]
        result[name] = [item for item in result.get(name) or [] if item not in value]


def _merge_list(field: str, target: list[Any], patch: list[Any]) -> list[Any]:
    if field in PRIMITIVE_SETS:
        return [*target, *(item for item in patch if item not in target)]
    key = _merge_key(field, patch)
    if key is None:
        return patch
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    result = list(target)
    for item in patch:
        place = next((n for n, old in enumerate(result) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            result = [old for old in result if old.get(key) != item.get(key)]
        elif place is None:
            result.append(strategic({}, item))
        else:
            result[place] = strategic(result[place], item)
    return result


def _merge_key(field: str, patch: list[Any]) -> str | None:
    if not all(isinstance(item, dict) for item in patch):
        return None
    keyed = [item for item in patch if item.get("$patch") != "replace"]
    for key in MERGE_KEYS.get(field, ()):
        if all(key in item for item in keyed):
            return key
    if field in MERGE_KEYS and keyed and field != "addresses":
        raise bad_request(f"map: {keyed[0]} does not contain declared merge key: {MERGE_KEYS[field][0]}")
    return None


def json_patch(target: Json, operations: Any) -> Json:
    """Apply a JSON patch (RFC 6902); raise a 422 for a failing `test` or a path that does not exist."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    result: Any = copied(target)
    for operation in operations:
        try:
            result = _apply(result, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            path = operation.get("path") if isinstance(operation, dict) else operation
            raise _cannot_apply(
                f"{operation.get('op')} operation does not apply: doc is missing path: {path}: missing value"
            ) from error
    return dict(result)


def _cannot_apply(message: str) -> ApiError:
    return ApiError(
        422, "Invalid", f"the server rejected our request due to an error in our request: {message}"
    )


def _tokens(pointer: str) -> list[str]:
    if pointer == "":
        return []
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _at(document: Any, tokens: list[str]) -> Any:
    for token in tokens:
        document = document[int(token)] if isinstance(document, list) else document[token]
    return document


def _apply(document: Any, operation: Json) -> Any:
    kind, tokens = operation["op"], _tokens(operation["path"])
    match kind:
        case "add":
            return _added(document, tokens, copied(operation["value"]))
        case "remove":
            _removed(document, tokens)
            return document
        case "replace":
            _at(document, tokens)
            return _replaced(document, tokens, copied(operation["value"]))
        case "test":
            if _at(document, tokens) != operation.get("value"):
                raise _cannot_apply(f"testing value {operation['path']} failed: test failed")
            return document
        case "copy":
            return _added(document, tokens, copied(_at(document, _tokens(operation["from"]))))
        case "move":
            value = _at(document, _tokens(operation["from"]))
            _removed(document, _tokens(operation["from"]))
            return _added(document, tokens, value)
    raise bad_request(f"Unexpected kind: {kind}")


def _added(document: Any, tokens: list[str], value: Any) -> Any:
    if not tokens:
        return value
    parent, last = _at(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, list):
        place = len(parent) if last == "-" else int(last)
        if not 0 <= place <= len(parent):
            raise IndexError(last)
        parent.insert(place, value)
    else:
        parent[last] = value
    return document


def _replaced(document: Any, tokens: list[str], value: Any) -> Any:
    if not tokens:
        return value
    parent, last = _at(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, list):
        parent[int(last)] = value
    else:
        parent[last] = value
    return document


def _removed(document: Any, tokens: list[str]) -> None:
    parent, last = _at(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, list):
        del parent[int(last)]
    else:
        del parent[last]
