"""A terminal in which the commands of a document are typed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.docs.blocks import ROOT, Block, seen

COMMAND_SECONDS = 120


class Terminal:
    """A shell in a folder that looks like the repository; variables stay from command to command.

    `addresses`: what to call in the place of those that the document names.
    """

    def __init__(self, folder: Path, addresses: Mapping[str, str] = MappingProxyType({})) -> None:
        self.folder = folder
        self._addresses = addresses
        for path in ROOT.iterdir():
            (folder / path.name).symlink_to(path)
        self._exports = folder / ".exports"
        self._exports.touch()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TRITON_", "KUBE", "MAKE", "MFLAGS"))
        }

    def run(self, command: str) -> str:
        """What it prints; it has to end with 0."""
        for usual, actual in self._addresses.items():
            command = command.replace(usual, actual)
        script = f". ./.exports; set -a\n{command}\nended=$?; export -p > .exports; exit $ended"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def follow(self, block: Block) -> dict[str, str]:
        """Run a block's commands; each has to show what the document shows below it."""
        outputs = {}
        for step in block.steps:
            output = outputs[step.command] = self.run(step.command)
            for shown in step.shown:
                assert seen(shown, output), f"$ {step.command}\nprinted:\n{output}\nnot: {shown}"
        return outputs

    def start(self, command: str) -> subprocess.Popen[str]:
        """A command that stays until it is interrupted."""
        return subprocess.Popen(
            ["bash", "-c", f". ./.exports; exec {command}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
