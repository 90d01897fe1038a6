"""The rules of writing: what create, update, patch and delete mean for any object.

Optimistic locking, generations, the separation of status from spec, finalizers and grace periods are the same
for all resources, so they are here once; the HTTP server and the controllers inside the sandbox both come
through here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from shared.domain.json_types import Json

from . import errors
from .budgets import check_eviction
from .builtins import PODS
from .causes import Cause
from .errors import ApiError
from .metadata import check_types, metadata_causes, name_causes
from .objects import encode, is_terminating, random_suffix, timestamp, with_metadata
from .policies import Policies, Write
from .quotas import check_quota
from .resources import Registry, Resource
from .scale import read_scale
from .store import Record, Store
from .strategies import Strategy, check_kind


@contextmanager
def _types_as_refusals(resource: Resource) -> Iterator[None]:
    """Refuse an object whose values have other types than its fields, as decoders of Go do."""
    try:
        yield
    except (TypeError, AttributeError, ValueError, LookupError, RecursionError) as error:
        raise errors.bad_request(f"json: cannot unmarshal a value of {resource.kind}: {error}") from error


GENERATED_LENGTH = 58
"""The most of `generateName` that goes before the five random letters of a name."""

OBJECT_BYTES = 1536 * 1024
"""The most that etcd stores of one object."""

_SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_LASTING_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})
_PLAIN = Strategy()

Change = Callable[[Json], Json]
"""A patch as a function from the live object to the wanted one."""


@dataclass
class Options:
    """How a write is meant: tried only, and how strictly unknown fields are taken. Warnings come back in
    it.
    """

    dry_run: bool = False
    field_validation: str = "Ignore"
    warnings: list[str] = field(default_factory=list)


class Api:
    """Writes by the rules, on a store."""

    def __init__(self, store: Store, registry: Registry, strategies: dict[str, Strategy]) -> None:
        self.store = store
        self.registry = registry
        self._strategies = strategies
        self._policies = Policies(store)

    def get(self, resource: Resource, namespace: str, name: str) -> Record:
        record = self.store.get(resource.key, namespace, name)
        if record is None:
            raise errors.not_found(resource, name)
        return record

    def create(
        self, resource: Resource, namespace: str, body: Json, options: Options | None = None
    ) -> Record:
        options = options or Options()
        check_kind(resource, body)
        obj = self._new(resource, namespace, body)
        name = obj["metadata"]["name"]
        obj = self._checked(resource, obj, None, options)
        if self.store.get(resource.key, namespace, name) is not None:
            raise errors.already_exists(resource, name)
        self._review(Write(resource, namespace, name, "CREATE", obj, None), options)
        with _types_as_refusals(resource):
            self._strategy(resource).admit(obj, None)
        check_quota(self.store, resource, obj)
        return Record(obj, 0) if options.dry_run else self._put(resource, obj)

    def _put(self, resource: Resource, obj: Json) -> Record:
        """Store an object, unless it is larger than etcd takes."""
        if len(encode(obj)) > OBJECT_BYTES:
            raise ApiError(500, "", "etcdserver: request is too large")
        return self.store.put(resource.key, obj)

    def _review(self, write: Write, options: Options) -> None:
        options.warnings.extend(self._policies.review(write._replace(dry_run=options.dry_run)))

    def _new(self, resource: Resource, namespace: str, body: Json) -> Json:
        metadata = {
            key: value for key, value in (body.get("metadata") or {}).items() if key not in _SERVER_OWNED
        }
        if metadata.pop("resourceVersion", None):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        if metadata.get("namespace", namespace) not in ("", namespace):
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"][:GENERATED_LENGTH] + random_suffix()
        self._check_name(resource, metadata.get("name") or "")
        self._check_namespace(resource, namespace, metadata["name"])
        metadata.pop("selfLink", None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp(), "generation": 1}
        if resource.namespaced:
            metadata["namespace"] = namespace
        obj = {"kind": resource.kind, "apiVersion": resource.api_version, **body, "metadata": metadata}
        if resource.status:
            obj.pop("status", None)
        return obj

    def _check_name(self, resource: Resource, name: str) -> None:
        if not name:
            cause = Cause(
                "metadata.name", "FieldValueRequired", "Required value: name or generateName is required"
            )
            raise errors.invalid(resource, name, [cause])
        if causes := name_causes(resource, name):
            raise errors.invalid(resource, name, causes)

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        found = self.store.get("namespaces", "", namespace)
        if found is None:
            spaces = self.registry.find("", "v1", "namespaces")
            assert spaces is not None
            raise errors.not_found(spaces, namespace)
        if is_terminating(found.obj):
            raise errors.namespace_terminating(resource, name, namespace)

    def _strategy(self, resource: Resource) -> Strategy:
        return self._strategies.get(resource.key, _PLAIN)

    def _checked(self, resource: Resource, new: Json, old: Json | None, options: Options) -> Json:
        """Return the object as it would be stored; raise Invalid with every field that is wrong."""
        name = new["metadata"]["name"]
        check_types(resource, new["metadata"])
        causes = metadata_causes(new["metadata"], old["metadata"] if old else None)
        if resource.schema is not None:
            new, dropped = resource.schema.prune(new)
            _report_unknown(resource, dropped, options)
            new = resource.schema.default(new)
            causes += resource.schema.validate(new, "", old)
        if not causes:
            with _types_as_refusals(resource):
                new = self._strategy(resource).prepare(new, old)
                causes = self._strategy(resource).check(new, old)
        if causes:
            raise errors.invalid(resource, name, causes)
        return new

    def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Json,
        options: Options | None = None,
        subresource: str = "",
    ) -> Record:
        """Replace the object (PUT); with `status` replace only its status."""
        check_kind(resource, body)
        metadata = body.get("metadata") or {}
        if metadata.get("name", name) != name:
            raise errors.bad_request(
                f"the name of the object ({metadata.get('name')}) does not match the name on the URL ({name})"
            )
        if resource.custom and not metadata.get("resourceVersion"):
            self.get(resource, namespace, name)
            raise errors.invalid(
                resource,
                name,
                [
                    Cause(
                        "metadata.resourceVersion",
                        "FieldValueInvalid",
                        "Invalid value: 0x0: must be specified for an update",
                    )
                ],
            )
        found = self.get(resource, namespace, name).obj["metadata"]["uid"]
        if metadata.get("uid", found) != found:
            raise errors.wrong_uid(resource, name, metadata["uid"], found)
        return self.patch(resource, namespace, name, lambda _live: body, options, subresource)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Change,
        options: Options | None = None,
        subresource: str = "",
    ) -> Record:
        """Write what `change` makes of the live object; unchanged objects keep their version.

        `subresource` says what may be changed (`status`: only that), and what admission sees.
        """
        options = options or Options()
        live = self.get(resource, namespace, name)
        wanted = change(live.obj)
        if not isinstance(wanted, dict) or not isinstance(wanted.get("metadata", {}), dict):
            raise errors.bad_request("the patched object is not an object any more")
        self._check_preconditions(resource, name, live.obj, wanted.get("metadata") or {})
        new = self._merged(resource, live.obj, wanted, subresource)
        new = self._checked(resource, new, live.obj, options)
        seen = partial(read_scale, resource) if subresource == "scale" else _itself
        write = Write(resource, namespace, name, "UPDATE", seen(new), seen(live.obj), subresource)
        self._review(write, options)
        if new == live.obj:
            return live
        if _content(new) != _content(live.obj):
            new = with_metadata(new, generation=live.obj["metadata"].get("generation", 1) + 1)
        if not subresource:
            with _types_as_refusals(resource):
                self._strategy(resource).admit(new, live.obj)
        if options.dry_run:
            return Record(new, live.version)
        record = self._put(resource, new)
        if may_go(record.obj):
            return self.store.remove(resource.key, namespace, name) or record
        return record

    def _check_preconditions(self, resource: Resource, name: str, live: Json, wanted: Json) -> None:
        metadata = live["metadata"]
        if wanted.get("resourceVersion") and wanted["resourceVersion"] != metadata["resourceVersion"]:
            raise errors.stale(resource, name)
        if wanted.get("uid") and wanted["uid"] != metadata["uid"]:
            text = f'Invalid value: "{wanted["uid"]}": field is immutable'
            raise errors.invalid(resource, name, [Cause("metadata.uid", "FieldValueInvalid", text)])

    def _merged(self, resource: Resource, live: Json, wanted: Json, subresource: str) -> Json:
        """Put the parts of a written object that this path may change on top of the live one's others."""
        if subresource == "status":
            metadata = live["metadata"]
            if not resource.custom:
                allowed = {
                    key: value
                    for key, value in (wanted.get("metadata") or {}).items()
                    if key in ("labels", "annotations")
                }
                metadata = {**metadata, **allowed}
            merged = {**live, "metadata": metadata, "status": wanted.get("status")}
            return {key: value for key, value in merged.items() if key != "status" or value is not None}
        metadata = {
            key: value for key, value in (wanted.get("metadata") or {}).items() if value not in (None, {}, [])
        }
        metadata = {
            **metadata,
            "resourceVersion": live["metadata"]["resourceVersion"],
            "name": live["metadata"]["name"],
        }
        for key in (*_SERVER_OWNED, "namespace", "generateName"):
            metadata.pop(key, None)
            if key in live["metadata"]:
                metadata[key] = live["metadata"][key]
        new = {**wanted, "kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        if resource.status:
            new.pop("status", None)
            if "status" in live:
                new["status"] = live["status"]
        return new

    def evict(self, namespace: str, name: str, eviction: Json, dry_run: bool) -> None:
        """Delete a pod, unless a PodDisruptionBudget does not allow it now."""
        pod = self.get(PODS, namespace, name).obj
        write = Write(PODS, namespace, name, "CREATE", eviction, None, "eviction", dry_run)
        self._review(write, Options(dry_run=dry_run))
        check_eviction(self.store, pod)
        self.delete(PODS, namespace, name, eviction.get("deleteOptions"), dry_run, is_reviewed=True)

    def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Json | None = None,
        dry_run: bool = False,
        is_reviewed: bool = False,
    ) -> tuple[Record, bool]:
        """Delete an object or mark it for deletion; return it and whether it is gone."""
        body = body or {}
        live = self.get(resource, namespace, name)
        if resource.key == "namespaces" and name in _LASTING_NAMESPACES:
            raise errors.forbidden(resource, name, "this namespace may not be deleted")
        self._check_delete_preconditions(resource, name, live.obj, body.get("preconditions") or {})
        if not is_reviewed:
            self._review(Write(resource, namespace, name, "DELETE", None, live.obj), Options(dry_run=dry_run))
        finalizers = _finalizers(live.obj, body)
        grace = _grace(resource, live.obj, body)
        if dry_run:
            return live, not finalizers and not grace
        if finalizers or grace or resource.key == "namespaces":
            return self._terminate(resource, live, grace, finalizers), False
        return self.store.remove(resource.key, namespace, name) or live, True

    def _terminate(self, resource: Resource, live: Record, grace: int, finalizers: list[str]) -> Record:
        metadata = live.obj["metadata"]
        before = metadata.get("deletionGracePeriodSeconds")
        is_later = is_terminating(live.obj) and (before is None or grace >= before)
        if is_later:
            if finalizers == (metadata.get("finalizers") or []):
                return live
            return self.store.put(resource.key, with_metadata(live.obj, finalizers=finalizers or None))
        changes: Json = {"deletionTimestamp": timestamp(datetime.now(UTC) + timedelta(seconds=grace))}
        if resource.key != "namespaces":
            changes |= {
                "deletionGracePeriodSeconds": grace,
                "generation": metadata.get("generation", 1) + 1,
            }
        obj = with_metadata(live.obj, **changes, finalizers=finalizers or None)
        if resource.key == "namespaces":
            obj = {**obj, "status": {"phase": "Terminating"}}
        return self.store.put(resource.key, obj)

    def _check_delete_preconditions(self, resource: Resource, name: str, live: Json, wanted: Json) -> None:
        metadata = live["metadata"]
        if wanted.get("uid") and wanted["uid"] != metadata["uid"]:
            raise errors.wrong_uid(resource, name, wanted["uid"], metadata["uid"])
        if wanted.get("resourceVersion") and wanted["resourceVersion"] != metadata["resourceVersion"]:
            raise errors.conflict(
                resource,
                name,
                "Precondition failed: ResourceVersion in precondition: "
                f"{wanted['resourceVersion']}, ResourceVersion in object meta: "
                f"{metadata['resourceVersion']}",
            )

    def finish_delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Finish a graceful deletion: the grace period has passed or nothing runs any more."""
        live = self.store.get(resource.key, namespace, name)
        if live is None or live.obj["metadata"]["uid"] != uid:
            return
        if live.obj["metadata"].get("finalizers"):
            if live.obj["metadata"].get("deletionGracePeriodSeconds"):
                self.store.put(resource.key, with_metadata(live.obj, deletionGracePeriodSeconds=0))
            return
        self.store.remove(resource.key, namespace, name)


def _itself(obj: Json) -> Json:
    return obj


def may_go(obj: Json) -> bool:
    """Return whether an object is marked for deletion with neither finalizer nor grace period left."""
    metadata = obj["metadata"]
    return (
        is_terminating(obj)
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
        and obj.get("kind") != "Namespace"
    )


def _content(obj: Json) -> Json:
    """Return the part whose changes a generation counts: everything but metadata and status."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _finalizers(live: Json, body: Json) -> list[str]:
    """Return the finalizers that a deletion leaves: the collector's own follow the policy, if one is named."""
    kept = list(live["metadata"].get("finalizers") or ())
    policy = body.get("propagationPolicy") or ("Orphan" if body.get("orphanDependents") is True else "")
    if not policy:
        return kept
    added = {"Orphan": ["orphan"], "Foreground": ["foregroundDeletion"]}.get(policy, [])
    return [name for name in kept if name not in ("foregroundDeletion", "orphan")] + added


def _grace(resource: Resource, live: Json, body: Json) -> int:
    """Return the seconds in which a pod has to stop; 0 for pods without a node."""
    if resource.key != "pods" or not live.get("spec", {}).get("nodeName"):
        return 0
    if (live.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return 0
    seconds: Any = body.get("gracePeriodSeconds")
    if seconds is None:
        seconds = live["spec"].get("terminationGracePeriodSeconds", 30)
    return max(int(seconds), 0)


def _report_unknown(resource: Resource, dropped: list[str], options: Options) -> None:
    if not dropped or options.field_validation == "Ignore":
        return
    sentences = [f'unknown field "{path}"' for path in dropped]
    if options.field_validation == "Strict":
        raise ApiError(
            400,
            "BadRequest",
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f"{resource.kind}: strict decoding error: {', '.join(sentences)}",
        )
    options.warnings.extend(sentences)
