"""The versions that the servers report."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path
from typing import Final

import aiohttp
from redis.asyncio import Redis

from sandbox.real.cache import Say, kubectl, run

UNKNOWN: Final = "unknown"
_API_VERSIONS: Final = 18
_METADATA_VERSION: Final = b"\x11metadata.version"
"""A compact string: its length and one, then its bytes."""
_KAFKA_RELEASES: Final = {25: "4.0", 27: "4.1", 29: "4.2", 30: "4.3"}
"""The last `metadata.version` of each release, by Kafka's own `MetadataVersion`."""


async def kafka(bootstrap: str) -> str:
    """Return the newest release whose metadata the broker can write (by ApiVersions 3; it does not report its own)."""
    host, _, port = bootstrap.split(",", maxsplit=1)[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        # header version 2: api, version, correlation, client id (none), no tags; then name and version of the client
        request = struct.pack(">hhihB", _API_VERSIONS, 3, 1, -1, 0) + b"\x07triton" + b"\x020" + b"\x00"
        writer.write(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        answer = await reader.readexactly(length)
    finally:
        writer.close()
    at = answer.find(_METADATA_VERSION)
    if at < 0:
        return UNKNOWN
    _, most = struct.unpack_from(">hh", answer, at + len(_METADATA_VERSION))
    return _KAFKA_RELEASES.get(most, f"metadata.version {most}")


async def redis(url: str) -> str:
    """Return `redis_version` of INFO."""
    async with Redis.from_url(url) as client:
        return str((await client.info("server"))["redis_version"])


async def elasticsearch(url: str) -> str:
    """Return the node's version, by `_nodes/_local`: without its REST root module a node has none at `GET /`."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_nodes/_local") as answer:
        nodes = (await answer.json())["nodes"].values()
        return ", ".join(sorted({str(node["version"]) for node in nodes}))


async def etcd(url: str) -> str:
    """Return the version of the API server."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/version") as answer:
        return str((await answer.json(content_type=None))["etcdserver"])


async def kubernetes(kubeconfig: Path, say: Say) -> str:
    """Return `gitVersion` of the API server; raise `SandboxError`."""
    command: list[str | Path] = [kubectl(), "get", "--raw", "/version"]
    said = await run(
        "reading the cluster's version",
        command,
        say,
        cwd=kubeconfig.parent,
        environment={"KUBECONFIG": str(kubeconfig)},
    )
    return str(json.loads(said)["gitVersion"])
