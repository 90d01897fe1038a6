"""Cancels tasks so that they end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

AGAIN_SECONDS: Final = 0.5


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks, and again those that continue, until all have ended.

    Once is not enough: before Python 3.12 `asyncio.wait_for`, which the Redis and Kafka clients use, drops a
    cancellation that arrives together with the result (python/cpython#86296).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
