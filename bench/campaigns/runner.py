"""Plays many stories at once, until there are enough releases, or the time is up."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bench.campaigns.generator import story
from bench.campaigns.place import Place
from bench.campaigns.player import Played, play
from bench.campaigns.results import Results, explained
from bench.campaigns.shrinker import shrink
from bench.campaigns.story import Story, written
from bench.progress import during

MOST_VIOLATIONS: Final = 10
"""After as many there is more to read than to play."""
SHRINK_TRIES: Final = 2
"""A story that violates by chance of timing is played so often before it counts as one that does not."""


@dataclass(frozen=True)
class Plan:
    """`releases` and `seconds`: what ends the campaign, whichever comes first; None: not that. `folder`: for the stories
    of violations.
    """

    seed: int
    instances: int
    releases: int | None
    seconds: float | None
    kinds: Sequence[str]
    folder: Path
    shrinks: bool


def stories(plan: Plan) -> Iterator[Story]:
    return (story(plan.seed, number, plan.kinds) for number in itertools.count(1))


async def run(
    place: Place, plan: Plan, played_stories: Iterable[Story], say: Callable[[str], None]
) -> Results:
    """Play the stories, as many at once as the plan says."""
    results = Results("real" if place.real else "sandbox", plan.seed)
    queue = iter(played_stories)
    begun = time.monotonic()
    begun_releases = 0

    def may_begin() -> bool:
        enough = plan.releases is not None and begun_releases >= plan.releases
        late = plan.seconds is not None and time.monotonic() - begun >= plan.seconds
        return not enough and not late and len(results.violated) < MOST_VIOLATIONS

    async def worker() -> None:
        nonlocal begun_releases
        while may_begin() and (next_story := next(queue, None)) is not None:
            begun_releases += len(next_story.releases)
            played = await play(place, next_story)
            results.add(played)
            if played.violations:
                place.sandbox.keep_state = True
                file = _store(plan, played.story)
                Path(file).with_suffix(".state.json").write_text(played.state)
                say(explained(played, results.where, file))

    def state() -> str:
        wanted = f" of {plan.releases}" if plan.releases else ""
        return f"{results.releases}{wanted}, {len(results.violated)} violations"

    async with during("releases", state):
        await _unless_lost(place, [worker() for _ in range(plan.instances)])
    results.seconds = time.monotonic() - begun
    if results.violated:
        say(f"the logs of the services are in {place.sandbox.state / 'logs'}")
    if plan.shrinks and results.violated:
        await _shrink(place, plan, results.violated[0], say)
    return results


async def _unless_lost(place: Place, work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all of it; raise `SandboxError` when a part has died that nobody starts again."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        lost = group.create_task(place.sandbox.lost())
        await asyncio.gather(*tasks)
        lost.cancel()


async def _shrink(place: Place, plan: Plan, played: Played, say: Callable[[str], None]) -> None:
    checks = {violation.check for violation in played.violations}
    last = played

    async def violates(shorter: Story) -> bool:
        nonlocal last
        for _ in range(SHRINK_TRIES):
            found = await play(place, shorter)
            if checks & {violation.check for violation in found.violations}:
                last = found
                say(f"shorter: {len(shorter.releases)} releases, size {shorter.size}")
                return True
        return False

    say(f"making story {played.story.number} shorter: {', '.join(sorted(checks))}")
    shortest = await shrink(played.story, violates)
    if shortest is played.story:
        say("no shorter story violates it, played alone")
        return
    say(explained(replace(last, story=shortest), "real" if place.real else "sandbox", _store(plan, shortest)))


def _store(plan: Plan, story: Story) -> str:
    """Write the story into a file; a shorter one has the same name with its size."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    path = plan.folder / f"story-{story.seed}-{story.number}-{story.size}.json"
    path.write_text(written([story]))
    return str(path)
