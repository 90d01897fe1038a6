"""What `triton demo` takes: its wall time, and the most memory that all its processes had together."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import BenchError
from bench.meters import memory
from bench.progress import during

SAMPLE_SECONDS: Final = 0.25
GIVE_UP_SECONDS: Final = 300.0
_ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass
class DemoMeasured:
    """`peak_bytes` is the largest sum of RSS seen; pages that processes share count for each of them."""

    seconds: float
    peak_bytes: int
    processes: int
    exit_code: int


async def run_demo() -> DemoMeasured:
    """Run the demo as a user does; raises `BenchError` when it hangs."""
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "demo"),
        cwd=_ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    seen = DemoMeasured(0.0, 0, 0, 0)
    sampling = asyncio.create_task(_sample(process.pid, seen))
    try:
        async with (
            during(
                "triton demo", lambda: f"{seen.processes} processes, {seen.peak_bytes / 1e6:.0f} MB at most"
            ),
            asyncio.timeout(GIVE_UP_SECONDS),
        ):
            said, _ = await process.communicate()
    except TimeoutError:
        process.terminate()
        msg = f"triton demo did not end within {GIVE_UP_SECONDS:g} s"
        raise BenchError(msg) from None
    finally:
        sampling.cancel()
    seen.seconds = time.monotonic() - begun
    seen.exit_code = await process.wait()
    if seen.exit_code:
        sys.stderr.write(said.decode(errors="replace")[-4000:])
    return seen


async def _sample(pid: int, seen: DemoMeasured) -> None:
    while True:
        family = _family(pid)
        total = 0
        for member in family:
            # it may have ended since it was listed
            with contextlib.suppress(OSError):
                total += memory(member, "VmRSS")
        seen.peak_bytes = max(seen.peak_bytes, total)
        seen.processes = max(seen.processes, len(family))
        await asyncio.sleep(SAMPLE_SECONDS)


def _family(root: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    family = [root]
    for member in family:
        family += parents.get(member, [])
    return family
