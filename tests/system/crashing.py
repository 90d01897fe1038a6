"""A service that ends between two of its writes on request, as kill -9 ends it: `python -m … SERVICE`.

The service runs as it is; only the methods by which it writes are wrapped, from outside. A line on stdin says where it
ends: JSON of an instance and a `Point` about it; it answers `armed`. At its point it prints its members of consumer
groups, which nobody else knows, and ends with `CODE`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn

from aiokafka import AIOKafkaConsumer

from shared.event_store.elastic import ElasticStore
from shared.event_store.sqlite import SqliteStore
from shared.kube.client import Client
from shared.messaging.consumer import Consumer
from shared.messaging.kafka import Kafka
from shared.status_store import StatusStore

CODE: Final = 86
"""Of a process that reached its point."""
ARMED: Final = "armed"
Write = Callable[[], Awaitable[Any]]
Method = Callable[..., Awaitable[Any]]


class Point(NamedTuple):
    """`write`: what is written to (see `Ending.wrap`); `says`: a regular expression that the write must fit, the
    `number`-th that does; `moment`: `before` it, `amid` (a part of it is written) or `after` it.
    """

    write: str
    moment: str
    says: str = ""
    number: int = 1


class Ending:
    """Counts the writes that are meant, and ends the process at the one that is."""

    def __init__(self) -> None:
        self._armed: tuple[str, Point] | None = None
        self._seen = 0
        self._turn = asyncio.Lock()
        self._members: list[AIOKafkaConsumer] = []

    def arm(self, instance: str, point: Point) -> None:
        self._armed = instance, point

    def meant(self, write: str, text: str) -> bool:
        if self._armed is None:
            return False
        instance, point = self._armed
        return write == point.write and instance in text and bool(re.search(point.says, text))

    async def around(self, write: Write, part: Write | None = None) -> Any:
        """Do a write that is meant. One after another: none of those behind it has begun where the process ends."""
        assert self._armed is not None
        _, point = self._armed
        async with self._turn:
            if self._seen + 1 != point.number:
                answer = await write()
                # one that was refused does not count
                self._seen += 1
                return answer
            if point.moment == "amid":
                assert part is not None, "this write has no parts"
                await part()
            elif point.moment == "after":
                await write()
            return self._end()

    def _end(self) -> NoReturn:
        # the consumer that feeds open streams is in no group
        grouped = [member for member in self._members if member._group_id]
        groups = {member._group_id: member._coordinator.member_id for member in grouped}
        print(json.dumps(groups), flush=True)
        os._exit(CODE)

    def wrap(self) -> None:
        """Every method by which a service writes."""
        _put(StatusStore, "commit", self._state(StatusStore.commit))
        _put(StatusStore, "published", self._published(StatusStore.published))
        _put(Kafka, "send", self._messages(Kafka.send))
        _put(Kafka, "reply", self._reply(Kafka.reply))
        for verb in ("create", "patch", "delete"):
            _put(Client, verb, self._objects(verb, getattr(Client, verb)))
        for store in (ElasticStore, SqliteStore):
            _put(store, "write", self._documents(store.write))
        self._offsets()

    def _state(self, commit: Method) -> Method:
        """Of an instance, with the messages decided on, in Redis."""

        async def wrapped(store: StatusStore, key: Any, **fields: Any) -> Any:
            outbox = json.loads(fields["outbox"] or b"[]")
            text = "\n".join([str(key), *(value for _, value in outbox)])
            write = partial(commit, store, key, **fields)
            return await (self.around(write) if self.meant("state", text) else write())

        return wrapped

    def _published(self, published: Method) -> Method:
        """That the messages are published, noted in Redis."""

        async def wrapped(store: StatusStore, key: Any, version: int) -> Any:
            write = partial(published, store, key, version)
            return await (self.around(write) if self.meant("published", str(key)) else write())

        return wrapped

    def _messages(self, send: Method) -> Method:
        """To Kafka; `amid`: all up to the first that is meant, and no more."""

        async def wrapped(kafka: Kafka, records: Sequence[tuple[str, str, bytes]]) -> Any:
            texts = [f"{topic} {key} {value.decode()}" for topic, key, value in records]
            first = next((n for n, text in enumerate(texts, 1) if self.meant("messages", text)), 0)
            amid = partial(send, kafka, records[:first]) if first < len(records) else None
            write = partial(send, kafka, records)
            return await (self.around(write, amid) if first else write())

        return wrapped

    def _reply(self, reply: Method) -> Method:
        """Wrap the reply to the requester of a release."""

        async def wrapped(kafka: Kafka, topic: str, key: str, value: bytes, headers: Any) -> Any:
            text = f"{topic} {key} {value.decode(errors='replace')}"
            write = partial(reply, kafka, topic, key, value, headers)
            return await (self.around(write) if self.meant("reply", text) else write())

        return wrapped

    def _objects(self, verb: str, request: Method) -> Method:
        """To the API server: what is said is the verb, the kind, the name, the body and the subresource."""

        async def wrapped(client: Client, resource: Any, *what: Any, **options: Any) -> Any:
            text = f"{verb} {resource.plural} {json.dumps(what)} {options.get('subresource', '')}"
            write = partial(request, client, resource, *what, **options)
            writes = not options.get("dry_run", False)
            return await (self.around(write) if writes and self.meant("objects", text) else write())

        return wrapped

    def _documents(self, method: Method) -> Method:
        """To the release log; `amid`: half of them."""

        async def wrapped(store: Any, documents: Sequence[Any]) -> Any:
            text = json.dumps([document.source for document in documents])
            half = documents[: len(documents) // 2]
            write = partial(method, store, documents)
            amid = partial(method, store, half) if half else None
            return await (self.around(write, amid) if self.meant("documents", text) else write())

        return wrapped

    def _offsets(self) -> None:
        """Of a record that is meant, or of one behind it, to Kafka."""
        start, take, commit = AIOKafkaConsumer.start, Consumer._take, AIOKafkaConsumer.commit
        taken: dict[tuple[str, int], int] = {}

        async def starts(consumer: AIOKafkaConsumer) -> None:
            self._members.append(consumer)
            await start(consumer)

        async def takes(consumer: Consumer, raw: Any) -> None:
            text = f"{raw.topic} {raw.key.decode()} {raw.value.decode()}"
            if self.meant("offsets", text):
                taken.setdefault((raw.topic, raw.partition), raw.offset)
            await take(consumer, raw)

        async def commits(consumer: AIOKafkaConsumer, offsets: Any) -> None:
            done = any(offset > taken.get(place, offset) for place, offset in offsets.items())
            write = partial(commit, consumer, offsets)
            await (self.around(write) if done else write())

        _put(AIOKafkaConsumer, "start", starts)
        _put(Consumer, "_take", takes)
        _put(AIOKafkaConsumer, "commit", commits)


def _put(owner: type, name: str, wrapped: Method) -> None:
    setattr(owner, name, wrapped)


def _listen(ending: Ending) -> None:
    for line in sys.stdin:
        instance, point = json.loads(line)
        ending.arm(instance, Point(*point))
        print(ARMED, flush=True)


def main() -> None:
    ending = Ending()
    ending.wrap()
    threading.Thread(target=_listen, args=[ending], daemon=True).start()
    importlib.import_module(f"services.{sys.argv[1]}.app").main()


if __name__ == "__main__":
    main()
