"""One sandbox for all system tests: the services as processes of their own.

What they work with is embedded or, with `TRITON_TEST_STACK=real`, Kafka, Redis, Elasticsearch and Kubernetes with
OpenKruise.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Generator

import pytest
import pytest_asyncio

from sandbox.embedded import EmbeddedStack
from sandbox.environment import SERVICES, Sandbox, Stack
from sandbox.real.stack import RealStack
from tests.system.hostile.innocent import REPORT, Innocents
from tests.system.log_report import add_logs
from tests.system.matrix import TALLY
from tests.system.other_system import OtherSystem
from tests.system.releases import Releases

pytest.register_assert_rewrite("tests.system.whole_releases", "tests.system.history")

REAL = os.environ.get("TRITON_TEST_STACK") == "real"
SETTINGS = {"TRITON_RESEND_SECONDS": "3"}


def stack() -> Stack:
    return RealStack(print) if REAL else EmbeddedStack()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(settings=SETTINGS, stack=stack()) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=[1, 2], ids=["1-replica", "2-replicas"])
async def replicas(sandbox: Sandbox, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """So many processes of each service, for the tests of a module: `planner` and, where it is two, `planner-2`."""
    count: int = request.param
    await asyncio.gather(*(sandbox.scale(service, count) for service in SERVICES))
    yield count
    await asyncio.gather(*(sandbox.scale(service, 1) for service in SERVICES))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox) as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def innocents(sandbox: Sandbox) -> AsyncIterator[Innocents]:
    """One instance of somebody else, in another namespace than `releases`."""
    async with Releases(sandbox, "innocent") as client:
        innocents = Innocents(sandbox, client, ["innocent"])
        await innocents.create()
        yield innocents


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def paas(sandbox: Sandbox) -> AsyncIterator[OtherSystem]:
    if REAL:
        # the embedded broker makes a topic as soon as it is named
        await OtherSystem.makes_topic(sandbox.kafka_bootstrap)
    async with OtherSystem(sandbox.kafka_bootstrap) as system:
        yield system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    add_logs(item, report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := TALLY.lines():
        terminalreporter.section(f"whole releases on {'the real parts' if REAL else 'the sandbox'}")
        for line in lines:
            terminalreporter.write_line(line)
    if REPORT:
        terminalreporter.section("beside hostile senders")
        for line in REPORT:
            terminalreporter.write_line(line)
