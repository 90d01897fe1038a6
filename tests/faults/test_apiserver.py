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
        await _controllers_anew(sandbox)


async def test_a_release_goes_on_after_etcd_and_the_api_server_were_killed(
    sandbox: Sandbox, releases: Releases
) -> None:
    async with disturbed(sandbox, releases, "etcd", endpoints=False):
        for part in ("apiserver", "etcd"):
            sandbox.kill(part)
        for part in ("etcd", "apiserver"):
            await sandbox.start(part)
        await _controllers_anew(sandbox)


async def _controllers_anew(sandbox: Sandbox) -> None:
    # as in a cluster, where it ends by itself with its lease; left running it may fill no endpoints for minutes
    sandbox.kill("controller-manager")
    await sandbox.start("controller-manager")
