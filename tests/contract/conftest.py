"""Where the contract cases run: on the sandbox's own parts or, with `TRITON_TEST_STACK=real`, on the real ones.

Either way it is one `triton sandbox` without services for all cases. A difference between the two is a fault of the
sandbox.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.settings import Settings

from .kube import Connection, Kube, namespaced, read_kubeconfig
from .kubectl import Run, kubectl_of
from .widgets import DEFINITION, DEFINITIONS

ROOT = Path(__file__).parents[2]
REAL = os.environ.get("TRITON_TEST_STACK") == "real"


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """How every part is reached: what a service's environment would be."""
    state = tmp_path_factory.mktemp("sandbox")
    command = [sys.executable, "-m", "cli.main", "sandbox", "--replicas", "0", "--state", str(state)]
    command += ["--real"] if REAL else []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("READY")
            lines = (state / "sandbox.env").read_text().splitlines()
            yield dict(shlex.split(line)[0].split("=", 1) for line in lines)
        finally:
            process.terminate()
        assert process.wait(timeout=30) in {0, 130}


@pytest.fixture
def settings(environment: Mapping[str, str]) -> Settings:
    """Settings of a service, with a prefix of the test's own: nobody else has its topics, groups and indices."""
    fields: dict[str, Any] = {
        name.removeprefix("TRITON_").lower(): value
        for name, value in environment.items()
        if name.startswith("TRITON_")
    }
    return Settings(**fields, prefix=f"contract-{secrets.token_hex(4)}")


@pytest.fixture(scope="session")
def kubeconfig(environment: Mapping[str, str]) -> Path:
    return Path(environment["TRITON_KUBECONFIG"])


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Connection:
    return read_kubeconfig(kubeconfig)


@pytest_asyncio.fixture
async def kube(cluster: Connection) -> AsyncIterator[Kube]:
    async with namespaced(cluster, "contract") as kube:
        yield kube


@pytest.fixture
def kubectl(kube: Kube, kubeconfig: Path, tmp_path: Path) -> Run:
    """Runs a command in the test's namespace; it has to succeed, silently on standard error."""
    return kubectl_of(kubeconfig, kube.namespace, tmp_path)


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
