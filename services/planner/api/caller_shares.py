"""Limits what each caller may have at the same time, so that one leaves room for the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from services.planner.api.problem import Kind, Problem
from shared.settings import on_this_machine

RETRY_SECONDS: Final = 5


class CallerShares:
    """At most so many of `what` for each caller: an account, else an address. Addresses of this machine are exempt."""

    def __init__(self, most: int, what: str, reason: str) -> None:
        self._most = most
        self._what = what
        self._reason = reason
        self._counts: Counter[str] = Counter()

    @contextmanager
    def one(self, caller: str) -> Generator[None]:
        """Count one until the end of the block; raises `Problem` where it is one too many."""
        if on_this_machine(caller):
            yield
            return
        if self._counts[caller] >= self._most:
            text = f"{self._most} {self._what} of {caller} are open at this planner, no more are: close some"
            raise Problem(Kind.TOO_MANY, self._reason, text, retry_after=RETRY_SECONDS)
        self._counts[caller] += 1
        try:
            yield
        finally:
            self._counts[caller] -= 1
            if not self._counts[caller]:
                del self._counts[caller]
