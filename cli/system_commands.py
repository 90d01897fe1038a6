"""The commands that run the sandbox, the demo and the services, and that install the CRD."""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.exits import BadInput
from cli.options import Kubeconfig, Output, State, Where, server_of
from cli.output import Format, note, say, show, verbatim
from shared.domain.json_types import Json
from shared.domain.safe_text import without_login

if TYPE_CHECKING:
    from sandbox.environment import Sandbox, Stack

Real = Annotated[
    bool,
    typer.Option(
        "--real", help="Run Kafka, Redis, Elasticsearch, and Kubernetes with OpenKruise, as processes."
    ),
]


def sandbox(
    state: State = None,
    replicas: Annotated[
        int, typer.Option("--replicas", min=0, help="Processes of each service; 0 to run them yourself.")
    ] = 1,
    real: Real = False,
    output: Output = None,
) -> None:
    """Run all of Triton on this machine until Ctrl-C.

    It needs no other programs: it is a simulation for trials and tests, in which Kafka, Redis and Kubernetes are small stand-ins, and pods run no containers. Each service is a process of its own; a killed one is started again. Prints READY and the address of each part; sandbox.env in the state directory has them as variables. REST and gRPC are at ports 8088 and 8099, or, where those are taken, at others, which it says.

    Releases and their log live until it stops: the next start begins empty, with the same --state too.

    With --real, the parts are the real programs, built and downloaded once (ten minutes; needs Go, Java and Maven); only pods are simulated. A part that a setting names (TRITON_KUBECONFIG, TRITON_KAFKA_BOOTSTRAP, TRITON_REDIS_URL, TRITON_EVENT_STORE) is used instead of started.

    Examples:
      triton sandbox
      triton sandbox --state ./sandbox-state --replicas 2
      triton sandbox --real
      TRITON_KAFKA_BOOTSTRAP=127.0.0.1:9092 triton sandbox --real

    """
    from cli.interrupts import Interrupted, run
    from sandbox.environment import SERVICES, Sandbox

    async def work() -> None:
        began = time.monotonic()
        stack = _stack(real=real)
        note(f"starting a sandbox ({stack.played}) ...")
        counts = dict.fromkeys(SERVICES, replicas)
        async with Sandbox(state, replicas=counts, stack=stack, api_ports=(8088, 8099), say=note) as running:
            seconds = time.monotonic() - began
            _introduce(running, seconds, await stack.versions(), output)
            await running.lost()

    try:
        run(work())
    except Interrupted:
        note("stopped")


def _stack(*, real: bool) -> Stack:
    # the modules of the real parts are imported only for --real: the other start takes seconds
    if real:
        from sandbox.real.stack import RealStack

        return RealStack(note)
    from sandbox.embedded import EmbeddedStack

    return EmbeddedStack()


def _introduce(running: Sandbox, seconds: float, versions: dict[str, str], output: Format | None) -> None:
    if output is not None:
        show(_addresses(running) | {"versions": versions}, output)
        return
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        f"READY in {seconds:.1f} s. This is a simulation: {running.played}.",
        f"  Kubernetes    {running.kubernetes_url}    export KUBECONFIG={running.kubeconfig}",
        f"  Kafka         {without_login(running.kafka_bootstrap)}",
        f"  Redis         {without_login(running.redis_url)}",
        f"  event store   {without_login(running.event_store)}",
        *([f"  versions      {known}"] if known else []),
        *(f"  REST          {url}/api/v1" for url in running.rest_urls.values()),
        *(f"  gRPC          {address}" for address in running.grpc_addresses.values()),
        *(f"  {name:<13} {url}/metrics" for name, url in running.health_urls.items()),
        f"  all settings  set -a; . {running.env_file}; set +a",
        f"  state, logs   {running.state}    releases and release log: until it stops, a restart begins empty",
        "Try: kubectl apply -f examples/web-create.yaml, then triton watch 20001-web-10010",
        "Ctrl-C stops it.",
    ]
    say(*lines)


