"""Where the contract cases run: on the embedded cluster, or on the real thing.

`TRITON_TEST_STACK=real` starts kube-apiserver with OpenKruise for them; `TRITON_CONTRACT_KUBECONFIG` names a cluster
that is there.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from .kube import Connection, Kube, read_kubeconfig
from .widgets import DEFINITION, DEFINITIONS

ROOT = Path(__file__).parents[2]
GIVEN = os.environ.get("TRITON_CONTRACT_KUBECONFIG", "")

REAL = bool(GIVEN) or os.environ.get("TRITON_TEST_STACK") == "real"

sandbox_only = pytest.mark.skipif(REAL, reason="about the sandbox itself")


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if GIVEN:
        yield Path(GIVEN)
        return
    path = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    command = _real(path.parent) if REAL else _embedded(path)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline().lower()
        yield path
        process.terminate()
        assert process.wait(timeout=30) in {0, 130}


def _real(state: Path) -> list[str]:
    options = ["--real", "--replicas", "0", "--state", str(state)]
    return [sys.executable, "-m", "cli.main", "sandbox", *options]


def _embedded(path: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "sandbox.kubernetes",
        "--kubeconfig",
        str(path),
        "--bookmark-seconds",
        "0.3",
        "--start-seconds",
        "0.05-0.25",
        "--stop-seconds",
        "0.05-0.15",
    ]


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Connection:
    return read_kubeconfig(kubeconfig)


@pytest_asyncio.fixture
async def kube(cluster: Connection) -> AsyncIterator[Kube]:
    """A client with a namespace of its own."""
    namespace = f"contract-{secrets.token_hex(4)}"
    async with aiohttp.ClientSession(headers=cluster.headers) as session:
        kube = Kube(session, cluster, namespace)
        await kube.made("/api/v1/namespaces", {"metadata": {"name": namespace}})
        yield kube
        await kube.delete(f"/api/v1/namespaces/{namespace}")


@pytest_asyncio.fixture
async def widgets(kube: Kube) -> str:
    """The collection of a custom resource with schema, rules, columns and subresources."""
    answer = await kube.post(DEFINITIONS, DEFINITION)
    assert answer.code in (201, 409), answer.body
    await kube.until(
        f"{DEFINITIONS}/{DEFINITION['metadata']['name']}",
        lambda found: any(
            c["type"] == "Established" and c["status"] == "True" for c in found["status"]["conditions"]
        ),
    )
    path = kube.path("/apis/contract.triton.io/v1/namespaces/{}/widgets")
    await kube.until(path, lambda found: found["kind"] == "WidgetList")
    return path
