"""Removes the owner reference that Triton 0.1.x left on a CloneSet whose release has finished.

Triton 0.1.x made the DeployFlow the CloneSet's owner, and did not always remove the reference at the end. With it,
deleting the DeployFlow deletes the application too, and readiness keeps gates closed for a release that no longer
runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from shared.errors import Unavailable
from shared.kube.client import CLONESETS, DEPLOYFLOWS, ApiError, Client
from shared.kube.clonesets import CloneSet, is_deployflow
from shared.kube.reflector import Reflector

CHECK_SECONDS: Final = 15.0
_log = logging.getLogger(__name__)


class LegacyOwners:
    """Checks the CloneSets of this replica's partitions that a DeployFlow owns; a running release keeps its own."""

    def __init__(self, client: Client, reflector: Reflector[CloneSet], owns: Callable[[str], bool]) -> None:
        self._client = client
        self._clonesets = reflector
        self._owns = owns

    async def check_forever(self) -> None:
        while True:
            await self.check()
            await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        for cloneset in list(self._clonesets.items.values()):
            meta = cloneset.metadata
            if not cloneset.owner or not self._owns(f"{meta.namespace}/{meta.name}"):
                continue
            try:
                if await self._has_finished(cloneset):
                    await self._remove_owner(cloneset)
            except (ApiError, Unavailable) as error:
                # changed meanwhile, or not reached: tried again at the next check
                _log.warning(
                    "could not remove the owner of CloneSet %s/%s: %s", meta.namespace, meta.name, error
                )

    async def _has_finished(self, cloneset: CloneSet) -> bool:
        meta = cloneset.metadata
        name = next(str(ref["name"]) for ref in meta.owner_references if is_deployflow(ref))
        try:
            flow = await self._client.get(DEPLOYFLOWS, meta.namespace, name)
        except ApiError as error:
            if error.code == 404:
                return True
            raise
        return flow["metadata"]["uid"] != cloneset.owner or bool((flow.get("status") or {}).get("finished"))

    async def _remove_owner(self, cloneset: CloneSet) -> None:
        meta = cloneset.metadata
        owners = cloneset.other_owners or None
        body = {"metadata": {"resourceVersion": meta.resource_version, "ownerReferences": owners}}
        self._clonesets.put(await self._client.patch(CLONESETS, meta.namespace, meta.name, body))
        _log.info("removed the DeployFlow that owned CloneSet %s/%s", meta.namespace, meta.name)
