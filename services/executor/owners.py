"""Takes away the claim that Triton 0.1.x left on a CloneSet whose release is over.

That one made the DeployFlow the CloneSet's owner, and took the reference away at the end, though not always. A
DeployFlow that is deleted then takes the application with it, and readiness holds gates closed for a release that
nobody carries on.
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

AGAIN_SECONDS: Final = 15.0
_log = logging.getLogger(__name__)


class Owners:
    """Looks at the claimed CloneSets of this replica's partitions; those of a running release stay claimed."""

    def __init__(self, client: Client, reflector: Reflector[CloneSet], owns: Callable[[str], bool]) -> None:
        self._client = client
        self._clonesets = reflector
        self._owns = owns

    async def look_forever(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(AGAIN_SECONDS)

    async def look(self) -> None:
        for cloneset in list(self._clonesets.items.values()):
            meta = cloneset.metadata
            if not cloneset.owner or not self._owns(f"{meta.namespace}/{meta.name}"):
                continue
            try:
                if await self._over(cloneset):
                    await self._release(cloneset)
            except (ApiError, Unavailable) as error:
                # changed meanwhile, or not reached: again at the next look
                _log.warning("owner of CloneSet %s/%s: %s", meta.namespace, meta.name, error)

    async def _over(self, cloneset: CloneSet) -> bool:
        meta = cloneset.metadata
        name = next(str(ref["name"]) for ref in meta.owner_references if is_deployflow(ref))
        try:
            flow = await self._client.get(DEPLOYFLOWS, meta.namespace, name)
        except ApiError as error:
            if error.code == 404:
                return True
            raise
        return flow["metadata"]["uid"] != cloneset.owner or bool((flow.get("status") or {}).get("finished"))

    async def _release(self, cloneset: CloneSet) -> None:
        meta = cloneset.metadata
        owners = cloneset.other_owners or None
        body = {"metadata": {"resourceVersion": meta.resource_version, "ownerReferences": owners}}
        self._clonesets.put(await self._client.patch(CLONESETS, meta.namespace, meta.name, body))
        _log.info("CloneSet %s/%s is owned by no DeployFlow any more", meta.namespace, meta.name)
