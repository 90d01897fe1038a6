"""Limits the rate of each caller's requests."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from services.planner.api.problem import Kind, Problem


class RateLimiter(Protocol):
    def take(self, who: str, now: float) -> None:
        """Count a call at `now` (seconds, monotonic); raises `Problem` for a caller that calls too often."""


class Unlimited:
    def take(self, who: str, now: float) -> None:
        """Accept every request."""


_MOST_CALLERS: Final = 10_000
_BURST_SECONDS: Final = 1.0


class RateLimits:
    """A token bucket for each caller: so many requests a second, bursts of one second's worth."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        # of less than one a second, one may come at any time
        self._burst = max(_BURST_SECONDS, self._interval)
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, who: str, now: float) -> None:
        """Count a call at `now` (seconds, monotonic) by `who`: the account, else the address.

        Raises `Problem`, with the seconds after which to try again.
        """
        full_at = max(self._full_at.get(who, now), now) + self._interval
        early = full_at - now - self._burst
        if early > 1e-9:
            self._full_at.move_to_end(who)
            msg = f"more than {1 / self._interval:g} requests a second: come again in {early:.3f} s"
            raise Problem(Kind.TOO_MANY, "TooManyRequests", msg, retry_after=early)
        self._full_at[who] = full_at
        self._full_at.move_to_end(who)
        if len(self._full_at) > _MOST_CALLERS:
            # drop the caller that has been silent for longest: its bucket is full, or starts full when it calls again
            self._full_at.popitem(last=False)
