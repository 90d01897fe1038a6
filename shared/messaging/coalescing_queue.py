"""Runs work for marked keys: one run at a time for each key, and another one if the key is marked meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from shared.domain.topics import Key

_log = logging.getLogger(__name__)


class CoalescingQueue:
    """`mark(key)` guarantees that `work(key)` begins after the mark; waiting marks of a key become one."""

    def __init__(self, work: Callable[[Key], Awaitable[None]]) -> None:
        self._work = work
        self._marked: set[Key] = set()
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def mark(self, key: Key) -> None:
        self._marked.add(key)
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._run(key))

    async def drain(self, seconds: float) -> None:
        """Wait until the work of all marks is done, at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=seconds)

    async def _run(self, key: Key) -> None:
        try:
            while key in self._marked:
                self._marked.discard(key)
                try:
                    await self._work(key)
                except Exception:
                    _log.exception("work failed", extra={"triton.key": str(key)})
        finally:
            # no await since the last check of the marks: a later mark starts a task of its own
            del self._tasks[key]
