"""`python -m sandbox.backends`: Kafka and Redis of the sandbox, together in one process to save memory.

Prints one JSON line with their addresses when both can be used, and stays until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal

import uvloop

from sandbox.kafka import MockBroker
from sandbox.kafka_proxy import KafkaProxy
from sandbox.redis import RedisServer
from shared.domain import topics
from shared.settings import Settings


def main() -> None:
    uvloop.run(_serve(Settings()))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = MockBroker([settings.topic(name) for name in topics.ALL], settings.kafka_partitions)
    proxy = KafkaProxy(broker.port, broker.make_topic)
    port = await proxy.start()
    broker.advertise(port)
    redis = RedisServer()
    redis.start()
    print(json.dumps({"ready": True, "kafka": f"127.0.0.1:{port}", "redis": redis.url}), flush=True)
    await stop.wait()
    redis.close()
    await proxy.close()
    broker.close()


if __name__ == "__main__":
    main()
