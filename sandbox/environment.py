"""The whole of Triton on one machine, without installing anything: for trying, testing and measuring.

Kafka and Redis, a small Kubernetes and the four services, each a process of its own as in production, so that
one can be killed while the others go on. Everything lies under one state directory. It is a simulation: its
Kubernetes runs no containers.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Protocol, Self

import yaml

from sandbox.embedded import EmbeddedStack
from sandbox.process import POLL_SECONDS, Guard, Part, Parts, Probe, Reached, SandboxError, free_port

SERVICES: Final = ("planner", "executor", "readiness", "events")

READY_SECONDS: Final = 60.0
"""For each part; far above the second or two that it takes, because CI machines stall."""
_ANY_PORT: Final = {"TRITON_API_PORT": "0", "TRITON_GRPC_PORT": "0"}
"""For planners beside those of the sandbox."""
SERVER: Final = "TRITON_SERVER"
GRPC_SERVER: Final = "TRITON_GRPC_SERVER"
"""The addresses of the APIs in `sandbox.env`, for the command line, clients and the commands of the documents."""
_OWN_FILES: Final = ("events.db", "events.db-wal", "events.db-shm", "sandbox.env", "kubeconfig")


class Stack(Protocol):
    """The parts that the services need: Kafka, Redis, an event store and Kubernetes."""

    @property
    def played(self) -> str:
        """Describe for people what is simulated."""

    async def start(self, parts: Parts, state: Path, kubeconfig: Path) -> Reached:
        """Start it and wait until it can be used, also with that kubeconfig. Raises `SandboxError`."""

    async def versions(self) -> dict[str, str]:
        """Return the versions that the servers report, by their names."""


class Sandbox:
    """`async with Sandbox() as sandbox:` runs everything until the end of the block.

    `state` is the directory for logs, kubeconfig, events and `sandbox.env`; without one a temporary directory
    is made, and removed again when the block ends well. `replicas` says how many processes a service has;
    with more than one they are named `planner-1`, `planner-2`; `scale` changes it later. `settings` are
    TRITON_… variables that go before the sandbox's own. `say` gets a line for each restart, for a port that is taken and
    for what an earlier sandbox in `state` loses: each start begins with an empty cluster and log. `api_ports` are those of
    REST and gRPC of the first planner, where they are free.

    `stack` is what the services work with, by default the embedded one, which keeps its state in memory, and is
    lost when it is killed. `kill(name, SIGSTOP)` and `kill(name, SIGCONT)` make a part go away for a while, and
    so do `kill(name)` and `start(name)` a part of the real stack, which has its state on disk.
    """

    def __init__(
        self,
        state: Path | None = None,
        *,
        replicas: Mapping[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
        stack: Stack | None = None,
        api_ports: tuple[int, int] = (0, 0),
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._temporary = state is None
        self.keep_state = False
        """Keep a temporary state directory after a good end too."""
        self.state = (
            state.absolute() if state is not None else Path(tempfile.mkdtemp(prefix="triton-sandbox-"))
        )
        self.kubeconfig = self.state / "kubeconfig"
        self.environment: dict[str, str] = {}
        """All settings for a process that shall work with this sandbox as its admin; complete once it runs."""
        self._kubeconfigs: Mapping[str, Path] = {}
        self._counts = {service: (replicas or {}).get(service, 1) for service in SERVICES}
        self._replicas: dict[str, list[str]] = {service: [] for service in SERVICES}
        """The names of the processes of each."""
        self._settings = dict(settings or {})
        self._stack = stack or EmbeddedStack()
        self.played = self._stack.played
        """Describe what is simulated."""
        self._say = say
        self._guard = Guard()
        self._parts: dict[str, Part] = {}
        self._ports: dict[str, int] = {}
        self._api_ports: dict[str, tuple[int, int]] = {}
        """REST and gRPC, of each planner."""
        self._wanted_ports = api_ports
        self._lock: IO[str] | None = None
        self._lost: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start_all()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
        if (
            self._temporary
            and not self.keep_state
            and (error is None or isinstance(error, asyncio.CancelledError))
        ):
            shutil.rmtree(self.state, ignore_errors=True)

    @property
    def kafka_bootstrap(self) -> str:
        return self.environment["TRITON_KAFKA_BOOTSTRAP"]

    @property
    def redis_url(self) -> str:
        return self.environment["TRITON_REDIS_URL"]

    @property
    def event_store(self) -> str:
        return self.environment["TRITON_EVENT_STORE"]

    @property
    def kubernetes_url(self) -> str:
        (cluster,) = yaml.safe_load(self.kubeconfig.read_text())["clusters"]
        return str(cluster["cluster"]["server"])

    @property
    def env_file(self) -> Path:
        return self.state / "sandbox.env"

    def environment_of(self, service: str) -> dict[str, str]:
        """Return the same settings, but with the rights of that service."""
        own = _kubeconfig(self._kubeconfigs.get(service, self.kubeconfig))
        return {**self.environment, **own, **self._settings}

    @property
    def health_urls(self) -> dict[str, str]:
        """Return the URL of each process of a service, for `/healthz`, `/readyz` and `/metrics`."""
        return {name: f"http://127.0.0.1:{port}" for name, port in self._ports.items()}

    @property
    def rest_urls(self) -> dict[str, str]:
        """Return the REST URL of each planner."""
        return {name: f"http://127.0.0.1:{rest}" for name, (rest, _) in self._api_ports.items()}

    @property
    def grpc_addresses(self) -> dict[str, str]:
        """Return the gRPC address of each planner, as host and port."""
        return {name: f"127.0.0.1:{grpc}" for name, (_, grpc) in self._api_ports.items()}

    @property
    def parts(self) -> frozenset[str]:
        """The names of all its processes."""
        return frozenset(self._parts)

    def pid(self, name: str) -> int | None:
        """Return the process id of a part; None while it does not run."""
        return self._part(name).pid

    def log(self, name: str) -> Path:
        return self._part(name).log

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal. A service that dies of it is started again after half a second, like a pod.

        Any other part stays down until `start`.
        """
        for part in self._of(name):
            part.signal(number)

    async def stop(self, name: str) -> None:
        """Stop a part on purpose: it stays down until `start`."""
        await asyncio.gather(*(part.stop() for part in self._of(name)))

    async def start(self, name: str) -> None:
        """Start a stopped or killed part again, as it was first started, and wait until it is ready."""
        for part in self._of(name):
            await part.start()
        await self.ready(name)

    async def ready(self, name: str, within: float = READY_SECONDS) -> None:
        """Wait until a part can be used (a service: `/readyz`), also across a restart; raises `SandboxError`."""
        for part in self._of(name):
            try:
                await asyncio.wait_for(part.probe(part), within)
            except TimeoutError:
                raise part.error(f"was not ready within {within:g} s") from None

    async def lost(self) -> None:
        """Wait until something that can't be repaired has died; raises `SandboxError` then."""
        if self._lost is not None:
            await asyncio.shield(self._lost)

    def peak_memory_bytes(self) -> dict[str, int]:
        """Return the peak memory (RSS) of each living process; empty without /proc."""
        pids = {name: part.pid for name, part in self._parts.items()} | {"supervisor": os.getpid()}
        peaks = {name: _peak_rss(pid) for name, pid in pids.items() if pid is not None}
        return {name: peak for name, peak in peaks.items() if peak}

    async def close(self) -> None:
        """Stop everything, the services first; done within seconds."""
        services = [part for name, part in self._parts.items() if name in self._ports]
        await asyncio.gather(*(part.stop() for part in services))
        await asyncio.gather(*(part.stop() for part in self._parts.values() if part not in services))
        await self._guard.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _start_all(self) -> None:
        self._lost = asyncio.get_running_loop().create_future()
        self._prepare_state()
        await self._guard.start(sys.executable)
        settings, self._kubeconfigs = await self._stack.start(self, self.state, self.kubeconfig)
        self.environment = {**_ANY_PORT, **settings, **_kubeconfig(self.kubeconfig), **self._settings}
        self._write_env_file()
        await asyncio.gather(*(self.scale(service, count) for service, count in self._counts.items()))
        self._write_env_file()

    def _write_env_file(self) -> None:
        values = {**self.environment, **self._servers()}
        self.env_file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))

    def _servers(self) -> dict[str, str]:
        """Return where programs and people reach the APIs: the first planner's; none before it is placed."""
        first = next(iter(self._api_ports), None)
        return (
            {} if first is None else {SERVER: self.rest_urls[first], GRPC_SERVER: self.grpc_addresses[first]}
        )

    async def scale(self, service: str, count: int) -> None:
        """Have so many processes of a service: wait until new ones are ready, or stop the last ones."""
        names = self._replicas[service]
        new = [service if count == 1 else f"{service}-{n}" for n in range(len(names) + 1, count + 1)]
        more = [self._add_service(service, name) for name in new]
        await asyncio.gather(*(part.start() for part in more))
        await asyncio.gather(*(part.ready(READY_SECONDS) for part in more))
        await asyncio.gather(*(self._parts[name].stop() for name in names[count:]))
        for name in names[count:]:
            del self._parts[name], self._ports[name]
            self._api_ports.pop(name, None)
        names[:] = [*names[:count], *new]

    def _add_service(self, service: str, name: str) -> Part:
        port = self._ports[name] = free_port()
        health = {"TRITON_HEALTH_PORT": str(port), "TRITON_HEALTH_HOST": "127.0.0.1"}
        environment = _inherited() | self.environment_of(service) | health
        if service == "planner":
            rest, grpc = (free_port(wanted) for wanted in self._wanted_ports)
            for api, wanted, got, variable in zip(
                ("REST", "gRPC"), self._wanted_ports, (rest, grpc), (SERVER, GRPC_SERVER), strict=True
            ):
                if wanted not in {0, got}:
                    self._say(
                        f"port {wanted} is taken, maybe by another Triton: {api} of this sandbox is at "
                        f"127.0.0.1:{got} ({variable} in {self.env_file})"
                    )
            self._wanted_ports = (0, 0)
            self._api_ports[name] = rest, grpc
            environment |= {"TRITON_API_PORT": str(rest), "TRITON_GRPC_PORT": str(grpc)}
        command = [sys.executable, "-m", "cli.main", service]
        return self._add(name, command, environment, probe=_answers_ready(port), restarts=True)

    async def run(
        self,
        name: str,
        command: list[str],
        probe: Probe,
        environment: Mapping[str, str] | None = None,
        *,
        reads_stdout: bool = False,
    ) -> Part:
        """Start a part of the stack and wait until it can be used; raises `SandboxError`."""
        own = {**_inherited(), **self._settings, **(environment or {})}
        part = self._add(name, command, own, probe=probe, reads_stdout=reads_stdout)
        await part.start()
        await part.ready(READY_SECONDS)
        return part

    def _add(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        *,
        probe: Probe,
        restarts: bool = False,
        reads_stdout: bool = False,
    ) -> Part:
        part = self._parts[name] = Part(
            name=name,
            command=command,
            environment=environment,
            log=self.state / "logs" / f"{name}.log",
            guard=self._guard,
            probe=probe,
            say=self._say,
            restarts=restarts,
            lost=self._on_lost,
            reads_stdout=reads_stdout,
        )
        return part

    def _on_lost(self, error: SandboxError) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(error)
            # nobody has to wait for it
            self._lost.exception()

    def _prepare_state(self) -> None:
        (self.state / "logs").mkdir(parents=True, exist_ok=True)
        self._lock = (self.state / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            msg = f"another sandbox runs in {self.state}: stop it, or give another --state"
            raise SandboxError(msg) from None
        if (self.state / "sandbox.env").exists():
            self._say(
                f"the releases and the log of the earlier sandbox in {self.state} are lost: each start begins with "
                "empty parts of its own"
            )
        # events of an earlier cluster would be about releases that this one does not know
        for name in _OWN_FILES:
            (self.state / name).unlink(missing_ok=True)
        for log in (self.state / "logs").glob("*.log"):
            log.unlink()

    def _part(self, name: str) -> Part:
        if name not in self._parts:
            msg = f"there is no {name} in this sandbox, only {', '.join(self._parts)}"
            raise SandboxError(msg)
        return self._parts[name]

    def _of(self, name: str) -> list[Part]:
        """Return the process of that name, or all replicas of the service of that name."""
        return [self._part(replica) for replica in self._replicas.get(name) or [name]]


def _kubeconfig(path: Path) -> dict[str, str]:
    return {"TRITON_KUBECONFIG": str(path), "KUBECONFIG": str(path)}


def _inherited() -> dict[str, str]:
    """Return the environment for the parts, without settings meant for a real cluster."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "TRITON_LOG_LEVEL" or not name.startswith(("TRITON_", "KUBECONFIG", "KUBERNETES_"))
    }
    # two arenas are enough for processes of one busy thread, and save some 10 MB each
    return kept | {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1"}


def _answers_ready(port: int) -> Probe:
    async def probe(part: Part) -> None:
        while not (part.running and await _get_ready(port)):
            await asyncio.sleep(POLL_SECONDS)

    return probe


async def _get_ready(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()


def _peak_rss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
