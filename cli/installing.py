"""Putting the CRD into a cluster: created, or replaced when it is there, never over somebody else's change."""

from __future__ import annotations

from typing import Any, Final

from cli.connection import Cluster
from cli.exits import Failure
from shared.kube.client import CRDS, ApiError

Json = dict[str, Any]
_ATTEMPTS: Final = 5


async def install(cluster: Cluster, definition: Json) -> str:
    """Returns the line that says what came of it."""
    name = definition["metadata"]["name"]
    for _ in range(_ATTEMPTS):
        try:
            return f"customresourcedefinition/{name} {await _attempt(cluster, name, definition)}"
        except ApiError as error:
            if error.code != 409:
                raise
    msg = f"customresourcedefinition/{name} was changed by others {_ATTEMPTS} times meanwhile: try again"
    raise Failure(msg)


async def _attempt(cluster: Cluster, name: str, definition: Json) -> str:
    try:
        there = await cluster.ask(cluster.client.get(CRDS, "", name))
    except ApiError as error:
        if error.code != 404:
            raise
        await cluster.ask(cluster.client.create(CRDS, None, definition))
        return "created"
    version = there["metadata"]["resourceVersion"]
    metadata = {**there["metadata"], **definition["metadata"], "resourceVersion": version}
    after = await cluster.ask(cluster.client.replace(CRDS, None, name, {**definition, "metadata": metadata}))
    return "unchanged" if after["metadata"]["resourceVersion"] == version else "replaced"