def _addresses(running: Sandbox) -> Json:
    return {
        "ready": True,
        "simulation": running.played,
        "kubernetes": running.kubernetes_url,
        "kubeconfig": str(running.kubeconfig),
        "kafka": without_login(running.kafka_bootstrap),
        "redis": without_login(running.redis_url),
        "eventStore": without_login(running.event_store),
        "rest": list(running.rest_urls.values()),
        "grpc": list(running.grpc_addresses.values()),
        "services": running.health_urls,
        "settings": str(running.env_file),
        "state": str(running.state),
    }


def demo(state: State = None, real: Real = False, output: Output = None) -> None:
    """Run three releases in a sandbox of its own, in a minute.

    A canary release, an update in batches, and an update that fails. The exit code is 0 only if all checks on the API server and the release log hold.

    Examples:
      triton demo
      triton demo -o json
      triton demo --real

    """
    from cli.demo import play
    from cli.interrupts import run

    if not run(play(state, _stack(real=real), output)):
        raise typer.Exit(1)


def run_() -> None:
    """Run the four services with the current settings.

    Settings (TRITON_...) name the cluster, Kafka, Redis and the event store. Log lines are prefixed with the name of the service. Ctrl-C stops all services; a service that exits early stops the others.

    Example:
      TRITON_KAFKA_BOOTSTRAP=kafka:9092 TRITON_REDIS_URL=redis://redis:6379/0 triton run

    """
    from cli.running import run_services

    asyncio.run(run_services())


def serve(service: str) -> None:
    """Run one service in this process until a signal stops it."""
    try:
        application = importlib.import_module(f"services.{service}.app")
    except ModuleNotFoundError as error:
        msg = f"the {service} service can't be loaded: {error}"
        raise SystemExit(msg) from error
    application.main()


def planner() -> None:
    """Run the planner, which controls every release.

    It plans the batches and issues the commands. Settings come from the environment (TRITON_...). It waits for Kafka, Redis and Kubernetes, and logs that it waits.

    Example:
      TRITON_KAFKA_BOOTSTRAP=kafka:9092 triton planner

    """
    serve("planner")


def executor() -> None:
    """Run the executor, which changes CloneSets.

    Settings come from the environment (TRITON_...). It waits for Kafka and Kubernetes, and logs that it waits.

    Example:
      TRITON_KAFKA_BOOTSTRAP=kafka:9092 triton executor

    """
    serve("executor")


def readiness() -> None:
    """Run the readiness service, which watches pods.

    It opens and closes their readiness gates. Settings come from the environment (TRITON_...). It waits for Kafka and Kubernetes, and logs that it waits.

    Example:
      TRITON_KAFKA_BOOTSTRAP=kafka:9092 triton readiness

    """
    serve("readiness")


def events() -> None:
    """Run the events service, which writes the release log.

    It writes to Elasticsearch or, in the sandbox, to a file. Settings come from the environment (TRITON_...). It waits for Kafka and the store, and logs that it waits.

    Example:
      TRITON_EVENT_STORE=https://elastic:9200 triton events

    """
    serve("events")


def crd(
    install: Annotated[bool, typer.Option("--install", help="Install it in the cluster instead.")] = False,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print the CRD of DeployFlow, or install it.

    Examples:
      triton crd > deployflows.yaml
      triton crd --install

    """
    from shared.kube.crd import crd as definition
    from shared.kube.crd import crd_yaml

    if not install:
        verbatim(crd_yaml())
        return
    if server_of(Where(kubeconfig=kubeconfig)):
        msg = "TRITON_SERVER: a server can't install the definition: name the cluster by --kubeconfig"
        raise BadInput(msg)
    from cli.connection import Place, connect
    from cli.installing import install as put
    from cli.interrupts import run

    async def work() -> str:
        async with connect(Place.of(kubeconfig, None)) as cluster:
            return await put(cluster, definition())

    say(run(work()))
