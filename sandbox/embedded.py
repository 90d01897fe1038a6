"""The sandbox's own Kafka, Redis, event store and Kubernetes: small stand-ins that need Python packages alone."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from sandbox.process import Part, Parts, Reached

BACKENDS: Final = "backends"
KUBERNETES: Final = "kubernetes"
FETCH_MAX_WAIT_MS: Final = "200"
"""Other requests of the same connection, after a change of the group, wait behind a fetch."""
SESSION_TIMEOUT_MS: Final = "3000"
"""A group of the mock's settles this long, less a second, after each change of its members."""


class EmbeddedStack:
    """They keep their state in memory: killed, it is lost."""

    played = "its Kubernetes runs no containers"

    async def start(self, parts: Parts, state: Path, kubeconfig: Path) -> Reached:
        """Start them and wait until they can be used. Raises `SandboxError`."""
        backends, _ = await asyncio.gather(
            parts.run(BACKENDS, [sys.executable, "-m", "sandbox.backends"], _announces, reads_stdout=True),
            _kubernetes(parts, state, kubeconfig),
        )
        settings = {
            "TRITON_KAFKA_BOOTSTRAP": str(backends.announced["kafka"]),
            "TRITON_KAFKA_FETCH_MAX_WAIT_MS": FETCH_MAX_WAIT_MS,
            "TRITON_KAFKA_SESSION_TIMEOUT_MS": SESSION_TIMEOUT_MS,
            "TRITON_REDIS_URL": str(backends.announced["redis"]),
            "TRITON_EVENT_STORE": f"sqlite:///{state / 'events.db'}",
        }
        return Reached(settings)

    async def versions(self) -> dict[str, str]:
        """Return nothing: the parts are as old as Triton itself."""
        return {}


async def _kubernetes(parts: Parts, state: Path, kubeconfig: Path) -> None:
    # the backends start while this is imported and written
    from shared.kube.crd import crd_yaml

    crd = state / "crd.yaml"
    crd.write_text(crd_yaml())
    command = [sys.executable, "-m", "sandbox.kubernetes", "--port", "0"]
    command += ["--kubeconfig", str(kubeconfig), "--crd", str(crd)]
    await parts.run(KUBERNETES, command, _announces, reads_stdout=True)


async def _announces(part: Part) -> None:
    await part.first_line()
