"""What is built or downloaded once: a folder for each name and version, outside of the checkout."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from sandbox.process import SandboxError

ROOT: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triton"
PROGRESS_SECONDS: Final = 15.0
TAIL: Final = 2000
"""Characters of a failed command's output that are worth showing."""

Say = Callable[[str], None]


async def made(name: str, make: Callable[[Path], Awaitable[None]]) -> Path:
    """The folder of that name, filled by `make` when it is not there; two runs at once make it once."""
    folder = ROOT / name
    if folder.exists():
        return folder
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / f"{name}.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        unfinished = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=ROOT))
        try:
            await make(unfinished)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


async def run(
    what: str, command: list[str | Path], say: Say, *, cwd: Path, environment: Mapping[str, str] | None = None
) -> str:
    """What the command prints; says what takes long. Raises `SandboxError` with the end of its output."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    began = time.monotonic()
    output = asyncio.create_task(process.communicate())
    try:
        while not (await asyncio.wait({output}, timeout=PROGRESS_SECONDS))[0]:
            say(f"  {what} ... {time.monotonic() - began:.0f} s")
        text = output.result()[0].decode(errors="replace")
    finally:
        output.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        msg = f"{what} failed (exit code {process.returncode}):\n{text[-TAIL:]}"
        raise SandboxError(msg)
    return text


def tool(name: str, how: str) -> Path:
    """A program on the PATH; raises `SandboxError` that says how to get it."""
    found = shutil.which(name)
    if found is None:
        msg = f"{name} is missing: {how}"
        raise SandboxError(msg)
    return Path(found)


def kubectl() -> Path:
    """Raises `SandboxError`."""
    return tool("kubectl", "install it, or put the one that `make test` built on the PATH")
