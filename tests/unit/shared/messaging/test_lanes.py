"""Lanes: order per key, keys side by side, at least once, and nothing that stops the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.record import Record
from shared.errors import Poison, Unavailable
from shared.messaging import lanes as module
from shared.messaging.lanes import ATTEMPTS, FOLD, Lanes, Offsets
from tests.unit.parts import until

P0 = ("batch-commands", 0)
Behave = Callable[[Record], Awaitable[None]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.001, 0.01))


def record(key: str, offset: int, partition: int = 0) -> Record:
    return Record(P0[0], key, str(offset).encode(), {}, partition, offset, 0)


class Work:
    """Lanes around a handler that notes what it received; `behave` may fail or wait."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.tried: list[int] = []
        self.aside: list[tuple[int, str, str]] = []
        self.behave: dict[int, Behave] = {}
        self.lanes = Lanes(self._handle, self.put_aside)

    async def _handle(self, key: str, records: list[Record]) -> None:
        for one in records:
            self.tried.append(one.offset)
            if behave := self.behave.get(one.offset):
                await behave(one)
            self.done.append((key, one.offset))

    async def put_aside(self, one: Record, reason: str, message: str) -> None:
        self.aside.append((one.offset, reason, message))

    async def put(self, *records: Record) -> None:
        for one in records:
            await self.lanes.put(one)

    async def all_done(self) -> None:
        await self.lanes.drain(10)
        assert not self.lanes._tasks

    def committed(self) -> int | None:
        return self.lanes.offsets.take_commits().get(P0)


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    work = Work()
    yield work
    await work.lanes.stop()


def failing(error: Exception, times: int = 1_000_000) -> Behave:
    left = times

    async def behave(_: Record) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error

    return behave


def waiting(gate: asyncio.Event) -> Behave:
    async def behave(_: Record) -> None:
        await gate.wait()

    return behave


# --- order ---


async def test_records_of_one_key_are_worked_on_in_order(work: Work) -> None:
    await work.put(*(record("a", n) for n in range(50)))
    await work.all_done()
    assert work.done == [("a", n) for n in range(50)]


async def test_a_slow_application_holds_up_no_other(work: Work) -> None:
    gate = asyncio.Event()
    work.behave[0] = waiting(gate)
    await work.put(record("slow", 0), record("slow", 1), record("quick", 2))
    await until(lambda: ("quick", 2) in work.done)
    assert work.tried == [0, 2]
    gate.set()
    await work.all_done()
    assert [offset for key, offset in work.done if key == "slow"] == [0, 1]


async def test_what_waits_behind_one_record_is_handed_over_together(work: Work) -> None:
    handed: list[int] = []

    async def handle(_: str, records: list[Record]) -> None:
        handed.append(len(records))

    lanes = Lanes(handle, work.put_aside)
    for n in range(FOLD + 10):
        await lanes.put(record("a", n))
    await lanes.drain(10)
    assert handed == [FOLD, 10]


# --- failures ---


async def test_a_server_that_is_away_is_waited_for_and_blocks_only_its_key(work: Work) -> None:
    work.behave[0] = failing(Unavailable("Kubernetes does not answer"), times=20)
    await work.put(record("a", 0), record("b", 1))
    await until(lambda: work.done == [("b", 1)])
    await work.all_done()
    assert work.done == [("b", 1), ("a", 0)]
    assert work.tried.count(0) == 21
    assert work.aside == []


async def test_a_record_at_fault_is_put_aside_with_its_reason_and_its_lane_goes_on(work: Work) -> None:
    work.behave[1] = failing(Poison("InvalidMessage", "sequence: must be a number"))
    await work.put(*(record("a", n) for n in range(3)))
    await work.all_done()
    assert work.aside == [(1, "InvalidMessage", "sequence: must be a number")]
    assert [offset for _, offset in work.done if offset != 0][-1] == 2
    assert work.committed() == 3


