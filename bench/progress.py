"""Says on stderr how far a measurement is: one line that changes on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

ON_TERMINAL_SECONDS: Final = 0.5
ELSEWHERE_SECONDS: Final = 10.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.asynccontextmanager
async def during(what: str, state: Callable[[], str]) -> AsyncIterator[None]:
    """Tell `what` and its state while the block runs, and how long it took at its end."""
    begun = time.monotonic()
    ticker = asyncio.create_task(_tick(what, state, begun))
    try:
        yield
    finally:
        ticker.cancel()
        _put(f"{what}: {state()}, {time.monotonic() - begun:.1f} s", last=True)


async def _tick(what: str, state: Callable[[], str], begun: float) -> None:
    terminal = sys.stderr.isatty()
    while True:
        await asyncio.sleep(ON_TERMINAL_SECONDS if terminal else ELSEWHERE_SECONDS)
        _put(f"{what}: {state()}, {time.monotonic() - begun:.0f} s", last=not terminal)


def _put(text: str, *, last: bool) -> None:
    if not sys.stderr.isatty():
        say(f"  {text}")
        return
    sys.stderr.write(f"\r\033[K  {text}" + ("\n" if last else ""))
    sys.stderr.flush()
