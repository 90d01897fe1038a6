"""A cluster without OpenKruise, and one without DeployFlows: the services say what is missing, and wait for it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from sandbox.process import Part, Probe
from sandbox.real.cluster import Cluster
from sandbox.real.cluster_build import provide
from shared.kube import client as k8s
from shared.kube.client import ApiError, Client
from tests.system.programs import Program, printed, triton
from tests.system.releases import NAMESPACE, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

STOP_SECONDS = 15
CRD = "the cluster does not know deployflows: install the CRD (make install)"
OPENKRUISE = (
    "the cluster does not know clonesets: install OpenKruise (https://openkruise.io/docs/installation)"
)


class _Bare:
    """Runs the parts of a second cluster in the sandbox, under other names."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.names: list[str] = []

    async def run(
        self,
        name: str,
        command: list[str],
        probe: Probe,
        environment: Mapping[str, str] | None = None,
        *,
        reads_stdout: bool = False,
    ) -> Part:
        self.names.append(f"bare-{name}")
        return await self._sandbox.run(self.names[-1], command, probe, environment, reads_stdout=reads_stdout)


@pytest_asyncio.fixture(loop_scope="session")
async def kubeconfig(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Path]:
    """Of a Kubernetes with nothing in it."""
    parts = _Bare(sandbox)
    path = tmp_path / "kubeconfig"
    await Cluster(parts, tmp_path / "cluster", path, [], print).start_bare()
    try:
        yield path
    finally:
        for name in reversed(parts.names):
            await sandbox.stop(name)


async def test_services_wait_for_definitions_by_name_and_work_as_soon_as_they_are_there(
    sandbox: Sandbox, kubeconfig: Path
) -> None:
    own = {"TRITON_KUBECONFIG": str(kubeconfig), "TRITON_PREFIX": "bare"}
    environment = sandbox.environment | own
    async with (
        triton("planner", environment=environment) as planner,
        triton("executor", environment=environment) as executor,
        triton("readiness", environment=environment) as readiness,
    ):
        await planner.says(f"watch of deployflows: {CRD}")
        await _misses(planner, "the list of DeployFlows", CRD)
        await executor.says(f"watch of clonesets: {OPENKRUISE}")
        await _misses(executor, "the list of CloneSets", OPENKRUISE)
        await until("readiness needs neither", readiness.is_ready)

        await printed("crd", "--install", environment=environment)
        await until("the planner is ready", planner.is_ready)
        client = await Client.connect(kubeconfig, agent="test")
        await client.create(
            k8s.DEPLOYFLOWS, NAMESPACE, deployflow("bare-1", "bare", action="create", replicas=2)
        )
        await until("the planner has begun", lambda: _phase(client))
        assert not await executor.is_ready()

        await _install_clonesets(kubeconfig)
        await until("the executor is ready", executor.is_ready)
        await until("the CloneSet is made", lambda: _cloneset_is_there(client))
        await client.close()
        for program in (planner, executor, readiness):
            assert await program.stops(signal.SIGTERM, STOP_SECONDS) == 0


async def test_services_that_wait_for_definitions_stop_on_a_signal(
    sandbox: Sandbox, kubeconfig: Path
) -> None:
    environment = sandbox.environment | {"TRITON_KUBECONFIG": str(kubeconfig), "TRITON_PREFIX": "bare-too"}
    async with (
        triton("planner", environment=environment) as planner,
        triton("executor", environment=environment) as executor,
    ):
        for program in (planner, executor):
            await program.says("the cluster does not know ")
            assert await program.stops(signal.SIGTERM, STOP_SECONDS) == 0
            assert "Traceback" not in program.said


async def _misses(program: Program, what: str, why: str) -> None:
    code, body = await program.answers("/readyz")
    assert code == 503
    assert why in body["missing"][what]
    assert await program.answers("/healthz") == (200, {"status": "ok"})


async def _phase(client: Client) -> str:
    flow = await client.get(k8s.DEPLOYFLOWS, NAMESPACE, "bare-1")
    return str((flow.get("status") or {}).get("phase") or "")


async def _cloneset_is_there(client: Client) -> bool:
    try:
        return bool(await client.get(k8s.CLONESETS, NAMESPACE, "bare"))
    except ApiError:
        return False


async def _install_clonesets(kubeconfig: Path) -> None:
    folder = (await provide(print)).kruise / "config" / "crd" / "bases"
    kubectl = shutil.which("kubectl")
    assert kubectl
    process = await asyncio.create_subprocess_exec(
        *(kubectl, "apply", "--server-side", "-f", str(folder / "apps.kruise.io_clonesets.yaml")),
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
    )
    assert await process.wait() == 0
