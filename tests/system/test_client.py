"""What docs/client.md shows, run as it stands there, and the client where a planner dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from sandbox.environment import Sandbox
from tests.docs.blocks import Block, blocks, seen
from tests.system.programs import TRITON
from tests.system.releases import Releases, deployflow
from triton_client import AsyncTriton

DOCUMENT = Path(__file__).parents[2] / "docs" / "client.md"
BLOCKS = {block.mark: block for block in blocks(DOCUMENT)}
SECONDS = 60
pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _run(*command: str, **environment: str) -> str:
    """What it prints; it has to end well."""
    usual = {name: text for name, text in os.environ.items() if not name.startswith(("TRITON_", "KUBE"))}
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**usual, "PATH": f"{TRITON.parent}:{usual['PATH']}", **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    received, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    output = received.decode()
    assert process.returncode == 0, f"{command}\n{output}"
    return output


async def _program(sandbox: Sandbox, block: Block) -> list[str]:
    url = sandbox.rest_urls["planner"]
    return (await _run(sys.executable, "-c", block.text, TRITON_SERVER=url)).splitlines()


async def test_the_programs_and_commands_of_the_document(sandbox: Sandbox) -> None:
    assert set(BLOCKS) == {"sync", "async", "cli"}
    said = await _program(sandbox, BLOCKS["sync"])
    assert said[0] == "2 pods in 1 batch"
    assert said[-2].endswith(" ended as Success")
    assert said[-1].startswith("409 Finished ")
    said = await _program(sandbox, BLOCKS["async"])
    assert said[0].startswith("Ready ['30001-docs-")
    assert said[-1] == "Success"
    url = sandbox.rest_urls["planner"]
    script = ["set -e", *(step.command for step in BLOCKS["cli"].steps)]
    output = await _run("bash", "-c", "\n".join(script), TRITON_SERVER=url)
    for step in BLOCKS["cli"].steps:
        assert not [shown for shown in step.shown if not seen(shown, output)], output


async def test_a_client_that_watches_outlives_the_planner(sandbox: Sandbox) -> None:
    async with (
        Releases(sandbox) as releases,
        AsyncTriton(sandbox.rest_urls["planner"], retries=8) as triton,
    ):
        await releases.create("outlived", 2)
        made = await triton.create(deployflow("", "outlived", image="nginx:2", replicas=2, canary=1)["spec"])
        states, events = triton.watch(made.name), triton.events(made.name)
        async for flow in states:
            if flow.status.reason == "WaitingForNext":
                break
        sandbox.kill("planner", signal.SIGTERM)
        # sent again until there is one again
        await triton.promote(made.name)
        async for flow in states:
            last = flow
        assert last.status.phase == "Success"
        received = [event async for event in events]
        assert received[-1].value["reason"] == "Success"
        assert len({event.id for event in received}) == len(received)
