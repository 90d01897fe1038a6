"""Requests the adoption of a CloneSet on behalf of somebody whose right to write it was decided before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from shared.domain.deploy_commands import Refusal
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, ApiError, Client
from shared.kube.clonesets import CloneSet
from shared.kube.ownership import adoption_patch, explain_obstacles, was_written

ATTEMPTS: Final = 10
"""OpenKruise writes the status of a CloneSet meanwhile; each write is a conflict."""


async def request_adoption(
    client: Client, namespace: str, name: str, *, requested_by: str, identity: Mapping[str, str]
) -> Json:
    """Return the CloneSet with the annotation and the labels of an adopted one; one that is Triton's keeps its own.

    `identity`: labels of the application to set on the CloneSet itself. Raises `Refusal`, `ApiError`, `Unavailable`.
    """
    for _ in range(ATTEMPTS):
        try:
            found = await client.get(CLONESETS, namespace, name)
        except ApiError as error:
            if error.code == 404:
                raise Refusal("NotFound", f"CloneSet {namespace}/{name} does not exist") from error
            raise
        live = msgspec.convert(found, CloneSet)
        if not was_written(live) and (text := explain_obstacles(live)):
            raise Refusal("NotAdoptable", text)
        patch = adoption_patch(live, requested_by=requested_by, identity=identity)
        if patch is None:
            return found
        try:
            return await client.patch(CLONESETS, namespace, name, patch)
        except ApiError as error:
            if error.code != 409:
                raise
    msg = f"CloneSet {namespace}/{name} keeps changing"
    raise Unavailable(msg)
