"""The discovery of the server: versions, groups, resources and just enough OpenAPI for kubectl.

kubectl reads all of it before it does anything. The OpenAPI documents say that PATCH understands
`fieldValidation`, so that kubectl leaves validation to the server, and carry the schemas of custom resources
for `kubectl explain`.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.domain.json_types import Json

from .resources import Registry, Resource

VERSION: Json = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0+triton-sandbox",
    "gitCommit": "sandbox",
    "gitTreeState": "for trying and testing: no etcd, no authentication, pods are simulated",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "cpython",
    "platform": "python/any",
}
_SCALE = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
_SUBRESOURCE_KINDS: dict[str, Json] = {
    "scale": _SCALE,
    "eviction": {"group": "policy", "version": "v1", "kind": "Eviction"},
}


def _group_version(group: str, version: str) -> Json:
    name = f"{group}/{version}" if group else version
    return {"groupVersion": name, "version": version}


def groups(registry: Registry) -> Json:
    listed = [
        {
            "name": group,
            "versions": [_group_version(group, v) for v in versions],
            "preferredVersion": _group_version(group, versions[0]),
        }
        for group, versions in registry.versions().items()
        if group
    ]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def group(registry: Registry, name: str) -> Json | None:
    found = next((entry for entry in groups(registry)["groups"] if entry["name"] == name), None)
    return found and {"kind": "APIGroup", "apiVersion": "v1", **found}


def core_versions(address: str) -> Json:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def resource_list(registry: Registry, group_name: str, version: str) -> Json:
    entries: list[Json] = []
    for resource in registry.of_version(group_name, version):
        entries.append(
            {
                "name": resource.plural,
                "singularName": resource.singular,
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": list(resource.verbs),
                "shortNames": list(resource.short_names),
                "categories": list(resource.categories),
            }
        )
        for part, verbs in resource.subresources.items():
            kind = _SUBRESOURCE_KINDS.get(part, {"kind": resource.kind})
            entries.append(
                {
                    "name": f"{resource.plural}/{part}",
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    **kind,
                    "verbs": list(verbs),
                }
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group_name}/{version}" if group_name else version,
        "resources": entries,
    }


def aggregated(registry: Registry, core: bool) -> Json:
    """Return everything about all groups in one document (apidiscovery.k8s.io/v2)."""
    items = []
    for name, versions in registry.versions().items():
        if bool(name) is core:
            continue
        listed = [
            {
                "version": v,
                "freshness": "Current",
                "resources": [_aggregated(r) for r in registry.of_version(name, v)],
            }
            for v in versions
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": listed})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _aggregated(resource: Resource) -> Json:
    own = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    return {
        "resource": resource.plural,
        "responseKind": own,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
        "shortNames": list(resource.short_names),
        "categories": list(resource.categories),
        "subresources": [
            {"subresource": part, "responseKind": _SUBRESOURCE_KINDS.get(part, own), "verbs": list(verbs)}
            for part, verbs in resource.subresources.items()
        ],
    }


def openapi_index(registry: Registry) -> Json:
    names = [
        f"apis/{group}/{v}" if group else f"api/{v}"
        for group, versions in registry.versions().items()
        for v in versions
    ]
    return {"paths": {name: {"serverRelativeURL": f"/openapi/v3/{name}"} for name in names}}


def openapi(registry: Registry, group_name: str, version: str) -> Json:
    """Return the OpenAPI v3 document of one group and version."""
    resources = registry.of_version(group_name, version)
    root = f"/apis/{group_name}/{version}" if group_name else f"/api/{version}"
    paths: Json = {}
    for resource in resources:
        scope = "/namespaces/{namespace}" if resource.namespaced else ""
        paths[f"{root}{scope}/{resource.plural}"] = {
            "get": _operation(resource, "list"),
            "post": _operation(resource, "post"),
        }
        paths[f"{root}{scope}/{resource.plural}/{{name}}"] = {
            verb: _operation(resource, verb) for verb in ("get", "put", "patch", "delete")
        }
    return {
        "openapi": "3.0.0",
        "info": {"title": "Triton sandbox", "version": VERSION["gitVersion"]},
        "paths": paths,
        "components": {"schemas": {_schema_name(resource): _schema(resource) for resource in resources}},
    }


def _kind(resource: Resource) -> Json:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _schema_name(resource: Resource) -> str:
    reversed_group = ".".join(reversed(resource.group.split("."))) if resource.group else "io.k8s.api.core"
    return f"{reversed_group}.{resource.version}.{resource.kind}"


def _schema(resource: Resource) -> Json:
    base: Json = (
        resource.schema.source
        if resource.schema
        else {
            "type": "object",
            "description": (
                f"{resource.kind}, a built-in type: the sandbox carries no description of its fields."
            ),
        }
    )
    properties: Json = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "description": "Standard object's metadata."},
        **(base.get("properties") or {}),
    }
    return {**base, "properties": properties, "x-kubernetes-group-version-kind": [_kind(resource)]}


def _operation(resource: Resource, action: str) -> Json:
    names: Iterable[str] = (
        ("dryRun", "fieldManager", "fieldValidation") if action in ("post", "put", "patch") else ()
    )
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}} for name in names
    ]
    reference = {"$ref": f"#/components/schemas/{_schema_name(resource)}"}
    operation: Json = {
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _kind(resource),
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
    }
    if action == "patch":
        kinds = ("application/json-patch+json", "application/merge-patch+json")
        operation["requestBody"] = {"content": {kind: {"schema": {"type": "object"}} for kind in kinds}}
    return operation
