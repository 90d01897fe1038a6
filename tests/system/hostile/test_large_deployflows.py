"""A DeployFlow that is too large for Kafka, or for Triton: it fails alone, with its size and the limit."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from sandbox.environment import Sandbox
from shared.domain import topics
from shared.domain.json_types import Json
from shared.messaging.refusals import MAX_MESSAGE_BYTES
from shared.messaging.topic_creation import LARGEST
from shared.settings import Settings
from tests.system.conftest import REAL
from tests.system.hostile.innocent import innocent_releases
from tests.system.releases import Releases, deployflow

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]

SMALL: Final = 300_000
_settings = Settings()


def large(name: str, size: int) -> Json:
    """Return a release with so many bytes of text that no compression makes smaller."""
    body = deployflow(name, name, action="create", replicas=1)
    text = base64.b85encode(random.Random(name).randbytes(size * 4 // 5)).decode()
    body["spec"]["application"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "TEXT", "value": text}
    ]
    return body


async def test_a_deployflow_beyond_the_limit_fails_alone(sandbox: Sandbox, releases: Releases) -> None:
    async with innocent_releases(sandbox, "beside-large"):
        name = await releases.apply(large("too-large", 1_200_000))
        status = await releases.finished(name, "Failed")
    assert status["reason"] == "InvalidSpec"
    assert "has 1200" in status["message"]
    assert "at most 1000000" in status["message"]


@pytest.mark.skipif(not REAL, reason="the sandbox's broker refuses no message for its size")
@pytest.mark.parametrize(
    ("topic", "reason"), [(topics.PLANNER_FACTS, "InvalidSpec"), (topics.BATCH_COMMANDS, "TooLarge")]
)
async def test_a_deployflow_that_a_topic_does_not_take_fails_alone(
    sandbox: Sandbox, releases: Releases, topic: str, reason: str
) -> None:
    async with limited(sandbox, topic), innocent_releases(sandbox, f"beside-large-{topic}"):
        # twice: the first refusal stops nothing behind it
        names = [await releases.apply(large(f"large-{number}-{topic}", 500_000)) for number in range(2)]
        for name in names:
            status = await releases.finished(name, "Failed")
            assert status["reason"] == reason
            assert f"the topic {_settings.topic(topic)} takes {SMALL}" in status["message"]


@asynccontextmanager
async def limited(sandbox: Sandbox, topic: str) -> AsyncIterator[None]:
    """Let a topic take small messages alone, as one that somebody else made."""
    admin = AIOKafkaAdminClient(bootstrap_servers=sandbox.kafka_bootstrap)
    await admin.start()

    async def limit(size: int) -> None:
        change = {MAX_MESSAGE_BYTES: str(size)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, _settings.topic(topic), change)])

    try:
        await limit(SMALL)
        yield
    finally:
        await limit(LARGEST)
        await admin.close()
