"""A request as read from its path, query and headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .api import Options
from .errors import bad_request, no_such_path
from .resources import Registry, Resource
from .selectors import parse_fields, parse_labels
from .watches import Scope


@dataclass(frozen=True)
class Target:
    """The resource, object and subresource of a path; no name means the collection."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse_target(registry: Registry, path: str) -> Target:
    """Parse `/api/v1/…` or `/apis/<group>/<version>/…`; raise a 404 for anything that is not served."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_path()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and (group or rest[2] not in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    resource = registry.find(group, version, rest[0])
    if resource is None or len(rest) > 3 or (namespace and not resource.namespaced):
        raise no_such_path()
    target = Target(resource, namespace, *rest[1:])
    if target.subresource and target.subresource not in resource.subresources:
        raise no_such_path()
    if resource.namespaced and target.name and not namespace:
        raise no_such_path()
    return target


def scope_of(target: Target, query: Mapping[str, str]) -> Scope:
    fields = parse_fields(query.get("fieldSelector", ""), target.resource.selectable_fields)
    return Scope(target.namespace, parse_labels(query.get("labelSelector", "")), fields)


def options_of(query: Mapping[str, str]) -> Options:
    dry_run = query.get("dryRun", "")
    if dry_run not in ("", "All"):
        raise bad_request(f'Invalid value: "{dry_run}": dryRun: Unsupported value: supported values: "All"')
    return Options(dry_run=dry_run == "All", field_validation=query.get("fieldValidation") or "Warn")


def is_true(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not text.isdigit():
        raise bad_request(f'{name}: Invalid value: "{text}": must be a number')
    return int(text)


def wants_table(accept: str) -> bool:
    """Return whether the first acceptable form is a Table; kubectl lists it before plain JSON."""
    return "as=Table" in accept


def wants_aggregated(accept: str) -> bool:
    return "as=APIGroupDiscoveryList" in accept and "v=v2" in accept.replace("v=v2beta1", "")
