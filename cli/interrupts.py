"""Running a command's coroutine so that Ctrl-C and SIGTERM end it cleanly, with its clean-up done."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """Somebody asked the command to stop; what it had started is stopped."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; raises `Interrupted` when a signal ended it."""
    return asyncio.run(_guarded(work))


async def _guarded(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise Interrupted from None
