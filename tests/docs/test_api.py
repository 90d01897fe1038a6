"""Every command of docs/api.md, as it stands there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sandbox.environment import Sandbox
from tests.docs.blocks import ROOT, blocks
from tests.docs.terminal import Terminal

DOCUMENT = ROOT / "docs" / "api.md"


@pytest.mark.timeout(240)
async def test_the_commands_of_the_document(tmp_path: Path) -> None:
    commands = blocks(DOCUMENT)
    assert all(block.mark for block in commands), "a block without a mark"
    async with Sandbox() as sandbox:
        terminal = Terminal(tmp_path)
        terminal.environment |= {
            "KUBECONFIG": str(sandbox.kubeconfig),
            "TRITON_SERVER": sandbox.rest_urls["planner"],
        }
        for block in commands:
            await asyncio.to_thread(terminal.follow, block)
