"""The resources of the server: one description each, built in or made from a CustomResourceDefinition.

Everything else (paths, discovery, tables, validation) is driven by these descriptions, so that a custom
resource goes through exactly the code that a built-in one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.domain.json_types import Json

from .schema import Schema

GroupVersion = tuple[str, str]


@dataclass(frozen=True)
class Column:
    """A printer column: shown by default with priority 0, with `-o wide` otherwise."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    format: str = ""
    description: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Resource:
    """A kind of object that is served: what it is called, what it can do and how it is shown."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status: bool = False
    scale: Json | None = None
    columns: tuple[Column, ...] = ()
    fields: frozenset[str] = frozenset()
    schema: Schema | None = None
    custom: bool = False
    verbs: tuple[str, ...] = (
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    )
    subresources: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`pods`, `clonesets.apps.kruise.io`: the name in messages and in the store."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def selectable_fields(self) -> frozenset[str]:
        return self.fields | {"metadata.name", "metadata.namespace"}

    def path(self, namespace: str, name: str) -> str:
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{root}{scope}/{self.plural}/{name}"


class Registry:
    """The resources served at the moment; custom ones come and go with their definitions."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._by_kind: dict[tuple[str, str, str], Resource] = {}

    def add(self, resource: Resource) -> None:
        self._by_path[resource.group, resource.version, resource.plural] = resource
        self._by_kind[resource.group, resource.version, resource.kind] = resource

    def remove(self, resource: Resource) -> None:
        self._by_path.pop((resource.group, resource.version, resource.plural), None)
        self._by_kind.pop((resource.group, resource.version, resource.kind), None)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_path.get((group, version, plural))

    def of_key(self, key: str) -> Resource | None:
        return next((resource for resource in self if resource.key == key), None)

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._by_path.values()))

    def of_version(self, group: str, version: str) -> list[Resource]:
        return [resource for resource in self if (resource.group, resource.version) == (group, version)]

    def versions(self) -> dict[str, list[str]]:
        """Return the versions of each group, in the order in which they were added."""
        found: dict[str, list[str]] = {}
        for resource in self:
            versions = found.setdefault(resource.group, [])
            if resource.version not in versions:
                versions.append(resource.version)
        return found
