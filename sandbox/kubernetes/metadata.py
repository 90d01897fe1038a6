"""Names, labels and other metadata that all objects have, checked in the words of the API server."""

from __future__ import annotations

import re
from typing import Any

from shared.domain.json_types import Json

from .causes import Cause
from .errors import bad_request
from .objects import encode, is_terminating
from .resources import Resource

ANNOTATIONS_BYTES = 256 * 1024
"""All keys and values of an object's annotations together."""

LABEL_LENGTH = 63
NAME_LENGTH = 253

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"

_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
    f"end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    f"start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_DNS_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    f"validation is '{_DNS_1035}')"
)
_QUALIFIED_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    f"'{_QUALIFIED}')"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
    f"validation is '{_LABEL_VALUE}')"
)
_STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})


def label_complaints(name: str) -> list[str]:
    """Return what is wrong with a DNS label: the name of a namespace, a container or the like."""
    return _complaints(name, LABEL_LENGTH, _LABEL, _LABEL_RULE)


def name_causes(resource: Resource, name: str) -> list[Cause]:
    """Return what is wrong with the name of an object; most names are DNS subdomains."""
    match resource.key:
        case "namespaces":
            complaints = ["must not contain dots"] if "." in name else label_complaints(name)
        case "services":
            complaints = _complaints(name, LABEL_LENGTH, _DNS_1035, _DNS_1035_RULE)
        case _:
            complaints = _subdomain_complaints(name)
    return _invalid("metadata.name", name, complaints)


def metadata_causes(metadata: Json, old: Json | None) -> list[Cause]:
    """Return what is wrong with an object's metadata; `old` is the metadata that it replaces, None for a new object."""
    before = old or {}
    causes: list[Cause] = []
    if metadata.get("labels") != before.get("labels"):
        causes += label_causes(metadata.get("labels") or {}, "metadata.labels")
    if metadata.get("annotations") != before.get("annotations"):
        causes += annotation_causes(metadata.get("annotations") or {}, "metadata.annotations")
    causes += _finalizer_causes(metadata)
    causes += _new_finalizer_causes(metadata, old)
    causes += _owner_causes(metadata)
    return causes


def check_types(resource: Resource, metadata: Json) -> None:
    """Raise the refusal of labels or annotations whose values are not text."""
    for part in ("labels", "annotations"):
        for value in (metadata.get(part) or {}).values():
            if not isinstance(value, str):
                where = f"ObjectMeta.{part}" if resource.custom else f"ObjectMeta.metadata.{part}"
                raise bad_request(
                    f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
                    f"json: cannot unmarshal {_go_type(value)} into Go struct field {where} of type string"
                )


def label_causes(labels: Json, path: str) -> list[Cause]:
    """Return what is wrong with labels, of an object or of a pod template."""
    causes: list[Cause] = []
    for key, value in labels.items():
        causes += _invalid(path, key, _key_complaints(key))
        causes += _invalid(path, value, _complaints(value, LABEL_LENGTH, _LABEL_VALUE, _LABEL_VALUE_RULE))
    return causes


def annotation_causes(
    annotations: Json, path: str, too_long: str = "may not be more than {} bytes"
) -> list[Cause]:
    """Return what is wrong with annotations, of an object or of a pod template."""
    causes: list[Cause] = []
    for key in annotations:
        causes += _invalid(path, key, _key_complaints(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > ANNOTATIONS_BYTES:
        text = f"Too long: {too_long.format(ANNOTATIONS_BYTES)}"
        causes.append(Cause(path, "FieldValueTooLong", text))
    return causes


def _complaints(text: str, length: int, pattern: str, rule: str) -> list[str]:
    complaints = [f"must be no more than {length} characters"] if len(text) > length else []
    return complaints if re.fullmatch(pattern, text) else [*complaints, rule]


def _subdomain_complaints(text: str) -> list[str]:
    return _complaints(text, NAME_LENGTH, _SUBDOMAIN, _SUBDOMAIN_RULE)


def _key_complaints(key: str) -> list[str]:
    """Return what is wrong with the key of a label or annotation: `name` or `prefix/name`."""
    prefix, slash, name = key.rpartition("/")
    if "/" in prefix:
        with_prefix = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a qualified name {_QUALIFIED_RULE}{with_prefix}"]
    complaints = [f"prefix part {text}" for text in _subdomain_complaints(prefix)] if slash else []
    complaints += [
        f"name part {text}" for text in _complaints(name, LABEL_LENGTH, _QUALIFIED, _QUALIFIED_RULE)
    ]
    return complaints


def _invalid(path: str, value: Any, complaints: list[str]) -> list[Cause]:
    return [Cause(path, "FieldValueInvalid", f'Invalid value: "{value}": {text}') for text in complaints]


def _go_type(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case list():
            return "array"
    return "object"


def _finalizer_causes(metadata: Json) -> list[Cause]:
    causes: list[Cause] = []
    for n, name in enumerate(metadata.get("finalizers") or ()):
        if name not in _STANDARD_FINALIZERS and ("/" not in name or _key_complaints(name)):
            text = "name is neither a standard finalizer name nor is it fully qualified"
            causes += _invalid(f"metadata.finalizers[{n}]", name, [text])
    return causes


def _new_finalizer_causes(metadata: Json, old: Json | None) -> list[Cause]:
    if old is None or not is_terminating({"metadata": old}):
        return []
    before = set(old.get("finalizers") or ())
    added = [name for name in metadata.get("finalizers") or () if name not in before]
    if not added:
        return []
    shown = encode(added).decode()[1:-1].replace(",", ", ")
    text = (
        "Forbidden: no new finalizers can be added if the object is being deleted, "
        f"found new finalizers []string{{{shown}}}"
    )
    return [Cause("metadata.finalizers", "FieldValueForbidden", text)]


def _owner_causes(metadata: Json) -> list[Cause]:
    causes: list[Cause] = []
    for owner in metadata.get("ownerReferences") or ():
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                what = "version must not be empty" if field == "apiVersion" else "must not be empty"
                causes += _invalid(f"metadata.ownerReferences.{field}", "", [what])
    return causes
