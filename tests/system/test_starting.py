"""How services start where something is missing, and how they stop; the CRD; all four in a terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from sandbox.environment import SERVICES, Sandbox
from shared.kube import client as k8s
from shared.kube.client import Client
from tests.system.programs import bare_cluster, free_port, passed_on, printed, triton
from tests.system.releases import NAMESPACE, Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

STOP_SECONDS = 15
"""A service takes no longer; `triton run` kills one that does after 20 s."""


async def test_a_service_that_is_there_before_kafka_waits_and_then_works(
    sandbox: Sandbox, releases: Releases
) -> None:
    port = free_port()
    environment = sandbox.environment_of("planner") | {"TRITON_KAFKA_BOOTSTRAP": f"127.0.0.1:{port}"}
    await sandbox.stop("planner")
    try:
        async with triton("planner", environment=environment) as planner:
            await planner.says(f"waiting for Kafka: Kafka at 127.0.0.1:{port} does not answer yet")
            assert await planner.answers("/healthz") == (200, {"status": "ok"})
            code, body = await planner.answers("/readyz")
            assert (code, body["ready"]) == (503, False)
            assert f"127.0.0.1:{port}" in body["missing"]["Kafka"]

            await releases.apply(deployflow("late-1", "late", action="create", replicas=1))
            async with passed_on(port, sandbox.kafka_bootstrap):
                await planner.says("Kafka is there")
                await until("it is ready", planner.is_ready)
                await releases.finished("late-1", "Success")
                assert await planner.stops(signal.SIGTERM, STOP_SECONDS) == 0
    finally:
        await sandbox.start("planner")


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_that_waits_for_kafka_stops_on_a_signal(sandbox: Sandbox, service: str) -> None:
    port = free_port()
    environment = sandbox.environment_of(service) | {"TRITON_KAFKA_BOOTSTRAP": f"127.0.0.1:{port}"}
    async with triton(service, environment=environment) as program:
        await program.says(f"waiting for Kafka: Kafka at 127.0.0.1:{port} does not answer yet")
        assert await program.stops(signal.SIGTERM, STOP_SECONDS) == 0


async def test_a_planner_that_is_there_before_redis_waits_and_says_so(sandbox: Sandbox) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    environment = sandbox.environment_of("planner") | {"TRITON_REDIS_URL": url}
    async with triton("planner", environment=environment) as planner:
        await planner.says("waiting for Redis: Redis at ")
        code, body = await planner.answers("/readyz")
        assert (code, list(body["missing"])) == (503, ["start", "Redis"])
        assert await planner.stops(signal.SIGTERM, STOP_SECONDS) == 0


@pytest.mark.parametrize(
    ("service", "content", "says"),
    [
        ("planner", None, "does not exist: set TRITON_KUBECONFIG or KUBECONFIG to one that does"),
        ("executor", None, "does not exist: set TRITON_KUBECONFIG or KUBECONFIG to one that does"),
        ("readiness", None, "does not exist: set TRITON_KUBECONFIG or KUBECONFIG to one that does"),
        ("planner", "just a text", "can't be used"),
        ("executor", "{}", "can't be used"),
        ("readiness", "clusters: [", "can't be used"),
    ],
)
async def test_a_kubeconfig_that_is_none_ends_the_start_and_is_named(
    sandbox: Sandbox, tmp_path: Path, service: str, content: str | None, says: str
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    if content is not None:
        kubeconfig.write_text(content)
    environment = sandbox.environment | {"TRITON_KUBECONFIG": str(kubeconfig)}
    async with triton(service, environment=environment) as program:
        await program.says(f"kubeconfig {kubeconfig} {says}")
        assert await program.ends(STOP_SECONDS) == 1
    assert "Traceback" not in program.said


async def test_a_cluster_that_is_away_is_waited_for(sandbox: Sandbox, tmp_path: Path) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    kubeconfig = _kubeconfig(sandbox, tmp_path, server)
    async with triton("executor", environment=sandbox.environment | kubeconfig) as executor:
        await executor.says(f"waiting for Kubernetes: Kubernetes at {server} does not answer")
        code, body = await executor.answers("/readyz")
        assert code == 503
        assert server in body["missing"]["Kubernetes"]
        assert await executor.stops(signal.SIGTERM, STOP_SECONDS) == 0


async def test_a_service_stops_on_a_signal_though_the_cluster_never_answers(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        kubeconfig = _kubeconfig(sandbox, tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with triton("executor", environment=sandbox.environment | kubeconfig) as executor:
            accepting = asyncio.get_running_loop().sock_accept(silent)
            connection, _ = await asyncio.wait_for(accepting, STOP_SECONDS)
            with connection:
                code, _ = await executor.answers("/readyz")
                assert code == 503
                assert await executor.stops(signal.SIGTERM, STOP_SECONDS) == 0


def _kubeconfig(sandbox: Sandbox, folder: Path, server: str) -> dict[str, str]:
    """The setting for one like the sandbox's, with another server."""
    path = folder / "kubeconfig"
    path.write_text(sandbox.kubeconfig.read_text().replace(sandbox.kubernetes_url, server))
    return {"TRITON_KUBECONFIG": str(path)}


async def test_a_setting_that_does_not_fit_ends_the_start_and_is_named(sandbox: Sandbox) -> None:
    environment = sandbox.environment | {"TRITON_KAFKA_PARTITIONS": "none"}
    async with triton("events", environment=environment) as program:
        assert await program.ends(STOP_SECONDS) == 2
    assert "bad settings: TRITON_KAFKA_PARTITIONS" in program.said


async def test_the_crd_is_installed_once_and_again_without_harm(tmp_path: Path) -> None:
    async with bare_cluster(tmp_path) as kubeconfig:
        environment = {"KUBECONFIG": str(kubeconfig)}
        name = "customresourcedefinition/deployflows.apps.triton.io"
        assert await printed("crd", "--install", environment=environment) == f"{name} created\n"
        client = await Client.connect(kubeconfig, agent="test")
        body = deployflow("kept", "kept", action="create")
        made = await client.create(k8s.DEPLOYFLOWS, NAMESPACE, body)
        assert await printed("crd", "--install", environment=environment) == f"{name} unchanged\n"
        assert await client.get(k8s.DEPLOYFLOWS, NAMESPACE, "kept") == made
        await client.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
async def test_triton_run_releases_with_four_services_and_takes_them_all_down(
    sandbox: Sandbox, releases: Releases, number: signal.Signals
) -> None:
    instance = f"run-{number.name.lower()}"
    await asyncio.gather(*(sandbox.stop(service) for service in SERVICES))
    try:
        async with triton("run", environment=sandbox.environment) as program:
            await releases.apply(deployflow(f"{instance}-1", instance, action="create", replicas=2))
            await releases.finished(f"{instance}-1", "Success")
            assert any(event["triton"].get("batch") for event in await releases.events(f"{instance}-1"))
            children = program.children()
            assert len(children) >= len(SERVICES)
            assert await program.stops(number, STOP_SECONDS + 10) == 0
        assert {line.split("|")[0].strip() for line in program.said.splitlines()} == set(SERVICES)
        assert not [pid for pid in children if _lives(pid)]
    finally:
        await asyncio.gather(*(sandbox.start(service) for service in SERVICES))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
