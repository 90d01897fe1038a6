"""Kafka's broker is killed in the middle of a release, and comes back."""

from __future__ import annotations

import signal

import pytest

from sandbox.environment import SERVICES, Sandbox
from tests.faults.disturbed import PHASES, disturbed, missing
from tests.system.programs import triton
from tests.system.releases import Releases, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

STOP_SECONDS = 15


@pytest.mark.parametrize("phase", PHASES)
async def test_a_release_goes_on_after_its_broker_was_killed(
    sandbox: Sandbox, releases: Releases, phase: str
) -> None:
    async with disturbed(sandbox, releases, f"kafka-{phase.lower()}", phase):
        sandbox.kill("kafka")
        await sandbox.start("kafka")


async def test_services_say_that_kafka_is_away_and_stop_on_a_signal(
    sandbox: Sandbox, releases: Releases
) -> None:
    async with disturbed(sandbox, releases, "kafka-away", "Baking"):
        sandbox.kill("kafka")
        try:
            await _all_miss_kafka(sandbox)
            before = {service: sandbox.pid(service) for service in SERVICES}
            for service in SERVICES:
                sandbox.kill(service, signal.SIGTERM)
            await until(
                "all have ended",
                lambda: all(sandbox.pid(service) != pid for service, pid in before.items()),
                STOP_SECONDS,
            )
            await _all_miss_kafka(sandbox)
        finally:
            await sandbox.start("kafka")
        for service in SERVICES:
            await sandbox.ready(service)


async def _all_miss_kafka(sandbox: Sandbox) -> None:
    away = f"Kafka at {sandbox.kafka_bootstrap} does not answer"

    async def say_so() -> bool:
        said = [(await missing(sandbox, service)).get("Kafka", "") for service in SERVICES]
        return all(text.startswith(away) for text in said)

    await until("all services say that Kafka is away", say_so)


async def test_a_session_timeout_that_the_broker_refuses_ends_the_start_and_is_named(
    sandbox: Sandbox,
) -> None:
    environment = sandbox.environment_of("events") | {"TRITON_KAFKA_SESSION_TIMEOUT_MS": "3000"}
    async with triton("events", environment=environment) as events:
        await events.says("TRITON_KAFKA_SESSION_TIMEOUT_MS: Kafka at")
        assert await events.ends(STOP_SECONDS) == 1
    assert "Traceback" not in events.said
