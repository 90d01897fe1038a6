"""A story is made shorter for as long as it violates."""

from __future__ import annotations

from bench.campaigns.generator import story
from bench.campaigns.kinds import choose
from bench.campaigns.shrinker import candidates, shrink
from bench.campaigns.story import Story

ALL = choose(None, [], real=False)
MANY = [story(5, number, ALL) for number in range(1, 60)]


def _with(kind: str) -> Story:
    return max((one for one in MANY if kind in one.kinds), key=lambda one: one.size)


async def test_what_is_left_is_what_the_violation_needs() -> None:
    async def violates(one: Story) -> bool:
        return "scale" in one.kinds

    shortest = await shrink(_with("scale"), violates, most=500)
    (release,) = shortest.releases
    (disturbance,) = release.disturbances
    assert (disturbance.kind, disturbance.delay, shortest.replicas) == ("scale", 0.0, 1)
    assert set(release.strategy) <= {"mode"}


async def test_a_story_that_violates_only_as_it_is_stays() -> None:
    whole = _with("cancel")

    async def violates(one: Story) -> bool:
        return one == whole

    assert await shrink(whole, violates, most=500) is whole


async def test_it_plays_no_more_often_than_it_may() -> None:
    plays = 0

    async def violates(_: Story) -> bool:
        nonlocal plays
        plays += 1
        return False

    await shrink(MANY[0], violates, most=3)
    assert plays == 3


def test_every_candidate_is_shorter_or_simpler() -> None:
    for one in MANY:
        for shorter in candidates(one):
            assert (shorter.size, shorter.replicas, str(shorter)) != (one.size, one.replicas, str(one))
            assert shorter.size <= one.size
