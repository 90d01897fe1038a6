"""Parts that are built or downloaded once: a folder for each name and version, outside of the checkout."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
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
_UNFINISHED: Final = ".unfinished"
_LEFT_BEHIND: Final = re.compile(r"\.[a-z0-9_]{8}(\.unfinished)?")
"""What `tempfile` appends to a name; without the suffix: by Triton 0.2."""
_NETWORK: Final = re.compile(
    r"no such host|name resolution|network is unreachable|unknown host|could not transfer artifact"
    r"|failed to establish a new connection|no matching distribution",
    re.IGNORECASE,
)
Say = Callable[[str], None]


async def made(name: str, make: Callable[[Path], Awaitable[None]]) -> Path:
    """Return the folder of that name, filled by `make` where it is missing; two runs at once make it once.

    `make` works in a folder of another name, which is renamed when it is whole, so an interrupted build is never taken
    for a whole one; what it left behind is removed by the next. Raises `SandboxError`.
    """
    folder = ROOT / name
    if folder.is_dir():
        return folder
    try:
        ROOT.mkdir(parents=True, exist_ok=True)
        with (ROOT / f"{name}.lock").open("w") as lock:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                await _fill(name, folder, make)
    except OSError as error:
        msg = (
            f"the cache folder {ROOT} cannot be used ({error.strerror or error}: {error.filename or name}): "
            "repair or remove it, or name another by XDG_CACHE_HOME"
        )
        raise SandboxError(msg) from error
    return folder


async def _fill(name: str, folder: Path, make: Callable[[Path], Awaitable[None]]) -> None:
    # the lock is held: nobody else is building this part
    for path in ROOT.glob(f"{name}.*"):
        if path.is_dir() and _LEFT_BEHIND.fullmatch(path.name.removeprefix(name)):
            shutil.rmtree(path, ignore_errors=True)
    if folder.exists() or folder.is_symlink():
        folder.unlink()
    unfinished = Path(tempfile.mkdtemp(prefix=f"{name}.", suffix=_UNFINISHED, dir=ROOT))
    try:
        await make(unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


async def run(
    what: str, command: list[str | Path], say: Say, *, cwd: Path, environment: Mapping[str, str] | None = None
) -> str:
    """Return what the command prints; report progress when it takes long.

    Raises `SandboxError` with the end of its output, or with one line where the network is the cause.
    """
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
        raise SandboxError(_failure(what, process.returncode, text))
    return text


def _failure(what: str, code: int, text: str) -> str:
    for line in text.splitlines():
        if _NETWORK.search(line):
            return f"{what} failed, the registry was not reached (no network?): {line.strip()[:300]}"
    return f"{what} failed (exit code {code}):\n{text[-TAIL:]}"


def tool(name: str, how: str) -> Path:
    """Return a program on the PATH; raises `SandboxError` that says how to get it."""
    found = shutil.which(name)
    if found is None:
        msg = f"{name} is missing: {how}"
        raise SandboxError(msg)
    return Path(found)


def kubectl() -> Path:
    """Return kubectl of the PATH; raises `SandboxError`."""
    return tool("kubectl", "install it, or put the one that `make test` built on the PATH")
