"""`python -m sandbox.backends`: Kafka and Redis of the sandbox, together in one process to save memory.

Prints one JSON line with their addresses when both can be used, and stays until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Final

from sandbox.coordinator import CoordinatorProxy
from sandbox.environment import SERVICES
from sandbox.kafka import MockCluster
from sandbox.redis import RedisServer
from shared import topics
from shared.settings import Settings

GROUPS: Final = (*SERVICES, "planner-intake")
"""The consumer groups of the services, which may have several members."""


def main() -> None:
    asyncio.run(_serve(Settings()))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    names = [settings.topic(name) for name in topics.ALL]
    groups = [settings.group(name) for name in GROUPS]
    kafka = MockCluster(names, groups, settings.kafka_partitions)
    proxy = CoordinatorProxy(kafka.coordinator_port())
    kafka.advertise_coordinator(await proxy.start())
    redis = RedisServer()
    redis.start()
    print(json.dumps({"ready": True, "kafka": kafka.bootstrap, "redis": redis.url}), flush=True)
    await stop.wait()
    redis.close()
    await proxy.close()
    kafka.close()


if __name__ == "__main__":
    main()
