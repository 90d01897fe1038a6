"""Choose the backend of a command by its options and connect to it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from cli.backend import Backend
from cli.exits import BadInput
from cli.options import Where, server_of


@contextlib.asynccontextmanager
async def reach(where: Where) -> AsyncIterator[Backend]:
    """Connect to the server or cluster that the options name; raises `BadInput` where they contradict each other."""
    for option, value in (("--kubeconfig", where.kubeconfig), ("--context", where.context)):
        if where.server and value:
            msg = f"--server and {option}: use only one of them"
            raise BadInput(msg)
    # imported here: a command loads either the client of Kubernetes or the one of Triton's server
    if server := server_of(where):
        from cli.by_server import ByServer, client

        async with client(server, where) as triton:
            yield ByServer(triton)
        return
    from cli.connection import Place, connect
    from cli.in_cluster import InCluster

    async with connect(Place.of(where.kubeconfig, where.namespace, where.context)) as cluster:
        yield InCluster(cluster)
