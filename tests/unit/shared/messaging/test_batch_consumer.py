"""Batches: complete by count, size or age, at least once, and never more under way than a few."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.domain.record import Record
from shared.errors import Unavailable
from shared.messaging import lanes
from shared.messaging.batch_consumer import AT_ONCE, BatchConsumer, Limits
from shared.messaging.lanes import ATTEMPTS
from tests.unit.parts import until

P0, P1 = ("phase-events", 0), ("phase-events", 1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "BACKOFF_SECONDS", (0.001, 0.01))


def record(offset: int, partition: int = 0, size: int = 1) -> Record:
    return Record(P0[0], f"shop/{offset}", b"x" * size, {}, partition, offset, 0)


class Work:
    """Batches around a write that notes what it received, and ends when it may."""

    def __init__(self, limits: Limits) -> None:
        self.begun: list[list[int]] = []
        self.done: list[int] = []
        self.aside: list[tuple[int, str]] = []
        self.faulty: set[int] = set()
        self.away = False
        self.may = asyncio.Event()
        self.may.set()
        self.batches = BatchConsumer(self._write, self._put_aside, limits)

    async def _write(self, records: list[Record]) -> None:
        self.begun.append([one.offset for one in records])
        await self.may.wait()
        if self.away:
            raise Unavailable("the store is away")
        if self.faulty & set(self.begun[-1]):
            raise ValueError("a fault of ours")
        self.done += [one.offset for one in records]

    async def _put_aside(self, one: Record, reason: str, _: str) -> None:
        self.aside.append((one.offset, reason))

    def commits(self) -> dict[tuple[str, int], int]:
        return self.batches.offsets.take_commits()


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    work = Work(Limits(records=3, bytes=1_000, seconds=0.01))
    yield work
    await work.batches.stop()


async def test_batches_are_complete_by_count_and_the_rest_by_age(work: Work) -> None:
    await work.batches.put([record(n) for n in range(7)])
    await until(lambda: len(work.done) == 7)
    assert work.begun == [[0, 1, 2], [3, 4, 5], [6]]
    assert work.commits() == {P0: 7}


async def test_a_batch_is_complete_by_its_size(work: Work) -> None:
    await work.batches.put([record(0, size=400), record(1, size=700), record(2)])
    await until(lambda: len(work.done) == 3)
    assert work.begun == [[0, 1], [2]]


async def test_records_that_come_one_by_one_are_gathered(work: Work) -> None:
    for n in range(2):
        await work.batches.put([record(n)])
    await until(lambda: len(work.done) == 2)
    assert work.begun == [[0, 1]]


async def test_no_more_is_taken_while_so_many_batches_are_under_way(work: Work) -> None:
    work.may.clear()
    taking = asyncio.create_task(work.batches.put([record(n) for n in range(3 * (AT_ONCE + 2))]))
    await until(lambda: len(work.begun) == AT_ONCE)
    done, _ = await asyncio.wait({taking}, timeout=0.05)
    assert not done
    assert len(work.begun) == AT_ONCE
    work.may.set()
    await taking
    await until(lambda: len(work.done) == 3 * (AT_ONCE + 2))


async def test_nothing_is_committed_before_it_is_written_nor_past_what_is_not(work: Work) -> None:
    work.away = True
    await work.batches.put([record(n) for n in range(3)])
    await until(lambda: len(work.begun) > 3)
    assert work.commits() == {}
    work.away = False
    await until(lambda: len(work.done) == 3)
    assert work.commits() == {P0: 3}


async def test_a_record_at_fault_is_put_aside_and_the_others_are_written(work: Work) -> None:
    work.faulty = {1}
    await work.batches.put([record(n) for n in range(3)])
    await until(lambda: work.aside == [(1, "ValueError")])
    await work.batches.drain(5)
    assert sorted(work.done) == [0, 2]
    assert work.begun.count([1]) == ATTEMPTS
    assert work.commits() == {P0: 3}


async def test_what_was_revoked_is_not_committed_when_it_ends_later(work: Work) -> None:
    work.may.clear()
    await work.batches.put([record(5), record(7, partition=1)])
    await until(lambda: bool(work.begun))
    work.batches.offsets.forget([P0])
    work.may.set()
    await work.batches.drain(5)
    assert work.commits() == {P1: 8}


async def test_draining_writes_what_was_gathered_at_once() -> None:
    work = Work(Limits(records=100, seconds=60))
    await work.batches.put([record(0)])
    await work.batches.drain(5)
    assert work.done == [0]
    await work.batches.stop()


async def test_draining_ends_though_the_store_is_away(work: Work) -> None:
    work.away = True
    await work.batches.put([record(n) for n in range(7)])
    await asyncio.wait_for(work.batches.drain(0.05), 5)
    assert work.commits() == {}
