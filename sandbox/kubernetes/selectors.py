"""Label and field selectors: the text forms of list and watch requests, and the object form of specs.

Both become a `Selector`: a list of requirements that all have to hold. A list request with a selector the
server does not understand has to fail rather than to return everything, so parsing is strict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from shared.domain.json_types import Json

from .errors import bad_request
from .objects import lookup


class Requirement(NamedTuple):
    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "gt":
                return value is not None and value.isdigit() and int(value) > int(next(iter(self.values)))
            case "lt":
                return value is not None and value.isdigit() and int(value) < int(next(iter(self.values)))
            case _:
                return value is None


Selector = tuple[Requirement, ...]

_SET_BASED = re.compile(r"^(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^)]*)\)$")
_NAME = re.compile(r"^([a-zA-Z0-9.-]+/)?[a-zA-Z0-9]([\w.-]*[a-zA-Z0-9])?$")


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    return all(requirement.matches(labels) for requirement in selector)


def _split(text: str) -> list[str]:
    """Split at commas, but not at those inside the parentheses of `in (a, b)`."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text)]


def parse_labels(text: str) -> Selector:
    """Parse `a=b,c!=d,e,!f,g in (h,i),j notin (k)`; raise a 400 for anything else."""
    if not text.strip():
        return ()
    return tuple(_parse_label(part) for part in _split(text))


def _parse_label(part: str) -> Requirement:
    if found := _SET_BASED.match(part):
        values = frozenset(value.strip() for value in found["values"].split(","))
        requirement = Requirement(found["key"], found["operator"], values)
    elif "!=" in part:
        key, _, value = part.partition("!=")
        requirement = Requirement(key.strip(), "notin", frozenset({value.strip()}))
    elif "=" in part:
        key, _, value = part.replace("==", "=").partition("=")
        requirement = Requirement(key.strip(), "in", frozenset({value.strip()}))
    elif part.startswith("!"):
        requirement = Requirement(part[1:].strip(), "absent")
    else:
        requirement = Requirement(part, "exists")
    if not _NAME.match(requirement.key):
        raise bad_request(
            f'unable to parse requirement: <nil>: Invalid value: "{part}": not a label selector'
        )
    return requirement


def from_spec(spec: Json | None) -> Selector:
    """Parse a LabelSelector object (matchLabels and matchExpressions)."""
    spec = spec or {}
    exact = [
        Requirement(key, "in", frozenset({value})) for key, value in (spec.get("matchLabels") or {}).items()
    ]
    operators = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent"}
    sets = [
        Requirement(entry["key"], operators[entry["operator"]], frozenset(entry.get("values") or ()))
        for entry in spec.get("matchExpressions") or ()
    ]
    return (*exact, *sets)


def from_labels(labels: Mapping[str, str]) -> Selector:
    return tuple(Requirement(key, "in", frozenset({value})) for key, value in labels.items())


def as_text(selector: Selector) -> str:
    """Return the text form, keys in order, as a scale subresource and a CloneSet's status show it."""
    return ",".join(sorted(_requirement_text(requirement) for requirement in selector))


def _requirement_text(requirement: Requirement) -> str:
    values = sorted(requirement.values)
    if requirement.operator == "in" and len(values) == 1:
        return f"{requirement.key}={values[0]}"
    if requirement.operator in ("in", "notin"):
        return f"{requirement.key} {requirement.operator} ({','.join(values)})"
    return requirement.key if requirement.operator == "exists" else f"!{requirement.key}"


class FieldRequirement(NamedTuple):
    path: tuple[str, ...]
    equal: bool
    value: str

    def matches(self, obj: Json) -> bool:
        found = lookup(obj, self.path)
        return (("" if found is None else _field_text(found)) == self.value) is self.equal


FieldSelector = tuple[FieldRequirement, ...]


def _field_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_fields(text: str, known: frozenset[str]) -> FieldSelector:
    """Parse `metadata.name=x,status.phase!=y`; refuse a field that the resource does not index, as the real
    server does.
    """
    if not text.strip():
        return ()
    return tuple(_parse_field(part.strip(), known) for part in text.split(","))


def _parse_field(part: str, known: frozenset[str]) -> FieldRequirement:
    if "=" not in part:
        raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
    equal = "!=" not in part
    key, _, value = part.partition("!=") if not equal else part.replace("==", "=").partition("=")
    if key not in known:
        raise bad_request(f"field label not supported: {key}")
    return FieldRequirement(tuple(key.split(".")), equal, value)


def fields_match(selector: FieldSelector, obj: Json) -> bool:
    return all(requirement.matches(obj) for requirement in selector)
