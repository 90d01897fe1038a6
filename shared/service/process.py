"""Runs a service's process: settings, logs, health, waiting for dependencies, a clean stop.

Kafka, Redis or Kubernetes may start later: the process waits, logs for what, and is not ready meanwhile. A
background task that ends unexpectedly is a fault: the process stops, and its supervisor restarts it.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import uvloop
from prometheus_client import Gauge
from pydantic import ValidationError

from shared.cancellation import cancel_all
from shared.domain.safe_text import visible
from shared.errors import ConfigError, Unavailable
from shared.kube.client import Client
from shared.kube.reflector import Reflector
from shared.messaging.kafka import Kafka
from shared.messaging.topic_creation import ensure_topics
from shared.observability import logs, tracing
from shared.service.connections import Bounds
from shared.service.health import Health
from shared.service.http_server import HttpServer, listen
from shared.service.proxies import Proxies
from shared.settings import Settings, on_this_machine, unfit

STOP_SECONDS: Final = 15
RETRY_SECONDS: Final = 0.5
HEALTH_BOUNDS: Final = Bounds(most=200, most_of_caller=50)
"""Few call: probes and Prometheus."""
HEALTH_REQUEST_BYTES: Final = 65_536
KAFKA_SECONDS: Final = 3.0
"""How often Kafka is checked, and how long it may take to answer."""

_ready = Gauge("triton_ready", "Whether the service has all that it needs, as /readyz says", ["service"])
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Context:
    """The clients and tasks that the runner provides to a service's wiring."""

    settings: Settings
    health: Health
    kafka: Kafka
    stack: AsyncExitStack
    _stop: asyncio.Event
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    failed: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the consumers run and messages can be published."""

    def spawn(self, work: Coroutine[None, None, None], name: str, *, publishes: bool = False) -> None:
        """Run for the life of the service, what `publishes` once Kafka is there; its end by an error ends
        the service.
        """
        task = asyncio.create_task(self._once_started(work) if publishes else work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _once_started(self, work: Coroutine[None, None, None]) -> None:
        try:
            await self.started.wait()
        except asyncio.CancelledError:
            work.close()
            raise
        await work

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.critical("%s failed, stopping", task.get_name(), exc_info=error)
            self.failed = True
            self._stop.set()

    async def wait_for(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it answers; log what the service waits for."""
        logged = ""
        while True:
            try:
                result = await attempt()
            except Unavailable as error:
                self.health.missing(what, str(error))
                if str(error) != logged:
                    _log.warning("waiting for %s: %s", what, error)
                    logged = str(error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.health.there(what)
                if logged:
                    _log.info("%s is there", what)
                return result

    async def follow(self, what: str, reflector: Reflector[Any]) -> None:
        """Watch for the life of the service; returns once all of it is listed.

        What is in the way, then or later, makes the service not ready, by name.
        """

        def follows(trouble: str) -> None:
            if trouble:
                self.health.missing(what, trouble)
            else:
                self.health.there(what)

        reflector.follows = follows
        self.health.missing(what, "not listed yet")
        self.spawn(reflector.run(), f"watch of {what}")
        await reflector.synced.wait()

    async def kubernetes(self) -> Client:
        """Return a client of the cluster, once it answers."""
        client = await Client.connect(
            self.settings.kubeconfig,
            agent=f"triton-{self.kafka.service}",
            requests_per_second=self.settings.kube_requests_per_second,
        )
        self.stack.push_async_callback(client.close)
        await self.wait_for("Kubernetes", client.answers)
        return client

    def trace(self) -> None:
        """Export spans for the life of the service, where it is configured."""
        if not self.settings.traces:
            return
        from shared.observability.otlp import Collector

        collector = Collector(self.settings, self.kafka.service)
        tracing.start(collector.export, collector.stop)
        self.stack.callback(tracing.stop)

    async def cancel_tasks(self) -> None:
        await cancel_all(self._tasks)


Wiring = Callable[[Context], AbstractAsyncContextManager[None]]
"""Builds the service: registers its consumers, spawns its tasks, yields, and takes down what it made."""


def run(name: str, wiring: Wiring) -> None:
    """Run a service until SIGTERM or SIGINT. Exits with 2 for bad settings, with 1 after a fault."""
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.write(visible(f"triton {name}: bad settings: {unfit(error)}") + "\n")
        raise SystemExit(2) from error
    logs.configure(f"triton-{name}", settings.log_level)
    _allow_files()
    raise SystemExit(uvloop.run(_serve(name, settings, wiring)))


def _allow_files() -> None:
    """Raise the limit of open files to what the system allows: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(name: str, settings: Settings, wiring: Wiring) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = Health(local=on_this_machine(settings.health_host))
    _ready.labels(name).set_function(lambda: float(health.ready))
    try:
        listening = listen(settings.health_host, settings.health_port, "TRITON_HEALTH_PORT")
    except ConfigError as unusable:
        _log.critical("%s", unusable)
        return 1
    server = HttpServer(
        "health",
        health,
        listening,
        bounds=HEALTH_BOUNDS,
        request_bytes=HEALTH_REQUEST_BYTES,
        proxies=Proxies(),
    )
    async with AsyncExitStack() as stack:
        context = Context(settings, health, Kafka(settings, name), stack, stop)
        context.spawn(server.serve(), "health server")
        work = asyncio.create_task(_work(context, wiring, stop), name="service")
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        # a service that still waits for something has nothing to finish
        await asyncio.wait({work}, timeout=STOP_SECONDS if context.started.is_set() else 0)
        await cancel_all({work, stopping})
        if not work.cancelled() and (error := work.exception()):
            if isinstance(error, ConfigError):
                _log.critical("%s", error)
            else:
                _log.critical("the service failed: %s", error, exc_info=error)
            context.failed = True
        server.stop()
        await context.cancel_tasks()
    return 1 if context.failed else 0


async def _work(context: Context, wiring: Wiring, stop: asyncio.Event) -> None:
    await context.wait_for("Kafka", lambda: ensure_topics(context.settings))
    async with wiring(context):
        await context.kafka.start()
        context.started.set()
        context.spawn(_check_kafka(context), "checking Kafka")
        try:
            context.health.there("start")
            _log.info("ready")
            await stop.wait()
            context.health.missing("start", "stopping")
        finally:
            await context.kafka.stop()


async def _check_kafka(context: Context) -> None:
    """Report not ready while Kafka does not answer; consumers and producer wait for it on their own."""
    while True:
        await asyncio.sleep(KAFKA_SECONDS)
        if await context.kafka.broker.ping(KAFKA_SECONDS):
            context.health.there("Kafka")
        else:
            context.health.missing("Kafka", f"Kafka at {context.settings.kafka_bootstrap} does not answer")
