"""The API server, or all of the control plane's memory, is killed in the middle of a release, and comes back."""

from __future__ import annotations

import pytest

from sandbox.environment import Sandbox
from tests.faults.disturbed import PHASES, disturbed
from tests.system.releases import Releases

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


@pytest.mark.parametrize("phase", PHASES)
async def test_a_release_goes_on_after_the_api_server_was_killed(
    sandbox: Sandbox, releases: Releases, phase: str
) -> None:
    async with disturbed(sandbox, releases, f"apiserver-{phase.lower()}", phase, endpoints=False):
        sandbox.kill("apiserver")
        await sandbox.start("apiserver")
        await _restart_clients(sandbox)


async def test_a_release_goes_on_after_etcd_and_the_api_server_were_killed(
    sandbox: Sandbox, releases: Releases
) -> None:
    async with disturbed(sandbox, releases, "etcd", endpoints=False):
        for part in ("apiserver", "etcd"):
            sandbox.kill(part)
        for part in ("etcd", "apiserver"):
            await sandbox.start(part)
        await _restart_clients(sandbox)


async def _restart_clients(sandbox: Sandbox) -> None:
    # client-go waits longer before each connection within two minutes, up to a minute: after the third of these kills
    # its clients may be deaf for that long. In a cluster the controllers end with their leases, and begin without that
    # wait; the kubelets, which would not, are one process here, and have the same of their own
    for part in ("controller-manager", "scheduler", "kruise", "kwok"):
        sandbox.kill(part)
    for part in ("controller-manager", "scheduler", "kruise", "kwok"):
        await sandbox.start(part)
