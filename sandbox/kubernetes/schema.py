"""Structural schemas of custom resources: pruning, defaults and validation, in the words of the real API
server.

Own code because none of the JSON Schema libraries knows what makes a schema structural: unknown fields are
dropped rather than refused, defaults are filled in, `nullable` and `x-kubernetes-int-or-string` exist, and
the messages name fields the way kubectl shows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from shared.domain.json_types import Json

from .causes import Cause
from .objects import copied, encode, parsed_time
from .rules import Rule, type_name

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_BLOCKING = frozenset(
    {
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)
"""The causes after which the rules over a structure are not checked any more."""

_RULES_SKIPPED = (
    'Invalid value: "null": some validation rules were not checked because the object was invalid; correct the '
    "existing errors to complete validation"
)
_OPEN_METADATA: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def shown(value: Any) -> str:
    """Format a value for a message: scalars as JSON, anything bigger by its type."""
    if isinstance(value, (dict, list)):
        return f'"{type_name(value)}"'
    return encode(value).decode()


class Schema:
    """A compiled openAPIV3Schema node: its children, its pattern and its CEL rules are made once."""

    def __init__(self, source: Json, root: bool = False) -> None:
        self.source = source
        self.type: str = source.get("type", "")
        self.nullable: bool = source.get("nullable", False)
        self.int_or_string: bool = source.get("x-kubernetes-int-or-string", False)
        self.properties = {name: Schema(child) for name, child in (source.get("properties") or {}).items()}
        if root:
            self.properties |= {
                "apiVersion": Schema({"type": "string"}),
                "kind": Schema({"type": "string"}),
                "metadata": Schema(_OPEN_METADATA),
            }
        self.items = Schema(source["items"]) if isinstance(source.get("items"), dict) else None
        extra = source.get("additionalProperties")
        self.additional = Schema(extra) if isinstance(extra, dict) else None
        self.open: bool = source.get("x-kubernetes-preserve-unknown-fields", False) or extra is True
        self.pattern = re.compile(source["pattern"]) if "pattern" in source else None
        self.rules = [Rule(entry) for entry in source.get("x-kubernetes-validations") or ()]
        self.branches = {
            word: [Schema(branch) for branch in source.get(word) or ()]
            for word in ("allOf", "anyOf", "oneOf")
        }
        children = (*self.properties.values(), self.items, self.additional)
        self.has_rules: bool = bool(self.rules) or any(child.has_rules for child in children if child)
        self.excluded = Schema(source["not"]) if "not" in source else None

    def prune(self, value: Any, path: str = "") -> tuple[Any, list[str]]:
        """Return the value without the fields that the schema does not know, and the paths of those."""
        dropped: list[str] = []
        return self._pruned(value, path, dropped), dropped

    def _pruned(self, value: Any, path: str, dropped: list[str]) -> Any:
        if isinstance(value, list) and self.items is not None:
            return [self.items._pruned(item, f"{path}[{n}]", dropped) for n, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if (self.open and not self.properties) or not (
            self.properties or self.additional or self.type == "object"
        ):
            return value
        result: Json = {}
        for name, item in value.items():
            child = self.properties.get(name) or self.additional
            inner = f"{path}.{name}" if path else name
            if child is not None:
                result[name] = child._pruned(item, inner, dropped)
            elif self.open:
                result[name] = item
            else:
                dropped.append(inner)
        return result

    def default(self, value: Any) -> Any:
        """Fill in defaults where fields are missing (or null where that is not allowed); drop other nulls that are not."""
        if isinstance(value, list) and self.items is not None:
            return [self.items.default(item) for item in value]
        if not isinstance(value, dict):
            return value
        result = dict(value)
        for name, child in self.properties.items():
            absent = name not in result or (result[name] is None and not child.nullable)
            if absent and "default" in child.source:
                result[name] = copied(child.source["default"])
            elif absent:
                result.pop(name, None)
            if result.get(name) is not None:
                result[name] = child.default(result[name])
        if self.additional is not None:
            for name in set(result) - set(self.properties):
                if result[name] is None and not self.additional.nullable:
                    del result[name]
                else:
                    result[name] = self.additional.default(result[name])
        return result

    def validate(self, value: Any, path: str = "", old: Any = None) -> list[Cause]:
        """Return the causes to refuse a value; `old` is the one that it replaces (None when it is new).

        What is as it was is not refused (validation ratcheting, since Kubernetes 1.30): an object that was accepted
        by an earlier definition can still be written where it is not changed.
        """
        causes = list(self._structure(value, path, old))
        if not self.has_rules:
            return causes
        if any(cause.reason in _BLOCKING for cause in causes):
            return [*causes, Cause("<nil>", "FieldValueInvalid", _RULES_SKIPPED)]
        return [*causes, *self._rules(value, path, old)]

    def _structure(self, value: Any, path: str, old: Any = None) -> Iterator[Cause]:
        if old is not None and value == old:
            return
        if value is None:
            if not self.nullable and (self.type or self.int_or_string):
                yield _wrong_type(value, path, self.type or "integer,string")
            elif "enum" in self.source:
                # the API server does, whatever the enum has
                yield _unsupported(value, path, self.source["enum"])
            return
        if self.int_or_string:
            if isinstance(value, bool) or not isinstance(value, (int, str)):
                yield _wrong_type(value, path, "integer,string")
                return
        elif self.type and not _fits(value, self.type):
            yield _wrong_type(value, path, self.type)
            return
        yield from self._scalar(value, path)
        yield from self._logic(value, path)
        if isinstance(value, dict):
            yield from self._object(value, path, old if isinstance(old, dict) else {})
        elif isinstance(value, list):
            yield from self._array(value, path, old)

    def _scalar(self, value: Any, path: str) -> Iterator[Cause]:
        source = self.source
        if "enum" in source and value not in source["enum"]:
            yield _unsupported(value, path, source["enum"])
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield from self._number(value, path)
        if isinstance(value, str):
            yield from self._string(value, path)

    def _number(self, value: float, path: str) -> Iterator[Cause]:
        source = self.source
        if "minimum" in source:
            exclusive = bool(source.get("exclusiveMinimum"))
            if value < source["minimum"] or (exclusive and value == source["minimum"]):
                words = "greater than" if exclusive else "greater than or equal to"
                yield _bad(value, path, f"should be {words} {source['minimum']}")
        if "maximum" in source:
            exclusive = bool(source.get("exclusiveMaximum"))
            if value > source["maximum"] or (exclusive and value == source["maximum"]):
                words = "less than" if exclusive else "less than or equal to"
                yield _bad(value, path, f"should be {words} {source['maximum']}")
        if source.get("multipleOf") and value % source["multipleOf"]:
            yield _bad(value, path, f"should be a multiple of {source['multipleOf']}")

    def _string(self, value: str, path: str) -> Iterator[Cause]:
        source = self.source
        if len(value) > source.get("maxLength", len(value)):
            yield Cause(
                path, "FieldValueTooLong", f"Too long: may not be more than {source['maxLength']} bytes"
            )
        if len(value) < source.get("minLength", 0):
            yield _bad(value, path, f"should be at least {source['minLength']} chars long")
        if self.pattern is not None and not self.pattern.search(value):
            yield _bad(value, path, f"should match '{source['pattern']}'")
        if source.get("format") == "date-time":
            try:
                parsed_time(value)
            except ValueError:
                yield _bad(value, path, f"must be of type date-time: {shown(value)}")

    def _logic(self, value: Any, path: str) -> Iterator[Cause]:
        for branch in self.branches["allOf"]:
            yield from branch._structure(value, path)
        for word in ("anyOf", "oneOf"):
            fitting = [branch for branch in self.branches[word] if not any(branch._structure(value, path))]
            if self.branches[word] and (not fitting or (word == "oneOf" and len(fitting) > 1)):
                must = "at least one schema" if word == "anyOf" else "one and only one schema"
                yield Cause(
                    path,
                    "FieldValueInvalid",
                    f'Invalid value: {shown(value)}: "{path}" must validate {must} ({word})',
                )
        if self.excluded is not None and not any(self.excluded._structure(value, path)):
            yield Cause(
                path,
                "FieldValueInvalid",
                f'Invalid value: {shown(value)}: "{path}" must not validate the schema (not)',
            )

    def _object(self, value: Json, path: str, old: Json) -> Iterator[Cause]:
        for name in self.source.get("required") or ():
            if name not in value:
                yield Cause(f"{path}.{name}" if path else name, "FieldValueRequired", "Required value")
        if len(value) > self.source.get("maxProperties", len(value)):
            yield Cause(
                path,
                "FieldValueTooMany",
                f"Too many: {len(value)}: must have at most {self.source['maxProperties']} items",
            )
        if len(value) < self.source.get("minProperties", 0):
            yield _bad(value, path, f"should have at least {self.source['minProperties']} properties")
        for name, item in value.items():
            child = self.properties.get(name) or self.additional
            if child is not None:
                yield from child._structure(item, f"{path}.{name}" if path else name, old.get(name))

    def _array(self, value: list[Any], path: str, old: Any) -> Iterator[Cause]:
        if len(value) > self.source.get("maxItems", len(value)):
            yield Cause(
                path,
                "FieldValueTooMany",
                f"Too many: {len(value)}: must have at most {self.source['maxItems']} items",
            )
        if len(value) < self.source.get("minItems", 0):
            yield _bad(value, path, f"should have at least {self.source['minItems']} items")
        if self.items is not None:
            for n, item in enumerate(value):
                yield from self.items._structure(item, f"{path}[{n}]", self._correlated(item, old))
        yield from self._unique(value, path)

    def _unique(self, value: list[Any], path: str) -> Iterator[Cause]:
        kind = self.source.get("x-kubernetes-list-type")
        keys = self.source.get("x-kubernetes-list-map-keys") or ()
        seen: list[Any] = []
        for n, item in enumerate(value if kind in ("set", "map") else ()):
            identity = {key: item.get(key) for key in keys} if kind == "map" else item
            if identity in seen:
                yield Cause(
                    f"{path}[{n}]", "FieldValueDuplicate", f"Duplicate value: {encode(identity).decode()}"
                )
            seen.append(identity)

    def _rules(self, value: Any, path: str, old: Any) -> Iterator[Cause]:
        """Check the CEL rules, parents first; skip what has not changed, since it passed before."""
        if value is None or value == old:
            return
        for rule in self.rules:
            if cause := rule.judge(value, old, path):
                yield cause
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, item in value.items():
                child = self.properties.get(name) or self.additional
                if child is not None:
                    yield from child._rules(item, f"{path}.{name}" if path else name, before.get(name))
        elif isinstance(value, list) and self.items is not None:
            for n, item in enumerate(value):
                yield from self.items._rules(item, f"{path}[{n}]", self._correlated(item, old))

    def _correlated(self, item: Any, old: Any) -> Any:
        """Return the earlier version of a list's item; None for lists that are not maps, as in Kubernetes."""
        keys = self.source.get("x-kubernetes-list-map-keys")
        if not isinstance(old, list) or not keys or not isinstance(item, dict):
            return None
        return next((entry for entry in old if all(entry.get(key) == item.get(key) for key in keys)), None)


def _wrong_type(value: Any, path: str, wanted: str) -> Cause:
    return Cause(
        path,
        "FieldValueTypeInvalid",
        f'Invalid value: "{type_name(value)}": {path} in body must be of type {wanted}: "{type_name(value)}"',
    )


def _unsupported(value: Any, path: str, choices: list[Any]) -> Cause:
    words = ", ".join(encode(choice).decode() for choice in choices)
    return Cause(
        path, "FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {words}"
    )


def _bad(value: Any, path: str, complaint: str) -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {shown(value)}: {path} in body {complaint}")