async def test_a_record_that_raises_is_tried_a_few_times_before_it_counts_as_at_fault(work: Work) -> None:
    work.behave[0] = failing(RuntimeError("what?"))
    await work.put(record("a", 0))
    await work.all_done()
    assert work.tried == [0] * ATTEMPTS
    assert work.aside == [(0, "RuntimeError", "what?")]


async def test_a_record_that_raised_for_a_moment_only_is_not_put_aside(work: Work) -> None:
    work.behave[0] = failing(RuntimeError("what?"), times=ATTEMPTS - 1)
    await work.put(record("a", 0))
    await work.all_done()
    assert (work.done, work.aside) == ([("a", 0)], [])


async def test_waiting_for_a_server_does_not_count_as_a_failed_attempt(work: Work) -> None:
    errors: list[Exception] = [RuntimeError("x"), Unavailable("away"), Unavailable("away"), RuntimeError("x")]

    async def behave(_: Record) -> None:
        if errors:
            raise errors.pop(0)

    work.behave[0] = behave
    await work.put(record("a", 0))
    await work.all_done()
    assert (work.done, work.aside) == ([("a", 0)], [])


@pytest.mark.parametrize("error", [Unavailable("Kafka is away"), RuntimeError("the header is odd")])
async def test_a_record_that_cannot_be_put_aside_yet_is_kept_until_it_can(
    work: Work, error: Exception
) -> None:
    left = 3

    async def put_aside(one: Record, reason: str, message: str) -> None:
        nonlocal left
        left -= 1
        if left > 0:
            raise error
        await work.put_aside(one, reason, message)

    work.behave[0] = failing(Poison("Bad", "bad"))
    work.lanes._put_aside = put_aside
    await work.put(record("a", 0), record("a", 1))
    await work.all_done()
    assert work.aside == [(0, "Bad", "bad")]
    assert work.committed() == 2


# --- commits ---


async def test_offsets_are_committed_only_up_to_the_first_unfinished_record(work: Work) -> None:
    gate = asyncio.Event()
    work.behave[1] = waiting(gate)
    await work.put(record("a", 0), record("b", 1), record("c", 2), record("d", 3))
    await until(lambda: len(work.done) == 3)
    await until(lambda: len(work.lanes._tasks) == 1)
    assert work.committed() == 1
    assert work.committed() is None
    gate.set()
    await work.all_done()
    assert work.committed() == 4


async def test_each_partition_is_committed_by_itself(work: Work) -> None:
    gate = asyncio.Event()
    work.behave[7] = waiting(gate)
    await work.put(record("a", 7, partition=0), record("b", 40, partition=1))
    await until(lambda: work.done == [("b", 40)] and len(work.lanes._tasks) == 1)
    assert work.lanes.offsets.take_commits() == {(P0[0], 1): 41}
    gate.set()


async def test_a_rebalance_forgets_what_was_not_committed_and_it_may_come_again(work: Work) -> None:
    gate = asyncio.Event()
    work.behave[5] = waiting(gate)
    await work.put(record("a", 5), record("b", 6))
    await until(lambda: ("b", 6) in work.done)
    assert work.lanes.offsets.busy([P0])
    work.lanes.offsets.forget([P0])
    assert not work.lanes.offsets.busy([P0])
    await work.put(record("a", 5), record("b", 6))  # returned, read again from the last commit
    await until(lambda: work.done.count(("b", 6)) == 2)
    assert work.committed() is None
    gate.set()
    await work.all_done()
    assert work.committed() == 7
    assert work.done.count(("a", 5)) == 2


