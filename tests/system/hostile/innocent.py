"""Releases of somebody else, in a namespace of their own, which must end in time whatever is sent beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
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
    """Instances in a namespace of their own, and how many releases of them ended in time (`finished`)."""

    def __init__(self, sandbox: Sandbox, releases: Releases, instances: Sequence[str] = INSTANCES) -> None:
        self._sandbox = sandbox
        self._releases = releases
        self._instances = instances
        self._number = 0
        self.finished = 0

    async def create(self) -> None:
        await self._releases.make_namespace()
        for instance in self._instances:
            body = deployflow(f"{instance}-0", instance, action="create", replicas=2)
            await self._releases.apply(body)
        for instance in self._instances:
            await self._releases.finished(f"{instance}-0", "Success")

    @asynccontextmanager
    async def releasing(self) -> AsyncIterator[None]:
        """Release while the block runs, and once more after it. The failure of a release cancels the block.

        Fails where such a release does not end in time, or where a service ended meanwhile (it has another process).
        """
        pids = services(self._sandbox)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._release_until(stop))
            try:
                yield
            finally:
                stop.set()
        assert services(self._sandbox) == pids, "a service has ended"

    async def _release(self) -> None:
        """Update each instance; fail where one does not succeed in time."""
        self._number += 1
        for instance in self._instances:
            body = deployflow(
                f"{instance}-{self._number}",
                instance,
                image=f"nginx:{self._number}",
                replicas=2,
                batchSize=1,
            )
            await self._releases.apply(body)
        for instance in self._instances:
            await self._releases.finished(f"{instance}-{self._number}", "Success", SECONDS)
            self.finished += 1

    async def _release_until(self, stop: asyncio.Event) -> None:
        """Update again and again. The last update begins after `stop` is set."""
        last = False
        while not last:
            last = stop.is_set()
            await self._release()


@asynccontextmanager
async def innocent_releases(
    sandbox: Sandbox, namespace: str, instances: Sequence[str] = INSTANCES
) -> AsyncIterator[Innocents]:
    """Release in a new namespace as `Innocents.releasing` does; fail where a partition stands afterwards too."""
    pids = services(sandbox)
    async with Releases(sandbox, namespace) as releases:
        innocents = Innocents(sandbox, releases, instances)
        await innocents.create()
        async with innocents.releasing():
            yield innocents
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
