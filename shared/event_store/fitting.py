"""Check that a document fits the mapping, as Elasticsearch does: for a store that has no mapping of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from shared.domain.json_types import Json
from shared.event_store.interface import Document, Stream
from shared.event_store.templates import fields, mapping

LONGEST_ID: Final = 512
"""Bytes."""
_MAPPINGS: Final = {stream: mapping(fields(stream)) for stream in Stream}
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DAY_AND_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}(T\S+)?")


def misfit(document: Document) -> str:
    """Return why Elasticsearch would refuse the document, with the field's name; empty if it would accept it."""
    size = len(document.id.encode(errors="surrogatepass"))
    if not 0 < size <= LONGEST_ID:
        return f"id: must have 1 to {LONGEST_ID} bytes, has {size}"
    moments = [moment for moment in _flat(document.source.get("@timestamp")) if moment is not None]
    if not moments:
        return "@timestamp: missing"
    if len(moments) > 1:
        return "@timestamp: only one is allowed"
    try:
        json.dumps(document.source, allow_nan=False)
    except ValueError as error:
        return f"no JSON: {error}"
    return next(_faults(_MAPPINGS[document.stream], document.source, ""), "")


def _faults(mapped: Json, value: Any, path: str) -> Iterator[str]:
    for one in _flat(value):
        if one is None:
            continue
        if "properties" not in mapped:
            if not _fits(mapped["type"], one):
                yield f"{path}: {one!r:.200} is no {mapped['type']}"
        elif not isinstance(one, dict):
            yield f"{path}: {one!r:.200} is no object"
        else:
            for name in one.keys() & mapped["properties"].keys():
                yield from _faults(mapped["properties"][name], one[name], f"{path}.{name}".lstrip("."))


def _flat(value: Any) -> Iterable[Any]:
    """Yield the values of a field: any field may have several, also in nested lists."""
    if isinstance(value, list):
        return [inner for item in value for inner in _flat(item)]
    return [value]


def _fits(kind: str, value: Any) -> bool:
    if isinstance(value, dict):
        return False
    match kind:
        case "long":
            return _is_long(value)
        case "boolean":
            return isinstance(value, bool) or value in ("true", "false", "")
        case "date":
            return _is_date(value)
        case _:  # texts take whatever has a text, and a malformed address is ignored
            return True


def _is_long(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if value == "":
        return True
    return bool(_NUMBER.fullmatch(str(value))) and -(2**63) <= Decimal(str(value)) < 2**63


def _is_date(value: Any) -> bool:
    if not isinstance(value, str):
        return not isinstance(value, bool)
    if value.isdecimal():
        return True
    try:
        return bool(_DAY_AND_TIME.fullmatch(value) and datetime.fromisoformat(value))
    except ValueError:
        return False
