"""How many requests a caller may make: each one for itself, in bounded memory."""

from __future__ import annotations

import tracemalloc

import pytest

from services.planner.api.problem import Kind, Problem
from services.planner.api.rate_limits import RateLimits


def refused(limits: RateLimits, who: str, now: float) -> Problem:
    with pytest.raises(Problem) as problem:
        limits.take(who, now)
    assert (problem.value.kind, problem.value.reason) == (Kind.TOO_MANY, "TooManyRequests")
    return problem.value


@pytest.mark.parametrize("rate", [1, 3, 7, 200])
def test_a_burst_of_a_second_is_let_through_and_then_the_rate(rate: float) -> None:
    limits, now = RateLimits(rate), 1000.0
    for _ in range(int(rate)):
        limits.take("jane", now)
    wait = refused(limits, "jane", now).retry_after
    assert wait is not None
    assert wait == pytest.approx(1 / rate)
    refused(limits, "jane", now + wait * 0.9)
    limits.take("jane", now + wait)
    refused(limits, "jane", now + wait)
    assert str(refused(limits, "jane", now)).startswith(f"more than {rate} requests a second")


def test_a_refused_call_does_not_prolong_the_wait() -> None:
    limits = RateLimits(1)
    limits.take("jane", 0)
    for _ in range(100):
        refused(limits, "jane", 0.5)
    limits.take("jane", 1)


def test_less_than_one_a_second() -> None:
    limits = RateLimits(0.1)
    limits.take("jane", 0)
    assert refused(limits, "jane", 4).retry_after == pytest.approx(6)
    limits.take("jane", 10)


def test_one_takes_nothing_from_another() -> None:
    limits = RateLimits(1)
    limits.take("jane", 0)
    refused(limits, "jane", 0)
    limits.take("joe", 0)


def test_a_pause_gives_no_more_than_one_burst() -> None:
    limits = RateLimits(2)
    limits.take("jane", 0)
    limits.take("jane", 3600)
    limits.take("jane", 3600)
    refused(limits, "jane", 3600)


def test_ever_new_callers_take_no_more_memory_and_make_nobody_forgotten_who_calls_all_the_time() -> None:
    limits = RateLimits(1)
    limits.take("jane", 0)

    def come(first: int) -> None:
        for number in range(first, first + 20_000):
            limits.take(f"address {number}", 0)
            if number % 1000 == 0:
                refused(limits, "jane", 0)

    tracemalloc.start()
    try:
        come(0)
        before, _ = tracemalloc.get_traced_memory()
        come(20_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 200_000
