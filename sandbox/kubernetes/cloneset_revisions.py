"""Revisions of a CloneSet: a name for each template, and the templates themselves, kept as
ControllerRevisions.

The name comes from the template alone, so going back to an earlier template gives its name again; keeping the
template lets pods of an old revision be made while a release is half done.
"""

from __future__ import annotations

import zlib

import msgspec

from shared.domain.json_types import Json

from .api import Api
from .builtins import CONTROLLER_REVISIONS
from .objects import SUFFIX_ALPHABET, name_of, namespace_of, uid_of
from .store import Record

HASH_LABEL = "controller-revision-hash"
REVISION_LABEL = "controller.kubernetes.io/hash"
DEFAULT_HISTORY = 10

_sorted_json = msgspec.json.Encoder(order="deterministic").encode


def template_hash(template: Json) -> str:
    """Return at most ten letters that identify a template, in the alphabet of generated names."""
    digits = str(zlib.crc32(_sorted_json(template)))
    return "".join(SUFFIX_ALPHABET[int(digit)] for digit in digits)


def owner_reference(cloneset: Json) -> Json:
    return {
        "apiVersion": cloneset["apiVersion"],
        "kind": cloneset["kind"],
        "name": name_of(cloneset),
        "uid": uid_of(cloneset),
        "controller": True,
        "blockOwnerDeletion": True,
    }


class Revisions:
    """The ControllerRevisions of CloneSets."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def of(self, cloneset: Json) -> list[Record]:
        """Return a CloneSet's revisions, oldest first."""
        found = self._api.store.dependents(uid_of(cloneset), CONTROLLER_REVISIONS.key)
        return sorted(found, key=lambda record: record.obj["revision"])

    def update_revision(self, cloneset: Json) -> str:
        """Return the revision of the CloneSet's current template; make it or bring it to the front where needed."""
        template = cloneset["spec"]["template"]
        name = f"{name_of(cloneset)}-{template_hash(template)}"
        known = self.of(cloneset)
        newest = known[-1].obj["revision"] if known else 0
        if known and name_of(known[-1].obj) == name:
            return name
        earlier = self._api.store.get(CONTROLLER_REVISIONS.key, namespace_of(cloneset), name)
        if earlier is not None:
            self._api.store.put(CONTROLLER_REVISIONS.key, {**earlier.obj, "revision": newest + 1})
            return name
        labels = {
            **(template.get("metadata") or {}).get("labels", {}),
            REVISION_LABEL: template_hash(template),
        }
        self._api.create(
            CONTROLLER_REVISIONS,
            namespace_of(cloneset),
            {
                "metadata": {"name": name, "labels": labels, "ownerReferences": [owner_reference(cloneset)]},
                "data": {"spec": {"template": {**template, "$patch": "replace"}}},
                "revision": newest + 1,
            },
        )
        return name

    def template(self, cloneset: Json, revision: str) -> Json:
        """Return the template of a revision; the CloneSet's own when the revision is no longer known."""
        record = self._api.store.get(CONTROLLER_REVISIONS.key, namespace_of(cloneset), revision)
        if record is None:
            return dict(cloneset["spec"]["template"])
        kept = record.obj["data"]["spec"]["template"]
        return {key: value for key, value in kept.items() if key != "$patch"}

    def truncate(self, cloneset: Json, live: set[str]) -> None:
        """Forget the oldest revisions that no pod has, beyond the history limit."""
        limit = cloneset["spec"].get("revisionHistoryLimit", DEFAULT_HISTORY)
        unused = [record for record in self.of(cloneset) if name_of(record.obj) not in live]
        for record in unused[: max(len(unused) - limit, 0)]:
            self._api.store.remove(CONTROLLER_REVISIONS.key, namespace_of(cloneset), name_of(record.obj))
