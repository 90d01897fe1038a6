"""A replica of a service, as Kafka sees it: a member of a consumer group, by the services' own means.

As a program (`python -m tests.contract.kafka_member SETTINGS`) it prints each record and never has done with one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from shared.domain.record import Record
from shared.domain.topics import BATCH_RESULTS, PLANNER_FACTS
from shared.messaging.kafka import Kafka
from shared.settings import Settings

GROUP = "planner"
NAMES = (PLANNER_FACTS, BATCH_RESULTS)


class Member:
    """What it got, in the order in which it got it, and what it owns."""

    def __init__(self, settings: Settings, group: str = GROUP) -> None:
        self.kafka = Kafka(settings, "planner")
        self.consumer = self.kafka.consume_by_key(NAMES, group=group, handle=self._take)
        self.got: list[Record] = []

    @property
    def values(self) -> list[str]:
        return [record.value.decode() for record in self.got]

    @property
    def owned(self) -> frozenset[int]:
        return self.consumer.owned

    async def _take(self, key: str, records: list[Record]) -> None:
        assert all(record.key == key for record in records)
        self.got += records


class Busy(Member):
    """Never has done with what it got, and says on standard output what that is."""

    async def _take(self, key: str, records: list[Record]) -> None:
        for record in records:
            print(record.value.decode(), flush=True)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def joined(settings: Settings, group: str = GROUP) -> AsyncIterator[Member]:
    """A member that leaves its group in good order at the end."""
    member = Member(settings, group)
    await member.kafka.start()
    try:
        yield member
    finally:
        await member.kafka.stop()


async def _serve(settings: Settings) -> None:
    busy = Busy(settings)
    await busy.kafka.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Settings.model_validate_json(sys.argv[1])))
