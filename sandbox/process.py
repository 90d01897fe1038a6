"""One process of the sandbox: started in a group of its own, watched, restarted like a Deployment's pod.

A part that ends by itself is either started again (the services: they keep their state
elsewhere) or reported (what they work with: the embedded parts' state is gone with them).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

STOP_SECONDS: Final = 5.0
"""A clean stop takes a service less than a second; after this it is killed."""
RESTART_SECONDS: Final = 0.5
RESTART_SECONDS_MOST: Final = 10.0
STEADY_SECONDS: Final = 5.0
"""A process that lived so long has started well: its next restart waits no longer than the first."""
LOG_TAIL: Final = 15
POLL_SECONDS: Final = 0.05


Probe = Callable[["Part"], Coroutine[Any, Any, None]]
"""Returns when the part, freshly started, can be used."""


class SandboxError(Exception):
    """A part of the sandbox does not do what it must; the text has the end of its log."""


class Guard:
    """The process that outlives a killed supervisor just long enough to end everything else."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, executable: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("guard.py")),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    def started(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def ended(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(line.encode())

    async def close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
            self._process = None


@dataclass
class Part:
    """A process that the sandbox runs.

    `probe` waits until the freshly started part can be used; `restarts` says whether a death of its own is
    repaired. `say` prints a line for the person watching; `lost` is called when a part that is not restarted
    has died.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    guard: Guard
    probe: Probe
    say: Callable[[str], None]
    restarts: bool = False
    lost: Callable[[SandboxError], None] | None = None
    reads_stdout: bool = False
    announced: dict[str, Any] = field(default_factory=dict)
    """The first line that a part with `reads_stdout` printed, as JSON."""
    _process: asyncio.subprocess.Process | None = None
    _watcher: asyncio.Task[None] | None = None
    _asked_to_stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self.running and self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process, also one that was killed, and have it watched; returns before it can be used, see `ready`."""
        if self._asked_to_stop.is_set() and self._watcher is not None:
            await self._watcher
        if self.running:
            return
        self._asked_to_stop.clear()
        await self._spawn()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def ready(self, within: float) -> None:
        """Wait until the part can be used; raises `SandboxError` when it dies or takes too long."""
        if self._process is None:
            raise self.error("was never started")
        probe = asyncio.create_task(self.probe(self))
        died = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait({probe, died}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if probe.done():
                probe.result()
            elif died.done():
                raise self.error(f"ended before it was ready ({ending(died.result())})")
            else:
                raise self.error(f"was not ready within {within:g} s")
        finally:
            for waiting in (probe, died):
                waiting.cancel()
            await asyncio.gather(probe, died, return_exceptions=True)

    def signal(self, number: int) -> None:
        """Send a signal to the process; raises `SandboxError` when it does not run.

        One that is killed this way and not repaired stays down until `start`.
        """
        if self._process is None or not self.running:
            msg = f"{self.name} does not run: start it first"
            raise SandboxError(msg)
        if number == signal.SIGKILL and not self.restarts:
            self._asked_to_stop.set()
        os.kill(self._process.pid, number)

    async def stop(self) -> None:
        """Stop it on purpose: SIGTERM, and SIGKILL where that is not enough."""
        self._asked_to_stop.set()
        process = self._process
        if process is not None and process.returncode is None:
            # a stopped (SIGSTOP) process does not hear SIGTERM
            for number in (signal.SIGTERM, signal.SIGCONT):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                self.say(f"{self.name} did not stop within {STOP_SECONDS:g} s: killed")
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if self._watcher is not None:
            await self._watcher
            self._watcher = None

    def error(self, what: str) -> SandboxError:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL:] if self.log.exists() else []
        end = "\n  ".join(lines) or "(nothing)"
        return SandboxError(f"{self.name} {what}. The end of {self.log}:\n  {end}")

    async def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self.reads_stdout else log,
                stderr=log,
                start_new_session=True,
            )
        self.guard.started(self._process.pid)

    async def _watch(self) -> None:
        delay = RESTART_SECONDS
        while self._process is not None:
            began = time.monotonic()
            code = await self._process.wait()
            self.guard.ended(self._process.pid)
            if self._asked_to_stop.is_set():
                return
            if not self.restarts:
                if self.lost is not None:
                    self.lost(self.error(f"died ({ending(code)}), and its state with it"))
                return
            # somebody's kill says nothing about the program; one that ends by itself soon is tried ever later
            if code < 0 or time.monotonic() - began > STEADY_SECONDS:
                delay = RESTART_SECONDS
            self.say(
                f"{self.name} (pid {self._process.pid}) {ending(code)}: starting it again in {delay:g} s"
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked_to_stop.wait(), delay)
            if self._asked_to_stop.is_set():
                return
            delay = min(delay * 2, RESTART_SECONDS_MOST)
            await self._spawn()

    async def first_line(self) -> dict[str, Any]:
        """Return the JSON line that a part with `reads_stdout` prints when it is ready."""
        if self._process is None or self._process.stdout is None:
            raise self.error("prints nothing to read")
        line = await self._process.stdout.readline()
        if not line:
            # its end is reported by whoever waits for the process
            await asyncio.Future()
        try:
            self.announced = json.loads(line)
        except ValueError as error:
            raise self.error(f"printed {line!r} instead of its addresses") from error
        return self.announced


class Reached(NamedTuple):
    """The addresses at which the services reach a stack."""

    settings: Mapping[str, str]
    """TRITON_… variables for everybody."""
    kubeconfigs: Mapping[str, Path] = {}
    """The kubeconfigs of services with an account of their own; the others use the sandbox's."""


class Parts(Protocol):
    """Starts the parts of a stack; the sandbox implements it."""

    async def run(
        self,
        name: str,
        command: list[str],
        probe: Probe,
        environment: Mapping[str, str] | None = None,
        *,
        reads_stdout: bool = False,
    ) -> Part:
        """Start a part and wait until it can be used; raises `SandboxError`."""


_reserved: set[int] = set()


def free_port(wanted: int = 0) -> int:
    """Return a free port below the range from which the system assigns ports to clients.

    It is `wanted` if that is free. No port is returned twice in one process. Raises `SandboxError`.
    """
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        port, wanted = wanted or random.randrange(20_000, 32_000), 0
        with socket.socket() as attempt, contextlib.suppress(OSError):
            attempt.bind(("127.0.0.1", port))
            if port not in _reserved:
                _reserved.add(port)
                return port
    msg = "no free port between 20000 and 32000 on 127.0.0.1"
    raise SandboxError(msg)


def listens(port: int) -> Probe:
    """Return a probe that passes when 127.0.0.1 accepts connections on that port."""

    async def probe(_: Part) -> None:
        while True:
            try:
                _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_SECONDS)
            else:
                writer.close()
                return

    return probe


def ending(code: int) -> str:
    """Describe in words how a process ended."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"exited with code {code}"
