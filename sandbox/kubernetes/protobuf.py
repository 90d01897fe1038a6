"""Reads the few protobuf bodies that kubectl insists on sending.

`kubectl create namespace`, `configmap`, `secret` and `serviceaccount` speak protobuf whatever the server offers. The
numbers are those of Kubernetes' published .proto files; answers are JSON, which every client takes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from shared.domain.json_types import Json

from .errors import unsupported_media_type

MAGIC = b"k8s\x00"

_METADATA = {1: "name", 2: "generateName", 3: "namespace", 11: "labels", 12: "annotations", 14: "finalizers"}
_FIELDS: dict[str, dict[int, str]] = {
    "Namespace": {1: "metadata"},
    "ServiceAccount": {1: "metadata"},
    "ConfigMap": {1: "metadata", 2: "data", 3: "binaryData", 4: "immutable"},
    "Secret": {1: "metadata", 2: "data", 3: "type", 4: "stringData", 5: "immutable"},
    "DeleteOptions": {1: "gracePeriodSeconds", 4: "propagationPolicy", 5: "dryRun"},
}
_MAPS = frozenset({"labels", "annotations", "data", "stringData"})
_BYTE_MAPS = frozenset({("Secret", "data"), ("ConfigMap", "binaryData")})
_LISTS = frozenset({"finalizers", "dryRun"})
_FIXED64 = 1


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
            case 2:
                length, at = _varint(data, at)
                yield tag >> 3, data[at : at + length]
                at += length
            case kind:
                at += 8 if kind == _FIXED64 else 4


def _entry(data: bytes, as_bytes: bool) -> tuple[str, str]:
    parts = {number: value for number, value in _fields(data) if isinstance(value, bytes)}
    value = parts.get(2, b"")
    return parts.get(1, b"").decode(), base64.b64encode(value).decode() if as_bytes else value.decode()


def _object(kind: str, names: dict[int, str], data: bytes) -> Json:
    found: Json = {}
    for number, value in _fields(data):
        name = names.get(number, "")
        if name == "metadata" and isinstance(value, bytes):
            found[name] = _object("", _METADATA, value)
        elif isinstance(value, bytes) and ((kind, name) in _BYTE_MAPS or name in _MAPS):
            key, text = _entry(value, (kind, name) in _BYTE_MAPS)
            found.setdefault(name, {})[key] = text
        elif name in _LISTS and isinstance(value, bytes):
            found.setdefault(name, []).append(value.decode())
        elif name:
            plain: Any = value.decode() if isinstance(value, bytes) else value
            found[name] = bool(plain) if name == "immutable" else plain
    return {key: value for key, value in found.items() if value != ""}


def decode(data: bytes) -> Json:
    """Decode the object in a Kubernetes protobuf body; raise a 415 for kinds other than the few supported."""
    if not data.startswith(MAGIC):
        raise unsupported_media_type("the body is not Kubernetes protobuf")
    envelope = dict(_fields(data[len(MAGIC) :]))
    kind_of, raw = envelope.get(1, b""), envelope.get(2, b"")
    assert isinstance(kind_of, bytes)
    assert isinstance(raw, bytes)
    words = {number: value.decode() for number, value in _fields(kind_of) if isinstance(value, bytes)}
    kind = words.get(2, "")
    if kind not in _FIELDS:
        raise unsupported_media_type(f"the sandbox reads no protobuf of {kind}: send JSON")
    return {"apiVersion": words.get(1, ""), "kind": kind, **_object(kind, _FIELDS[kind], raw)}
