"""The examples for other systems, run as their authors would."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sandbox.environment import Sandbox
from sandbox.real import cache
from shared.domain.json_types import Json

KAFKA: Final = Path(__file__).parents[2] / "examples" / "kafka"
SECONDS: Final = 60


async def go() -> Path:
    """The program of the Go module, built once for each state of it."""
    module = KAFKA / "go"
    sources = b"".join(path.read_bytes() for path in sorted(module.iterdir()))

    async def build(folder: Path) -> None:
        compiler = cache.tool("go", "install Go, or put the one that `make test` found on the PATH")
        command: list[str | Path] = [compiler, "build", "-trimpath", "-ldflags=-s -w", "-o", folder, "."]
        settings = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
        await cache.run("building the example in Go", command, print, cwd=module, environment=settings)

    folder = await cache.made(f"kafka-example-{hashlib.sha256(sources).hexdigest()[:12]}", build)
    return folder / "deploy"


async def answers(sandbox: Sandbox, command: Sequence[str | Path]) -> list[Json]:
    """What a program that publishes a deploy prints of the answers; it has to end well."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env={**os.environ, "TRITON_KAFKA_BOOTSTRAP": sandbox.kafka_bootstrap},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complaints = await asyncio.wait_for(process.communicate(), SECONDS)
    except TimeoutError:
        process.kill()
        said, complaints = await process.communicate()
        raise AssertionError(f"not over after {SECONDS} s:\n{said.decode()}{complaints.decode()}") from None
    assert process.returncode == 0, said.decode() + complaints.decode()
    return [json.loads(line) for line in said.splitlines()]
