"""A Prometheus beside the services: a failed batch fires once, through a restart of the planner, and clears."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.kube import client as k8s
from tests.contract.conftest import ROOT
from tests.faults.prometheus import Prometheus, prometheus
from tests.system.programs import printed
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

RULES = ROOT / "deploy" / "prometheus"
NAMESPACE = "alerts"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    async with prometheus(folder, sandbox.health_urls, sorted(RULES.glob("*.yml"))) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


class Watched:
    """The alert that a batch of a release has failed."""

    def __init__(self, server: Prometheus, name: str) -> None:
        self._server = server
        self._name = name

    async def active(self) -> Json | None:
        found = [
            alert
            for alert in await self._server.alerts()
            if alert["labels"]["alertname"] == "TritonBatchFailed"
            and alert["labels"]["deployflow"] == self._name
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    async def firing(self) -> Json:
        async def fires() -> Json | None:
            alert = await self.active()
            return alert if alert and alert["state"] == "firing" else None

        alert: Json = await until(f"the alert of {self._name} fires", fires)
        return alert

    async def resolved(self) -> None:
        async def is_resolved() -> bool:
            return await self.active() is None

        await until(f"the alert of {self._name} is resolved", is_resolved)

    async def times(self) -> float:
        """How often it began to fire, for as long as the server has run."""
        selected = f'alertname="TritonBatchFailed",deployflow="{self._name}"'
        (sample,) = await self._server.query(f"changes(ALERTS_FOR_STATE{{{selected}}}[10m]) + 1")
        return sample.value


async def test_a_failed_batch_fires_once_through_a_restart_of_the_planner_until_the_rollback(
    sandbox: Sandbox, releases: Releases, server: Prometheus
) -> None:
    await releases.create("shop", 2)
    name = await releases.apply(deployflow("shop-2", "shop", image="nginx:crash", replicas=2))
    watched = Watched(server, name)
    alert = await watched.firing()
    assert alert["labels"] == {
        "alertname": "TritonBatchFailed",
        "severity": "critical",
        "namespace": NAMESPACE,
        "application_instance": "shop",
        "app": "shop",
        "deployflow": name,
        "action": "update",
    }
    assert "SmokeFailed, CrashLoopBackOff" in alert["annotations"]["description"]
    await _killed_and_back(sandbox, server, f'triton_flow_batch_failed{{deployflow="{name}"}} == 1')
    assert (await watched.firing())["activeAt"] == alert["activeAt"]
    assert await watched.times() == 1
    arguments = ("rollback", "shop", "--namespace", NAMESPACE)
    await printed(*arguments, environment=sandbox.environment)
    await watched.resolved()
    await releases.finished(name, "Aborted")
    assert await watched.times() == 1


async def test_a_batch_that_fails_while_the_planner_is_away_fires_when_it_is_back(
    sandbox: Sandbox, releases: Releases, server: Prometheus
) -> None:
    await releases.create("lost", 2)
    late = {"sandbox.triton.io/start-seconds": "3"}
    body = deployflow("lost-2", "lost", image="nginx:crash", replicas=2, annotations=late)
    name = await releases.apply(body)
    await releases.batch_is(name, 1, "Smoking")
    await sandbox.stop("planner")

    async def crashed() -> bool:
        return "CrashLoopBackOff" in json.dumps(await releases.pods("lost"))

    await until("its pods crash", crashed)
    assert (await releases.batch_is(name, 1, "Smoking"))["reason"] == ""
    watched = Watched(server, name)
    assert await watched.active() is None
    await sandbox.start("planner")
    await watched.firing()
    await releases.client.delete(k8s.DEPLOYFLOWS, NAMESPACE, name)
    await watched.resolved()


async def test_what_a_planner_has_not_worked_on_is_its_lag(
    sandbox: Sandbox, releases: Releases, server: Prometheus
) -> None:
    sandbox.kill("redis")
    name = await releases.apply(deployflow("late-1", "late", action="create", replicas=1))
    late = 'triton:kafka_lag_seconds{group="planner",topic="planner-facts"}'
    waiting = 'triton:kafka_lag_records{group="planner",topic="planner-facts"}'
    await until("the planner is behind", lambda: server.query(f"{late} > 1 and {waiting} > 0"))
    await until("and not ready", lambda: server.query('triton_ready{service="planner"} == 0'))
    await sandbox.start("redis")
    await releases.finished(name, "Success")
    await until("the planner is not behind any more", lambda: server.query(f"{late} + {waiting} == 0"))


async def _killed_and_back(sandbox: Sandbox, server: Prometheus, query: str) -> None:
    """Kill the planner, which Prometheus sees, and wait until the new one reports the same."""
    target = urlsplit(sandbox.health_urls["planner"]).netloc
    sandbox.kill("planner")

    async def seen() -> bool:
        return bool(await server.query(f'min_over_time(up{{instance="{target}"}}[1m]) == 0'))

    await until("Prometheus sees that the planner is away", seen)
    await sandbox.ready("planner")
    await until("the planner reports it again", lambda: server.query(query))
