"""Creates the missing topics, with the size that Triton's messages need."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from shared.domain import topics
from shared.errors import Unavailable
from shared.messaging.connection import connection
from shared.messaging.refusals import MAX_MESSAGE_BYTES, topic_limits
from shared.settings import Settings

LARGEST: Final = 4 << 20
"""The limit of the topics: bytes of a message, compressed. A DeployFlow has at most 1.5 MiB; the facts of 30,000 pods have
6.2 MB, and 1.5 MB compressed. Kafka's own default is 1 MiB."""
APPEAR_SECONDS: Final = 10.0
"""The time from the creation of a topic until a broker lists it: mostly milliseconds."""

_log = logging.getLogger(__name__)


async def ensure_topics(settings: Settings) -> None:
    """Create the missing topics; existing ones keep their partitions and settings. Raise `Unavailable`.

    The log names existing ones that take smaller messages than Triton may have to send.
    """
    admin = AIOKafkaAdminClient(client_id=f"{settings.prefix}-topics", **connection(settings))
    try:
        await admin.start()
        there = set(await admin.list_topics())
        missing = [settings.topic(name) for name in topics.ALL if settings.topic(name) not in there]
        if missing:
            brokers = len((await admin.describe_cluster())["brokers"])
            answer = await admin.create_topics(
                [
                    NewTopic(
                        name=name,
                        num_partitions=settings.kafka_partitions,
                        replication_factor=settings.kafka_replication or min(brokers, 3),
                        topic_configs={MAX_MESSAGE_BYTES: str(LARGEST)},
                    )
                    for name in missing
                ]
            )
            for name, code, *details in answer.topic_errors:
                # another replica may have been faster
                if code not in {0, TopicAlreadyExistsError.errno}:
                    why = ": ".join([for_code(code).__name__, *filter(None, details)])
                    msg = f"Kafka at {settings.kafka_bootstrap} did not create the topic {name}: {why}"
                    raise Unavailable(msg)
            # a consumer that finds its topics missing does not retry soon
            async with asyncio.timeout(APPEAR_SECONDS):
                while not set(missing) <= set(await admin.list_topics()):
                    await asyncio.sleep(0.05)
            _log.info("topics created: %s", ", ".join(missing))
    except (KafkaError, OSError) as error:
        msg = f"Kafka at {settings.kafka_bootstrap} does not answer yet ({error})"
        raise Unavailable(msg) from error
    finally:
        await admin.close()
    await _warn_of_small(settings)


async def _warn_of_small(settings: Settings) -> None:
    limits = await topic_limits(settings, [settings.topic(name) for name in topics.ALL])
    small = {name: limit for name, limit in limits.items() if limit < LARGEST}
    if small:
        _log.warning(
            "topics whose %s is below %s: %s. A larger message fails its release: raise it, see docs/operations.md",
            MAX_MESSAGE_BYTES,
            LARGEST,
            ", ".join(f"{name} ({limit})" for name, limit in sorted(small.items())),
        )
