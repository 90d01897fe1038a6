"""A cluster of the sandbox for all cases here, in a hurry."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.contract.kube import Kube, read_kubeconfig
from tests.contract.kubectl import Run, kubectl_of

ROOT = Path(__file__).parents[2]
QUICK = ["--start-seconds", "0.05-0.25", "--stop-seconds", "0.05-0.15"]


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    command = [sys.executable, "-m", "sandbox.kubernetes", "--kubeconfig", str(path), *QUICK]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "ready" in process.stdout.readline()
            yield path
        finally:
            process.terminate()
        assert process.wait(timeout=30) == 0


@pytest_asyncio.fixture
async def kube(kubeconfig: Path) -> AsyncIterator[Kube]:
    """A client with a namespace of its own."""
    connection = read_kubeconfig(kubeconfig)
    namespace = f"sandbox-{secrets.token_hex(4)}"
    async with aiohttp.ClientSession(headers=connection.headers) as session:
        kube = Kube(session, connection, namespace)
        await kube.made("/api/v1/namespaces", {"metadata": {"name": namespace}})
        yield kube
        await kube.delete(f"/api/v1/namespaces/{namespace}")


@pytest.fixture
def kubectl(kube: Kube, kubeconfig: Path, tmp_path: Path) -> Run:
    return kubectl_of(kubeconfig, kube.namespace, tmp_path)
