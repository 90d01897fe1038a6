"""Install the CRD in a cluster: create it, or replace it without overwriting a concurrent change."""

from __future__ import annotations

from typing import Final

from cli.connection import Cluster
from cli.exits import Failure
from shared.domain.json_types import Json
from shared.kube.client import CRDS, ApiError

_ATTEMPTS: Final = 5


async def install(cluster: Cluster, definition: Json) -> str:
    """Create or replace the CRD; return the line that reports the result."""
    name = definition["metadata"]["name"]
    for _ in range(_ATTEMPTS):
        try:
            return f"customresourcedefinition/{name} {await _attempt(cluster, name, definition)}"
        except ApiError as error:
            if error.code != 409:
                raise
    msg = (
        f"customresourcedefinition/{name} was changed by others {_ATTEMPTS} times in the meantime: try again"
    )
    raise Failure(msg)


async def _attempt(cluster: Cluster, name: str, definition: Json) -> str:
    try:
        there = await cluster.call(cluster.client.get(CRDS, "", name))
    except ApiError as error:
        if error.code != 404:
            raise
        await cluster.call(cluster.client.create(CRDS, None, definition))
        return "created"
    version = there["metadata"]["resourceVersion"]
    metadata = {**there["metadata"], **definition["metadata"], "resourceVersion": version}
    after = await cluster.call(cluster.client.replace(CRDS, None, name, {**definition, "metadata": metadata}))
    return "unchanged" if after["metadata"]["resourceVersion"] == version else "replaced"
