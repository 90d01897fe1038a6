"""Marks: work that is needed is begun after the mark, one at a time for a key, and never forgotten."""

from __future__ import annotations

import asyncio

import pytest

from shared.domain.topics import Key
from shared.messaging.coalescing_queue import CoalescingQueue
from tests.unit.parts import KEY, until

OTHER = Key("default", "api")


class Work:
    def __init__(self) -> None:
        self.begun: list[Key] = []
        self.under_way = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.marks = CoalescingQueue(self._work)

    async def _work(self, key: Key) -> None:
        self.begun.append(key)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.gate.wait()
        self.under_way -= 1


async def test_marks_that_wait_become_one_and_work_begins_after_the_last_of_them() -> None:
    work = Work()
    work.marks.mark(KEY)
    await until(lambda: work.begun == [KEY])
    for _ in range(5):
        work.marks.mark(KEY)
    assert work.begun == [KEY]
    work.gate.set()
    await work.marks.drain(5)
    assert work.begun == [KEY, KEY]
    assert work.most == 1


async def test_keys_are_worked_on_side_by_side() -> None:
    work = Work()
    work.marks.mark(KEY)
    work.marks.mark(OTHER)
    await until(lambda: work.most == 2)
    work.gate.set()
    await work.marks.drain(5)


async def test_work_that_failed_is_begun_again_by_the_next_mark(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def work(_: Key) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError

    marks = CoalescingQueue(work)
    marks.mark(KEY)
    await marks.drain(5)
    marks.mark(KEY)
    await marks.drain(5)
    assert tries == 2
    assert [line.__dict__["triton.key"] for line in caplog.records] == ["default/web"]


async def test_a_mark_while_the_work_fails_is_not_lost() -> None:
    tries = 0
    gate = asyncio.Event()

    async def work(_: Key) -> None:
        nonlocal tries
        tries += 1
        await gate.wait()
        if tries == 1:
            raise RuntimeError

    marks = CoalescingQueue(work)
    marks.mark(KEY)
    await until(lambda: tries == 1)
    marks.mark(KEY)
    gate.set()
    await until(lambda: tries == 2, seconds=2)


async def test_draining_waits_no_longer_than_its_limit_and_not_at_all_for_nothing() -> None:
    work = Work()
    await work.marks.drain(60)
    work.marks.mark(KEY)
    await work.marks.drain(0.01)
    assert work.under_way == 1
    work.gate.set()
    await work.marks.drain(5)
    assert work.under_way == 0
