"""Releases of somebody else, in a namespace of their own, which must end in time whatever is sent beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from sandbox.environment import SERVICES, Sandbox
from shared.settings import Settings
from tests.system.records import READERS
from tests.system.releases import Releases, deployflow, until

SECONDS: Final = 60.0
"""For an update of two pods, batch by batch: alone it takes two, beside other work on the machine 30."""
INSTANCES: Final = ("innocent-a", "innocent-b", "innocent-c")
"""Several, as each is on a partition of its own where the hash of its name says so."""
REPORT: Final[list[str]] = []
"""What the summary of the run prints."""
_settings = Settings()


def report(line: str) -> None:
    """Have a line printed at the end of the run."""
    REPORT.append(line)


class Innocents:
    """Counts the releases that ended in time; `finished` rises while the block runs."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self.finished = 0

    async def create(self) -> None:
        await self._releases.make_namespace()
        for instance in INSTANCES:
            body = deployflow(f"{instance}-0", instance, action="create", replicas=2)
            await self._releases.apply(body)
        for instance in INSTANCES:
            await self._releases.finished(f"{instance}-0", "Success")

    async def release(self, number: int) -> None:
        """Update each instance; fail where one does not succeed in time."""
        for instance in INSTANCES:
            body = deployflow(
                f"{instance}-{number}", instance, image=f"nginx:{number}", replicas=2, batchSize=1
            )
            await self._releases.apply(body)
        for instance in INSTANCES:
            await self._releases.finished(f"{instance}-{number}", "Success", SECONDS)
            self.finished += 1

    async def release_until(self, stop: asyncio.Event) -> None:
        """Update again and again. The last update begins after `stop` is set."""
        number = 1
        while True:
            last = stop.is_set()
            await self.release(number)
            number += 1
            if last:
                return


@asynccontextmanager
async def innocent_releases(sandbox: Sandbox, namespace: str) -> AsyncIterator[Innocents]:
    """Release in a new namespace while the block runs, and once more after it.

    Fails where such a release does not end in time, where a service ended meanwhile (it has another process), or where
    a partition stands afterwards. The failure of a release cancels the block.
    """
    pids = services(sandbox)
    async with Releases(sandbox, namespace) as releases:
        innocents = Innocents(releases)
        await innocents.create()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(innocents.release_until(stop))
            try:
                yield innocents
            finally:
                stop.set()
        await no_partition_stands(sandbox)
    assert services(sandbox) == pids, "a service has ended"
    assert innocents.finished


def services(sandbox: Sandbox) -> dict[str, int | None]:
    """Return the process of each service; another one means that it has ended."""
    return {name: sandbox.pid(name) for name in sandbox.parts if name.rstrip("-0123456789") in SERVICES}


async def no_partition_stands(sandbox: Sandbox, seconds: float = 30.0) -> None:
    """Wait until each service has committed all that its topics have, on all partitions, at one moment."""
    left: dict[tuple[str, str, int], int] = {}
    numbers = range(_settings.kafka_partitions)
    groups = {
        group: [TopicPartition(_settings.topic(name), number) for name in names for number in numbers]
        for group, names in READERS.items()
    }
    admin = AIOKafkaAdminClient(bootstrap_servers=sandbox.kafka_bootstrap)
    async with AIOKafkaConsumer(bootstrap_servers=sandbox.kafka_bootstrap) as consumer:
        await admin.start()

        async def all_committed() -> bool:
            nonlocal left
            left = {}
            ends = await consumer.end_offsets({partition for of in groups.values() for partition in of})
            for group, partitions in groups.items():
                done = await admin.list_consumer_group_offsets(_settings.group(group), partitions=partitions)
                for partition in partitions:
                    behind = ends[partition] - max(done[partition].offset, 0)
                    if behind > 0:
                        left[group, partition.topic, partition.partition] = behind
            return not left

        try:
            await until("no partition stands", all_committed, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; left to read: {left}") from None
        finally:
            await admin.close()
