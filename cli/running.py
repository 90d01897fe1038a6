"""`triton run`: the four services as child processes of a terminal, their logs side by side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Final

from cli.exits import Failure
from cli.output import say
from sandbox.process import Guard

SERVICES: Final = ("planner", "executor", "readiness", "events")
STOP_SECONDS: Final = 20.0
"""A service stops within 15 s of the signal."""
_LINE_LIMIT: Final = 1 << 20


async def run_services() -> None:
    """Run the services until a signal stops them; raises `Failure` when one of them exits early."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    guard = Guard()
    await guard.start(sys.executable)
    processes = {service: await _start(service, guard) for service in SERVICES}
    copies = [asyncio.create_task(_prefixed(service, process)) for service, process in processes.items()]
    ends = {asyncio.create_task(process.wait()): service for service, process in processes.items()}
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({stopped, *ends}, return_when=asyncio.FIRST_COMPLETED)
    failed = [(ends[task], task.result()) for task in done if task in ends]
    await _stop(list(processes.values()))
    stopped.cancel()
    await asyncio.gather(*copies, *ends)
    await guard.close()
    if failed and not stop.is_set():
        service, code = failed[0]
        msg = f"{service} exited with code {code}: see its last lines above; the others were stopped"
        raise Failure(msg)


async def _start(service: str, guard: Guard) -> asyncio.subprocess.Process:
    # a group of its own: Ctrl-C reaches only this process, which stops each child once
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli.main",
        service,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=_LINE_LIMIT,
        start_new_session=True,
    )
    guard.started(process.pid)
    return process


async def _prefixed(service: str, process: asyncio.subprocess.Process) -> None:
    width = max(map(len, SERVICES))
    while process.stdout is not None and (line := await process.stdout.readline()):
        say(f"{service:<{width}} | {line.decode(errors='replace').rstrip()}")


async def _stop(processes: list[asyncio.subprocess.Process]) -> None:
    living = [process for process in processes if process.returncode is None]
    for process in living:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    if not living:
        return
    waits = [asyncio.create_task(process.wait()) for process in living]
    _, late = await asyncio.wait(waits, timeout=STOP_SECONDS)
    if late:
        for process in living:
            if process.returncode is None:
                process.kill()
        await asyncio.wait(late)
