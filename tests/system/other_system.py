"""A program of somebody else that asks for releases over Kafka: aiokafka and JSON, nothing of this project.

All that it knows of Triton is the broker's address and what docs/deploy-commands.md says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from shared.domain.json_types import Json

Headers = Mapping[str, bytes | None]
COMMANDS = "triton.deploy-commands"
DEAD_LETTERS = "triton.dead-letters"
REPLIES = "paas.replies"
PATIENCE_SECONDS = 20.0


def deploy(id: str, instance: str, *, image: str = "web:1.0", replicas: int = 1, **strategy: Any) -> Json:
    return {
        "id": id,
        "type": "deploy",
        "requestedBy": "paas",
        "replyTo": REPLIES,
        "spec": {
            "action": "create" if image == "web:1.0" else "update",
            "application": {
                "appID": 20001,
                "groupID": 10010,
                "appName": "web",
                "instanceName": instance,
                "replicas": replicas,
                "template": {
                    "metadata": {"annotations": {"sandbox.triton.io/start-seconds": "0.1"}},
                    "spec": {"containers": [{"name": "web", "image": image}]},
                },
            },
            "updateStrategy": {"mode": "auto", **strategy},
        },
    }


def press(id: str, kind: str, instance: str, **fields: Any) -> Json:
    return {"id": id, "type": kind, "instanceName": instance, "replyTo": REPLIES, **fields}


class Message(NamedTuple):
    """A record that arrived for us."""

    topic: str
    key: str
    value: bytes
    headers: dict[str, str]

    @property
    def body(self) -> Json:
        body: Json = json.loads(self.value)
        return body


class OtherSystem:
    """Publishes commands and gathers replies and dead letters from the moment that it starts."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", max_request_size=4 * 1024 * 1024
        )
        self._consumer = AIOKafkaConsumer(
            REPLIES, DEAD_LETTERS, bootstrap_servers=bootstrap, auto_offset_reset="earliest"
        )
        self._arrived: list[Message] = []
        self._news = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._producer.start()
        await self._consumer.start()
        self._reading = asyncio.create_task(self._read())
        return self

    @staticmethod
    async def makes_topic(bootstrap: str) -> None:
        """Where answers shall go to is ours to make."""
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(REPLIES, num_partitions=1, replication_factor=1)])
        except TopicAlreadyExistsError:
            pass
        finally:
            await admin.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._consumer.stop()
        await self._producer.stop()

    async def ask(self, instance: str, *commands: Json, headers: Headers | None = None) -> None:
        """Publish commands about an instance, one right behind the other."""
        for command in commands:
            value = json.dumps({"namespace": "default", **command}).encode()
            await self.publish(instance, value, headers)

    async def publish(self, instance: str, value: bytes, headers: Headers | None = None) -> None:
        key = f"default/{instance}".encode()
        await self._producer.send_and_wait(COMMANDS, value, key=key, headers=list((headers or {}).items()))

    async def replies(self, id: str, number: int = 1) -> Sequence[Json]:
        """Return the first `number` different answers to a command, once so many are there."""
        return [message.body for message in await self.messages(id, number)]

    async def end(self, id: str) -> Json:
        """The answer that says how the release ended which a command made."""
        (message, *_) = await self._wait(
            f"the end of {id}",
            1,
            lambda m: m.topic == REPLIES and m.key == id and m.body["result"] == "finished",
        )
        return message.body

    async def messages(self, id: str, number: int) -> Sequence[Message]:
        """Return the records of the first `number` different answers; answers are sent at least once."""
        found = await self._wait(
            f"{number} different replies to {id}",
            number,
            lambda m: m.topic == REPLIES and m.key == id,
            lambda m: m.headers["ce_id"],
        )
        return found[:number]

    async def all_messages(self, id: str, number: int, result: str = "") -> Sequence[Message]:
        """Return all answers to a command, repeated ones too, with one result or any, once `number` are there."""
        return await self._wait(
            f"{number} replies {result} to {id}",
            number,
            lambda m: m.topic == REPLIES and m.key == id and m.body["result"].startswith(result),
        )

    async def dead_letters(self, instance: str, number: int = 1) -> Sequence[Message]:
        """Return what was put aside of an instance's commands, each once, when at least `number` are there."""
        key = f"default/{instance}"
        return await self._wait(
            f"{number} dead letters of {key}",
            number,
            lambda m: m.topic == DEAD_LETTERS and m.key == key,
            lambda m: [m.headers[f"triton_{name}"] for name in ("topic", "partition", "offset")],
        )

    async def _wait(
        self,
        what: str,
        number: int,
        fits: Callable[[Message], bool],
        identity: Callable[[Message], object] | None = None,
    ) -> Sequence[Message]:
        """Wait for `number` records; of those with the same identity the first one counts."""
        found: list[Message] = []

        def enough() -> bool:
            found.clear()
            seen: list[object] = []
            for message in filter(fits, self._arrived):
                key = identity(message) if identity else id(message)
                if key not in seen:
                    seen.append(key)
                    found.append(message)
            return len(found) >= number

        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._news:
                await self._news.wait_for(enough)
        except TimeoutError:
            arrived = [f"{m.topic} {m.key}" for m in self._arrived[-5:]]
            raise AssertionError(
                f"not within {PATIENCE_SECONDS:g} s: {what}; the last to arrive: {arrived}"
            ) from None
        return found

    async def _read(self) -> None:
        async for record in self._consumer:
            headers = {name: value.decode() for name, value in record.headers}
            message = Message(record.topic, (record.key or b"").decode(), record.value or b"", headers)
            async with self._news:
                self._arrived.append(message)
                self._news.notify_all()
