"""The pages for people who come from Triton 0.1 or Argo Rollouts: their commands, and the differences they list."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
import yaml

from sandbox.environment import Sandbox
from tests.docs.blocks import ROOT, blocks
from tests.docs.terminal import Terminal

OLD = ROOT / "docs" / "coming-from-triton-0.1.md"
ARGO = ROOT / "docs" / "coming-from-argo-rollouts.md"
ANSWERS = ROOT / "tests" / "system" / "original" / "answers.yaml"


@pytest.mark.timeout(480)
@pytest.mark.parametrize("document", [OLD, ARGO], ids=lambda path: path.stem)
async def test_the_commands_of_the_document(document: Path, tmp_path: Path) -> None:
    commands = blocks(document)
    assert commands
    assert all(block.mark for block in commands), "a block without a mark"
    async with Sandbox() as sandbox:
        terminal = Terminal(tmp_path, {"triton ": f"{ROOT}/.venv/bin/triton "})
        (planner,) = sandbox.rest_urls
        terminal.environment |= {
            **sandbox.environment,
            "TRITON_SERVER": sandbox.rest_urls[planner],
            "TRITON_GRPC_SERVER": sandbox.grpc_addresses[planner],
        }
        for block in commands:
            await asyncio.to_thread(terminal.follow, block)


def test_every_command_of_the_tables_is_run() -> None:
    text = ARGO.read_text()
    run = {step.command for block in blocks(ARGO) for step in block.steps}
    for command in re.findall(r"`triton ([a-z-]+)[^`|]*`", text):
        assert any(f"triton {command} " in f"{step} " for step in run), command


def test_every_difference_from_the_original_is_a_row_and_every_row_has_a_step() -> None:
    (table,) = re.findall(r"^<!-- differences -->\n(.*?)\n\n", OLD.read_text(), re.MULTILINE | re.DOTALL)
    rows = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    scenarios = yaml.safe_load(ANSWERS.read_text())
    steps = [step for scenario in scenarios for step in scenario["steps"]]
    assert all(("ours" in step) == ("differs" in step) for step in steps)
    assert sorted(rows) == sorted({step["differs"] for step in steps if "differs" in step})
