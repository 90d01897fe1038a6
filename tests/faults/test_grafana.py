"""What Grafana's dashboards ask a Prometheus, beside a release that waits, one that fails and one that succeeds."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.kube import client as k8s
from tests.contract.conftest import ROOT
from tests.dashboards import DASHBOARDS, Query
from tests.faults.prometheus import Prometheus, Sample, prometheus
from tests.system.other_system import OtherSystem, press
from tests.system.programs import printed
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

RULES = ROOT / "deploy" / "prometheus"
NAMESPACE: Final = "dashboards"
WAITS: Final = "waits-1"
FAILS: Final = "shown-3"
DRAIN: Final = {
    "apps.triton.io/drain-path": "/connections",
    "apps.triton.io/drain-port": "9",
    "apps.triton.io/drain-max-seconds": "1",
}
QUERIES: Final = {query.where: query for dashboard in DASHBOARDS for query in dashboard.queries()}
ANSWERED: Final = "every command has its answer"
EMPTY: Final = {
    "overview.json: Unfinished releases: E": ANSWERED,
    "release.json: Has had no answer for: A": ANSWERED,
    "release.json: What it did: D": ANSWERED,
}
"""What this run leaves without data, and why."""
MOVED: Final = "a gate is moved in less time than is between two scrapes"
MAYBE_EMPTY: Final = {
    "release.json: Gates not moved yet: A": MOVED,
    "release.json: Gates to be moved: A": MOVED,
    "release.json: Age of the oldest gate command: A": MOVED,
    "services.json: Gates that are not moved yet: A": MOVED,
    "services.json: Watches opened again, per minute: A": "a watch ends after minutes",
}
"""What it may leave without data: the answer has no fault all the same."""


class Shown(NamedTuple):
    """Prometheus, and since when (seconds since 1970) it has seen what the dashboards shall show."""

    server: Prometheus
    since: float

    async def data(self, query: Query, *deployflows: str) -> list[Sample]:
        """What Grafana would draw, for the first of these releases of which there is something."""
        ago = f"{math.ceil(time.time() - self.since)}s"
        for name in deployflows:
            values = {"namespace": NAMESPACE, "deployflow": name, "__range": ago, "__rate_interval": "1m"}
            expression = query.with_values(values)
            answer = (
                self.server.query(expression) if query.instant else self.server.over(expression, self.since)
            )
            if samples := [sample for sample in await answer if not math.isnan(sample.value)]:
                return samples
        return []

    async def value(self, where: str) -> float:
        (sample,) = await self.data(QUERIES[where], "")
        return sample.value


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as client:
        await client.make_namespace()
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shown(
    sandbox: Sandbox, releases: Releases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shown]:
    folder: Path = tmp_path_factory.mktemp("grafana")
    async with prometheus(folder, sandbox.health_urls, sorted(RULES.glob("*.yml"))) as server:
        since = time.time()
        await releases.apply(deployflow(WAITS, "waits", action="create", replicas=2, canary=1))
        await asyncio.gather(_succeeds_and_fails(sandbox, releases), _others(sandbox))
        await releases.until_status(WAITS, "waits", lambda status: status["reason"] == "WaitingForNext")
        yield Shown(server, since)
        await releases.client.delete(k8s.DEPLOYFLOWS, NAMESPACE, WAITS)


async def _succeeds_and_fails(sandbox: Sandbox, releases: Releases) -> None:
    """A create, an update by REST whose old pods are waited for, and one whose pods crash."""
    body = deployflow("shown-1", "shown", action="create", replicas=2, annotations=DRAIN, bakeSeconds=1)
    first = await releases.apply(body)
    await releases.finished(first, "Success")
    where = ("--namespace", NAMESPACE, "--server", sandbox.rest_urls["planner"])
    said = await printed("update", "shown", "--image", "nginx:2", *where, environment=sandbox.environment)
    await releases.finished(said.split()[-1], "Success")
    await releases.apply(deployflow(FAILS, "shown", image="nginx:crash", replicas=2))
    await releases.batch_is(FAILS, 1, "SmokeFailed")


async def _others(sandbox: Sandbox) -> None:
    """A command from elsewhere that is refused, one that can't be read, and a question by gRPC."""
    await OtherSystem.makes_topic(sandbox.kafka_bootstrap)
    async with OtherSystem(sandbox.kafka_bootstrap) as paas:
        await paas.ask("nobody", press("dashboards-1", "next", "nobody"))
        await paas.publish("nobody", b"{")
        await paas.dead_letters("nobody")
    async with grpc.aio.insecure_channel(sandbox.grpc_addresses["planner"]) as channel:
        ask: Any = channel.unary_unary("/deployflow.DeployFlow/Gets")
        await ask(b"", timeout=10)


async def test_what_may_be_empty_names_queries() -> None:
    assert not {*EMPTY, *MAYBE_EMPTY} - set(QUERIES)


@pytest.mark.parametrize("where", [where for where in QUERIES if where not in {*EMPTY, *MAYBE_EMPTY}])
async def test_a_query_has_data_with_the_labels_that_its_legend_names(shown: Shown, where: str) -> None:
    query = QUERIES[where]
    samples = await until(f"data of {query.expression}", lambda: shown.data(query, WAITS, FAILS), 20)
    for sample in samples:
        assert query.legend_labels <= set(sample.labels)


@pytest.mark.parametrize("where", EMPTY)
async def test_a_query_without_data_is_answered_and_is_still_without(shown: Shown, where: str) -> None:
    assert not await shown.data(QUERIES[where], WAITS, FAILS)


@pytest.mark.parametrize("where", MAYBE_EMPTY)
async def test_a_query_that_may_be_without_data_is_answered(shown: Shown, where: str) -> None:
    await shown.data(QUERIES[where], WAITS, FAILS)


async def test_every_metric_is_exported(shown: Shown) -> None:
    queried = set[str]().union(*(query.metrics for query in QUERIES.values())) - {"ALERTS", "up"}
    exported = await shown.server.families()
    assert {name.removesuffix("_total") for name in queried} <= exported


@pytest.mark.parametrize(
    "title", ["Alerts", "Stand still", "Wait for a person", "Unfinished", "Dead letters"]
)
async def test_what_needs_somebody_is_counted_in_the_first_row(shown: Shown, title: str) -> None:
    async def counted() -> bool:
        return await shown.value(f"overview.json: {title}: A") >= 1

    await until("it is counted", counted)


async def test_a_failure_is_shown_with_its_reason_until_somebody_has_decided(
    sandbox: Sandbox, releases: Releases, shown: Shown
) -> None:
    (failed,) = await shown.data(QUERIES["release.json: Failed: A"], FAILS)
    assert failed.labels == {"batch_phase": "SmokeFailed", "reason": "CrashLoopBackOff"}
    stood_still = await shown.value("overview.json: Stand still: A")
    await printed("rollback", "shown", "--namespace", NAMESPACE, environment=sandbox.environment)
    await releases.finished(FAILS, "Aborted")

    async def is_resolved() -> bool:
        return await shown.value("overview.json: Stand still: A") == stood_still - 1

    await until("one release less stands still", is_resolved)
    assert not await shown.data(QUERIES["release.json: Failed: A"], FAILS)
