"""A cluster of the sandbox for all cases here, in a hurry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.kube import Kube, namespaced, read_kubeconfig
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
    async with namespaced(read_kubeconfig(kubeconfig), "sandbox") as kube:
        yield kube


@pytest.fixture
def kubectl(kube: Kube, kubeconfig: Path, tmp_path: Path) -> Run:
    return kubectl_of(kubeconfig, kube.namespace, tmp_path)
