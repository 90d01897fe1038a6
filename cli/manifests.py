"""Files of objects: read, checked before anything is sent, and applied to the cluster.

Every error names the file, the document and the field.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from cli.connection import Cluster
from cli.control import new_request_id
from cli.exits import BadInput, Failure
from shared.domain import bounded_yaml
from shared.domain.deploy_commands import CHANGE, changed_by, requested
from shared.domain.deployflow import (
    API_VERSION,
    FREEZE_OVERRIDE,
    KIND,
    LAST_REQUEST,
    LAST_STEP,
    LAST_STEP_BY,
    REQUESTED_BY,
    REQUESTED_BY_CLAIMED,
    REQUESTED_STRATEGY,
    REQUESTED_VIA,
    DeployFlowSpec,
    problems,
)
from shared.domain.json_types import Json
from shared.domain.requesters import Origin
from shared.kube.client import ApiError, Resource

STDIN: Final = "-"


class Document(NamedTuple):
    """One object of a file; `where` is its name in messages."""

    where: str
    body: Json

    @property
    def is_flow(self) -> bool:
        return bool(self.body["apiVersion"] == API_VERSION and self.body["kind"] == KIND)

    def spec(self) -> DeployFlowSpec:
        """Return the spec of a DeployFlow; raises `BadInput` that names each invalid field."""
        from pydantic import ValidationError

        spec = self.body.get("spec")
        if not isinstance(spec, dict):
            msg = f"{self.where}: spec: missing, a DeployFlow needs action and application"
            raise BadInput(msg)
        try:
            return DeployFlowSpec.model_validate(spec)
        except ValidationError as error:
            # a rule over several fields names them itself, starting at the spec
            text = problems(error, "spec")
            msg = f"{self.where}: {text}"
            raise BadInput(msg) from error

    def overriding_freeze(self, reason: str) -> Document:
        """Return a DeployFlow with the annotation that overrides freeze windows, any other object unchanged."""
        if not self.is_flow:
            return self
        metadata = self.body["metadata"]
        annotations = (metadata.get("annotations") or {}) | {FREEZE_OVERRIDE: reason}
        metadata = metadata | {"annotations": annotations}
        return self._replace(body=self.body | {"metadata": metadata})


def read(file: str) -> list[Document]:
    """Return the objects of a YAML or JSON file with one or more documents; "-" is standard input.

    Raises `BadInput` for a file that is none, or beyond the bounds of `bounded_yaml`.
    """
    name = "standard input" if file == STDIN else file
    try:
        data = _beginning(file)
    except OSError as error:
        msg = f"{name} can't be read: {error.strerror}"
        raise BadInput(msg) from error
    try:
        bodies = bounded_yaml.read_all(data)
    except bounded_yaml.Unreadable as error:
        msg = f"{name} can't be read as YAML: {error}"
        raise BadInput(msg) from error
    documents = [
        document
        for number, body in enumerate(bodies, 1)
        if body is not None
        for document in _documents(f"{name}, document {number}", body)
    ]
    if not documents:
        msg = f"{name} has no objects"
        raise BadInput(msg)
    return documents


def _beginning(file: str) -> bytes:
    """Return what is read of a file, which may have no end: enough to see that it is too large."""
    most = bounded_yaml.MOST_BYTES + 1
    if file == STDIN:
        return sys.stdin.buffer.read(most)
    with Path(file).open("rb") as opened:
        return opened.read(most)


def _documents(where: str, body: object) -> list[Document]:
    if not isinstance(body, dict):
        msg = f"{where}: not an object with apiVersion, kind and metadata"
        raise BadInput(msg)
    if body.get("kind") == "List" and isinstance(body.get("items"), list):
        items = enumerate(body["items"], 1)
        return [found for number, item in items for found in _documents(f"{where}, item {number}", item)]
    for field in ("apiVersion", "kind"):
        if not isinstance(body.get(field), str):
            msg = f"{where}: {field}: missing"
            raise BadInput(msg)
    metadata = body.get("metadata")
    name = metadata.get("name") or metadata.get("generateName") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        msg = f"{where} ({body['kind']}): metadata.name: missing"
        raise BadInput(msg)
    where = f"{where} ({body['kind']} {name})"
    try:
        # dates and other types of YAML become strings
        return [Document(where, json.loads(json.dumps(body, default=str)))]
    except TypeError as error:
        msg = f"{where}: the keys of objects are texts: put dates in quotes"
        raise BadInput(msg) from error


class Kind(NamedTuple):
    resource: Resource
    namespaced: bool


async def _kind(cluster: Cluster, document: Document) -> Kind:
    """Find the resource of the object in the API server's discovery."""
    api_version, kind = document.body["apiVersion"], document.body["kind"]
    root = "/apis" if "/" in api_version else "/api"
    try:
        answer = await cluster.call(cluster.client.list_page(Resource(root, api_version), None, {}))
    except ApiError as error:
        if error.code != 404:
            raise
        resources = []
    else:
        resources = json.loads(answer)["resources"]
    for resource in resources:
        if resource["kind"] == kind and "/" not in resource["name"]:
            return Kind(Resource(f"{root}/{api_version}", resource["name"]), bool(resource["namespaced"]))
    hint = ": install the CRD with `triton crd --install`" if document.is_flow else ""
    msg = f"{document.where}: the cluster knows no {kind} of {api_version}{hint}"
    raise Failure(msg)