async def test_a_record_that_waits_for_room_while_the_partition_moves_commits_nothing_before_it(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT", 1)
    gate = asyncio.Event()
    work.behave[8] = waiting(gate)
    await work.put(record("a", 8))
    late = asyncio.create_task(work.lanes.put(record("b", 10)))
    await until(lambda: work.lanes.offsets.under_way(P0)[0] == 2)
    work.lanes.offsets.forget([P0])
    monkeypatch.setattr(module, "IN_FLIGHT", 10)
    gate.set()
    await late
    stuck = asyncio.Event()
    work.behave[9] = waiting(stuck)
    await work.put(record("a", 8), record("c", 9), record("b", 10))
    await until(lambda: work.done.count(("b", 10)) == 2 and work.done.count(("a", 8)) == 2)
    await until(lambda: len(work.lanes._tasks) == 1)
    assert work.committed() == 9
    stuck.set()
    await work.all_done()
    assert work.committed() == 11


@given(st.lists(st.integers(0, 11), max_size=40), st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_whatever_the_order_in_which_work_ends_no_commit_passes_unfinished_work(
    ends: list[int], first: int
) -> None:
    offsets = Offsets()
    for n in range(12):
        offsets.took(P0, first + n)
    finished: set[int] = set()
    for n in ends:
        if n not in finished:
            finished.add(n)
            offsets.done(P0, first + n)
        wanted = next((n for n in range(12) if n not in finished), 12)
        for commit in offsets.take_commits().values():
            assert commit == first + wanted
    assert offsets.busy([P0]) is (len(finished) < 12)


# --- limits ---


async def test_no_more_than_so_many_records_are_under_way(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT", 3)
    gate = asyncio.Event()
    for n in range(10):
        work.behave[n] = waiting(gate)

    async def feed() -> None:
        for n in range(10):
            await work.lanes.put(record(f"key-{n}", n))

    feeding = asyncio.create_task(feed())
    await until(lambda: len(work.tried) == 3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (len(work.tried), feeding.done()) == (3, False)
    gate.set()
    await feeding
    await work.all_done()
    assert work.committed() == 10


async def test_stopping_leaves_unfinished_work_uncommitted_for_the_next_process(work: Work) -> None:
    work.behave[1] = waiting(asyncio.Event())
    await work.put(record("a", 0), record("b", 1))
    await until(lambda: work.done == [("a", 0)])
    await work.lanes.drain(0.01)
    await work.lanes.stop()
    assert work.committed() == 1


async def test_the_log_names_the_key_of_what_was_put_aside(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    work.behave[0] = failing(Poison("Bad", "no such field"))
    await work.put(record("shop/web", 0))
    await work.all_done()
    said: list[Any] = [line for line in caplog.records if "put aside" in line.message]
    assert [line.__dict__["triton.key"] for line in said] == ["shop/web"]


async def test_only_a_fault_of_the_program_is_logged_with_its_traceback(
    work: Work, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.messaging.lanes.BACKOFF_SECONDS", (0.001, 0.001))
    work.behave[0] = failing(Poison("InvalidJSON", "the value is not JSON"))
    work.behave[1] = failing(KeyError("phase"))
    await work.put(record("shop/web", 0), record("shop/api", 1))
    await work.all_done()
    said = {line.message: bool(line.exc_info) for line in caplog.records if "put aside" in line.message}
    assert said == {
        "put aside: InvalidJSON: the value is not JSON": False,
        "put aside: KeyError: 'phase'": True,
    }


async def test_what_could_not_be_read_is_put_aside_and_the_next_record_is_handled(work: Work) -> None:
    unread = record("", 1)._replace(
        value=b"", unread="it has more than 16777216 bytes unpacked", size=300_000
    )
    await work.put(record("a", 0), unread, record("a", 2))
    await work.all_done()
    assert work.done == [("a", 0), ("a", 2)]
    assert work.aside == [(1, "UnreadableBatch", unread.unread)]
    assert work.committed() == 3


async def test_no_more_than_so_many_bytes_are_under_way(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_BYTES", 100)
    free = asyncio.Event()

    async def wait(_: Record) -> None:
        await free.wait()

    work.behave = dict.fromkeys(range(5), wait)
    putting = asyncio.create_task(
        work.put(*(record(f"k{number}", number)._replace(value=b"x" * 60) for number in range(5)))
    )
    await until(lambda: len(work.tried) == 2)
    assert not putting.done()
    free.set()
    await putting
    await work.all_done()
    assert len(work.done) == 5
