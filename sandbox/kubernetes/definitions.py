"""CustomResourceDefinitions at work: each becomes a served resource, and stops being one when it is deleted.

Of a definition with several versions the one that is stored is served: conversion between versions is not
here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from shared.domain.json_types import Json

from .api import Api
from .builtins import DEFINITIONS
from .resources import Column, Registry, Resource
from .schema import Schema
from .store import Event

_STATUS_VERBS = ("get", "patch", "update")


def resource_of(definition: Json) -> Resource:
    """Return the resource that a checked definition describes."""
    spec = definition["spec"]
    names = spec["names"]
    version = next(version for version in spec["versions"] if version.get("storage"))
    parts = version.get("subresources") or {}
    columns = tuple(
        Column(
            c["name"],
            c["jsonPath"],
            c.get("type", "string"),
            c.get("priority", 0),
            c.get("format", ""),
            c.get("description", ""),
        )
        for c in version.get("additionalPrinterColumns") or ()
    )
    fields = frozenset(entry["jsonPath"].lstrip(".") for entry in version.get("selectableFields") or ())
    return Resource(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        status="status" in parts,
        scale=parts.get("scale"),
        columns=columns,
        fields=fields,
        custom=True,
        schema=Schema(version["schema"]["openAPIV3Schema"], root=True),
        subresources={part: _STATUS_VERBS for part in ("status", "scale") if part in parts},
    )


class Definitions:
    """Keeps the registry in step with the definitions in the store."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._served: dict[str, Resource] = {}
        api.store.listen(DEFINITIONS.key, self._changed)

    @property
    def _registry(self) -> Registry:
        return self._api.registry

    def _changed(self, event: Event) -> None:
        name = event.record.obj["metadata"]["name"]
        before = self._served.get(name)
        spec_kept = event.before is not None and event.before.obj["spec"] == event.record.obj["spec"]
        if event.kind == "MODIFIED" and spec_kept:
            return
        if before is not None:
            self._registry.remove(self._served.pop(name))
        if event.kind == "DELETED":
            self._forget_objects(before)
        else:
            self._served[name] = resource_of(event.record.obj)
            self._registry.add(self._served[name])

    def _forget_objects(self, resource: Resource | None) -> None:
        if resource is None:
            return
        for record in list(self._api.store.collection(resource.key).records()):
            metadata = record.obj["metadata"]
            self._api.store.remove(resource.key, metadata.get("namespace", ""), metadata["name"])

    def load(self, path: Path) -> None:
        """Create the definitions of a YAML file; leave other kinds in it alone."""
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, dict) and document.get("kind") == DEFINITIONS.kind:
                self._api.create(DEFINITIONS, "", plain(document))


def plain(value: Any) -> Any:
    """Turn the datetimes that YAML makes of bare timestamps back into text, as JSON has it."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat().replace("+00:00", "Z")
    return value
