"""A task ends though what it waits for drops a cancellation, as `wait_for` does before Python 3.12."""

from __future__ import annotations

import asyncio
import contextlib

from shared.cancellation import cancel_all

WITHIN_SECONDS = 20


async def _drops_the_first_cancellation(dropped: list[str]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    dropped.append("cancellation")
    await asyncio.Event().wait()


async def test_tasks_end_though_one_of_them_drops_a_cancellation() -> None:
    dropped: list[str] = []
    tasks = [
        asyncio.create_task(_drops_the_first_cancellation(dropped)),
        asyncio.create_task(asyncio.Event().wait()),
    ]
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel_all(tasks), WITHIN_SECONDS)
    assert dropped == ["cancellation"]
    assert all(task.cancelled() for task in tasks)


async def test_it_waits_for_tasks_that_finish_what_they_do() -> None:
    done: list[str] = []

    async def finish() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            done.append("finished")

    task = asyncio.create_task(finish())
    await asyncio.sleep(0)
    await cancel_all([task])
    assert done == ["finished"]


async def test_no_tasks_are_no_wait() -> None:
    await cancel_all([])
