"""Texts and files of others harm nobody who runs `triton`, nor the releases that go on meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import resource
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from sandbox.environment import Sandbox
from tests.system.hostile.innocent import Innocents
from tests.system.other_system import OtherSystem, deploy
from tests.system.programs import TRITON
from tests.system.releases import LONGEST, Releases

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

INSTANCE: Final = "hostile-texts"
NAME: Final = "\x1b[2J\x1b]0;owned\x07paas\x00\r\nsomebody\u202ereverof"
UNSAFE: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What steers a terminal; a newline is among it where a row has it inside."""
ALIASES: Final = "a0: &a0 [x]\n" + "\n".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)
)
DEPLOYFLOW: Final = """
apiVersion: apps.triton.io/v1alpha1
kind: DeployFlow
metadata: {name: bomb}
spec:
  action: create
  application: {appID: 1, groupID: 1, appName: bomb, instanceName: bomb, replicas: 1, template: {spec: {x: *a9}}}
"""
FILES: Final = {
    "aliases": (ALIASES + DEPLOYFLOW, "more than 250,000 values, aliases followed"),
    "depth": ("[" * 20_000, "more than 100 objects and lists inside each other"),
}
PROCESSOR_SECONDS: Final = 20.0
"""For commands that take two each; nine levels of aliases took over a minute."""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


async def triton(sandbox: Sandbox, *words: str) -> Ended:
    usual = {name: text for name, text in os.environ.items() if not name.startswith(("TRITON_", "KUBE"))}
    process = await asyncio.create_subprocess_exec(
        TRITON,
        *words,
        env=usual | sandbox.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), LONGEST)
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise AssertionError(f"not within {LONGEST} s: triton {' '.join(words)}") from None
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def _processor_seconds() -> float:
    """Of all processes of this one that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def test_a_name_that_steers_terminals_is_printed_escaped(
    sandbox: Sandbox, releases: Releases, paas: OtherSystem, innocents: Innocents
) -> None:
    async with innocents.releasing():
        log = sandbox.log("planner")
        begin = len(log.read_text())
        await paas.publish(INSTANCE, b'{"type": "deploy", "spec": {"\x1b[2J')
        await paas.ask(INSTANCE, deploy(f"{INSTANCE}-1", INSTANCE) | {"requestedBy": NAME})
        (reply, _) = await paas.replies(f"{INSTANCE}-1", 2)
        flow = reply["deployFlow"]
        assert (await releases.status(flow))["requestedBy"] == NAME
        commands = (("describe", flow), ("history", INSTANCE), ("log", flow))
        for words, ended in zip(
            commands, await asyncio.gather(*(triton(sandbox, *words) for words in commands)), strict=True
        ):
            assert ended.code == 0, ended.err
            assert "reverof" in ended.out, "the name is shown"
            assert UNSAFE.findall(ended.out + ended.err) == [], words
            assert not any(line.startswith("somebody") for line in ended.out.splitlines()), words
        written = log.read_text()[begin:]
        assert "Traceback" not in written, "a misformed command is no fault of the planner"
        assert UNSAFE.findall(written) == []


@pytest.mark.parametrize("file", FILES)
async def test_a_file_that_would_run_for_minutes_is_refused_by_name(
    sandbox: Sandbox, innocents: Innocents, tmp_path: Path, file: str
) -> None:
    text, problem = FILES[file]
    path = tmp_path / "release.yaml"
    path.write_text(text)
    async with innocents.releasing():
        before = _processor_seconds()
        plan, apply = await asyncio.gather(
            *(triton(sandbox, command, "-f", str(path)) for command in ("plan", "apply"))
        )
        assert _processor_seconds() - before < PROCESSOR_SECONDS
    for ended in (plan, apply):
        assert ended.code == 2
        assert ended.err.startswith(f"error: {path}")
        assert problem in ended.err
