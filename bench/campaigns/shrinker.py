"""Makes a story shorter for as long as it still violates the same check. The playing is the caller's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Final

from bench.campaigns.story import AT_ONCE, GOOD, Release, Story

Violates = Callable[[Story], Awaitable[bool]]
MOST_PLAYS: Final = 60


async def shrink(story: Story, violates: Violates, *, most: int = MOST_PLAYS) -> Story:
    """Return the shortest story found in at most so many plays; the story itself where none shorter violates."""
    left = most
    while True:
        for shorter in candidates(story):
            if not left:
                return story
            left -= 1
            if await violates(shorter):
                story = shorter
                break
        else:
            return story


def candidates(story: Story) -> Iterator[Story]:
    """Yield shorter stories, those first that leave out most."""
    releases = story.releases
    for keep in range(1, len(releases)):
        # what comes last violates: the beginning may be needed, the middle less often
        yield replace(story, releases=releases[:keep])
    for at in range(len(releases)):
        if len(releases) > 1:
            yield replace(story, releases=releases[:at] + releases[at + 1 :])
    for at, release in enumerate(releases):
        for simpler in _simpler(release):
            yield replace(story, releases=(*releases[:at], simpler, *releases[at + 1 :]))
    for replicas in sorted({1, 2, story.replicas // 2} - {0}):
        if replicas < story.replicas:
            yield replace(story, replicas=replicas)


def _simpler(release: Release) -> Iterator[Release]:
    around = release.disturbances
    for at in range(len(around)):
        yield replace(release, disturbances=around[:at] + around[at + 1 :])
    if release.image != GOOD:
        yield replace(release, image=GOOD)
    if release.change and release.updating:
        yield replace(release, change=0)
    for name in release.strategy:
        if name != "mode":
            left = {field: value for field, value in release.strategy.items() if field != name}
            yield replace(release, strategy=left)
    if release.strategy.get("mode") == "manual":
        yield replace(release, strategy={**release.strategy, "mode": "auto"})
    for at, disturbance in enumerate(around):
        if disturbance.delay:
            simple = replace(disturbance, delay=0.0)
            yield replace(release, disturbances=(*around[:at], simple, *around[at + 1 :]))
        if disturbance.phase != AT_ONCE and not disturbance.delay:
            simple = replace(disturbance, phase=AT_ONCE)
            yield replace(release, disturbances=(*around[:at], simple, *around[at + 1 :]))
