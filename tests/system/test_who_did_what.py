"""Who requested a release, and who changed it, by kubectl, the command line, REST and Kafka."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.system.other_system import OtherSystem, press
from tests.system.programs import TRITON
from tests.system.releases import Releases, deployflow
from triton_client import AsyncTriton

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

NAMESPACE = "who"


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


async def test_each_step_has_its_own_requester_and_the_release_keeps_its_own(
    sandbox: Sandbox, releases: Releases, tmp_path: Any
) -> None:
    file = tmp_path / "first.yaml"
    import yaml

    body = deployflow("who-1", "who", action="create", replicas=2, batchSize=1, mode="manual")
    body["metadata"]["namespace"] = NAMESPACE
    file.write_text(yaml.safe_dump(body))

    async def triton(*arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            TRITON,
            *arguments,
            env={**os.environ, "KUBECONFIG": str(sandbox.kubeconfig)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()

    async def last(command: str, by: str, via: str) -> None:
        def is_there(status: Json) -> bool:
            found = status.get("lastCommand") or {}
            return (found.get("command"), found.get("requestedBy"), found.get("requestedVia")) == (
                command,
                by,
                via,
            )

        status = await releases.until_status("who-1", f"{command} by {by} via {via}", is_there)
        assert (status["requestedBy"], status["requestedVia"]) == ("ci", "cli")

    await triton("apply", "-f", str(file), "--requested-by", "ci")
    await releases.batch_is("who-1", 1, "Baked")
    await triton("pause", "who-1", "-n", NAMESPACE, "--requested-by", "oncall")
    await last("pause", "oncall", "cli")
    async with AsyncTriton(sandbox.rest_urls["planner"], namespace=NAMESPACE, requested_by="jane") as client:
        await client.resume("who-1")
    await last("resume", "jane", "rest")
    await releases.strategy("who-1", paused=True)
    await last("change", "kubectl", "kubectl")
    async with OtherSystem(sandbox.kafka_bootstrap) as paas:
        resume = press("who-resume", "resume", "who", deployFlow="who-1", requestedBy="paas")
        await paas.ask("who", {"namespace": NAMESPACE, **resume})
    await last("resume", "paas", "kafka")
    async with AsyncTriton(sandbox.rest_urls["planner"], namespace=NAMESPACE, requested_by="boss") as client:
        await client.promote("who-1")
    await last("promote", "boss", "rest")
