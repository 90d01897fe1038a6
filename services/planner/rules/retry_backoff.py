"""Decide when a command that was rejected is tried again: at once, after a second, then twice as long each time.

Most rejections are settled by the next attempt: somebody scaled, a pod went, Redis was behind. A permanent one comes
back at once, and without a wait it would go round as fast as the messages do.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from services.planner.model.state import Flow

FIRST_MS: Final = 1000
"""The wait after the second rejection in a row; after the first there is none."""
LONGEST_MS: Final = 60_000


def count_rejection(flow: Flow, now: int, words: str, *, in_a_row_ms: int = LONGEST_MS) -> Flow:
    """Return the release after one more rejected command, with the time of the next attempt.

    A rejection that comes `in_a_row_ms` or more after the last attempt is not in a row with those before it.
    """
    before = flow.rejections if now < flow.retry_at + in_a_row_ms else 0
    wait = min(FIRST_MS << min(before - 1, 10), LONGEST_MS) if before else 0
    return replace(flow, rejections=before + 1, retry_at=now + wait, rejected=words)


def note_success(flow: Flow, now: int) -> Flow:
    """Return the release after a command was carried out.

    Soon after a rejection it proves nothing: rejections and successes that take turns would never wait.
    """
    if not flow.rejections or now < flow.retry_at + FIRST_MS:
        return flow
    return replace(flow, rejections=0, retry_at=0, rejected="")


def is_waiting(flow: Flow, now: int) -> bool:
    """Return whether the next attempt has to wait."""
    return now < flow.retry_at
