"""Topics that take less than Triton gives them: what does not fit fails alone, with its size and the limit."""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from sandbox.environment import Sandbox
from shared.domain import topics
from shared.errors import Unpublishable
from shared.messaging.kafka import Kafka
from shared.messaging.refusals import MAX_MESSAGE_BYTES, topic_limits
from shared.messaging.topic_creation import LARGEST, ensure_topics
from shared.settings import Settings
from tests.system.hostile.innocent import innocent_releases
from tests.system.hostile.test_large_deployflows import large
from tests.system.releases import Releases

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]

SMALL: Final = 300_000
READ_SECONDS: Final = 30
_settings = Settings()


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


async def test_what_a_topic_does_not_take_stops_nothing_else_of_its_partition(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    own = Settings(
        prefix=f"sizes-{uuid.uuid4().hex[:8]}", kafka_bootstrap=sandbox.kafka_bootstrap, kafka_partitions=1
    )
    small = own.topic(topics.PLANNER_FACTS)
    admin = AIOKafkaAdminClient(bootstrap_servers=sandbox.kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(small, 1, 1, topic_configs={MAX_MESSAGE_BYTES: "100000"})])
    await admin.close()
    caplog.set_level(logging.WARNING)
    await ensure_topics(own)
    assert f"{small} (100000)" in caplog.text, "a topic that somebody else made is named"
    assert set((await topic_limits(own, [own.topic(topics.BATCH_RESULTS)])).values()) == {LARGEST}
    kafka = Kafka(own, "planner")
    await kafka.start()
    try:
        for turn in range(3):
            values = [b"before", secrets.token_bytes(120_000), b"%d" % turn]
            with pytest.raises(
                Unpublishable, match=r"120000 bytes, 12\d{4} compressed; .* takes 100000"
            ) as refused:
                await kafka.send([(topics.PLANNER_FACTS, "shop/web", value) for value in values])
            assert list(refused.value.faults) == [1]
    finally:
        await kafka.stop()
    assert await _values(sandbox, small, 6) == [b"before", b"0", b"before", b"1", b"before", b"2"]


async def _values(sandbox: Sandbox, topic: str, number: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=sandbox.kafka_bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(READ_SECONDS):
            return [(await consumer.getone()).value for _ in range(number)]
    finally:
        await consumer.stop()
