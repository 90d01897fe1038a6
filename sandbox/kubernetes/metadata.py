"""Checks of the metadata that all objects have, in the words of the API server."""

from __future__ import annotations

import re

from shared.domain.json_types import Json

from .causes import Cause
from .objects import encode, is_terminating

_STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_QUALIFIED = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def metadata_causes(metadata: Json, old: Json | None) -> list[Cause]:
    """Return what is wrong with an object's metadata; `old` is the metadata that it replaces, None for a new object."""
    return [
        *_strings(metadata),
        *_finalizer_causes(metadata),
        *_new_finalizer_causes(metadata, old),
        *_owner_causes(metadata),
    ]


def _strings(metadata: Json) -> list[Cause]:
    return [
        Cause(
            f"metadata.{part}.{key}",
            "FieldValueTypeInvalid",
            f"Invalid value: {value!r}: must be a string",
        )
        for part in ("labels", "annotations")
        if isinstance(entries := metadata.get(part), dict)
        for key, value in entries.items()
        if not isinstance(value, str)
    ]


def _finalizer_causes(metadata: Json) -> list[Cause]:
    return [
        Cause(
            f"metadata.finalizers[{n}]",
            "FieldValueInvalid",
            f'Invalid value: "{name}": name is neither a standard finalizer name nor is it fully qualified',
        )
        for n, name in enumerate(metadata.get("finalizers") or ())
        if name not in _STANDARD_FINALIZERS and not _QUALIFIED.fullmatch(name)
    ]


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
                causes.append(
                    Cause(
                        f"metadata.ownerReferences.{field}",
                        "FieldValueInvalid",
                        f'Invalid value: "": {what}',
                    )
                )
    return causes