async def apply(
    cluster: Cluster,
    document: Document,
    *,
    namespace_explicit: bool,
    requested_by: str,
    origin: Origin,
    begins: Callable[[str], Awaitable[None]] | None = None,
) -> str:
    """Create or merge-patch the object; return the line that reports the result.

    `begins`: called with the namespace before a release is created; raises where it is not to be.
    """
    resource, namespaced = await _kind(cluster, document)
    metadata = document.body["metadata"]
    namespace = namespace_of(document, cluster.namespace, explicit=namespace_explicit) if namespaced else ""
    body = document.body | ({"metadata": metadata | {"namespace": namespace}} if namespaced else {})
    by = _Requester(requested_by, origin) if document.is_flow else None
    try:
        name, outcome = await _put(
            cluster, resource, namespace, body, by, begins if document.is_flow else None
        )
    except ApiError as error:
        kind = BadInput if error.code in {400, 422} else Failure
        msg = f"{document.where}: {error}"
        raise kind(msg) from error
    group = document.body["apiVersion"].partition("/")[0] if "/" in document.body["apiVersion"] else ""
    return f"{document.body['kind'].lower()}{'.' + group if group else ''}/{name} {outcome}"


def namespace_of(document: Document, default: str, *, explicit: bool) -> str:
    """Return the namespace of the object, else the default.

    Raises `BadInput` if the default is `explicit` (from --namespace) and the object names another one.
    """
    namespace = str(document.body["metadata"].get("namespace", default))
    if explicit and namespace != default:
        msg = f"{document.where}: metadata.namespace is {namespace}, but --namespace is {default}"
        raise BadInput(msg)
    return namespace


_ON_RECORD: Final = {
    REQUESTED_BY,
    REQUESTED_BY_CLAIMED,
    REQUESTED_VIA,
    LAST_REQUEST,
    LAST_STEP,
    LAST_STEP_BY,
    REQUESTED_STRATEGY,
}
"""The annotations about requests: a file may have those of the object that it was read from."""


class _Requester(NamedTuple):
    """Who applies a DeployFlow: in a new one they are on record as its requester, in another as who changed it."""

    name: str
    origin: Origin

    def making(self, body: Json) -> Json:
        body = _without_requesters(body)
        return self._annotated(body, requested(new_request_id(), self.name, origin=self.origin))

    def changing(self, before: Json, body: Json) -> Json:
        """Return the body without the requester that a file has; with this one where it changes the release."""
        body = _without_requesters(body)
        override = (body["metadata"].get("annotations") or {}).get(FREEZE_OVERRIDE)
        overrides = override not in {None, (before["metadata"].get("annotations") or {}).get(FREEZE_OVERRIDE)}
        if merged(before["spec"], body["spec"]) == before["spec"] and not overrides:
            return body
        return self._annotated(body, changed_by(new_request_id(), self.name, CHANGE, self.origin))

    def _annotated(self, body: Json, request: dict[str, str]) -> Json:
        metadata = body["metadata"]
        return body | {"metadata": metadata | {"annotations": (metadata.get("annotations") or {}) | request}}


def _without_requesters(body: Json) -> Json:
    annotations = body["metadata"].get("annotations")
    if not annotations:
        return body
    kept = {key: value for key, value in annotations.items() if key not in _ON_RECORD}
    return body | {"metadata": body["metadata"] | {"annotations": kept}}


def merged(current: Any, patch: Any) -> Any:
    """Merge `patch` into `current` as a merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


async def _put(
    cluster: Cluster,
    resource: Resource,
    namespace: str,
    body: Json,
    by: _Requester | None,
    begins: Callable[[str], Awaitable[None]] | None,
) -> tuple[str, str]:
    client, name = cluster.client, body["metadata"].get("name")
    if name:
        try:
            before = await cluster.call(client.get(resource, namespace, name))
        except ApiError as error:
            if error.code != 404:
                raise
        else:
            body = by.changing(before, body) if by else body
            after = await cluster.call(client.patch(resource, namespace, name, body))
            same = after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
            return name, "unchanged" if same else "configured"
    if begins:
        await begins(namespace)
    made = await cluster.call(client.create(resource, namespace or None, by.making(body) if by else body))
    return made["metadata"]["name"], "created"
