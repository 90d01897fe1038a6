"""An update that something happens to, and all that shows that it went as if nothing had."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from sandbox.environment import Sandbox
from tests.faults.published_events import each_event_once
from tests.system.history import recorded
from tests.system.releases import Releases
from tests.system.undisturbed import begin, whole

PHASES: Final = ("Smoking", "Baking", "Baked")
WAITS: Final[dict[str, dict[str, int]]] = {
    "Smoking": {},
    "Baking": {"bakeSeconds": 1},
    "Baked": {"pullOutSeconds": 1},
}
"""With them each lasts long enough to be met."""
END_SECONDS: Final = 90.0


@asynccontextmanager
async def disturbed(
    sandbox: Sandbox,
    releases: Releases,
    instance: str,
    phase: str = "Smoking",
    *,
    endpoints: bool = True,
    **strategy: int,
) -> AsyncIterator[str]:
    """An update whose second batch is in that phase; after the block it must end as an undisturbed one does.

    `endpoints`: see `History.check`.
    """
    name = await begin(releases, instance, **(WAITS[phase] | strategy))
    async with recorded(releases, instance) as history:
        # or as soon after it as a poll is fast
        await releases.batch_is(name, 2, *PHASES[PHASES.index(phase) :], "Smoked")
        yield name
        await releases.finished(name, "Success", END_SECONDS)
    await whole(releases, instance, history, endpoints=endpoints)
    if "pullOutSeconds" in WAITS[phase]:
        history.pulled_out_first()
    await each_event_once(sandbox, history)


def saying(sandbox: Sandbox, service: str) -> Callable[..., int]:
    """Counts the lines with all of these texts that the service has logged from now on."""
    log = sandbox.log(service)
    begun = log.stat().st_size

    def says(*texts: str) -> int:
        with log.open() as lines:
            lines.seek(begun)
            return sum(all(text in line for text in texts) for line in lines)

    return says


async def missing(sandbox: Sandbox, service: str) -> dict[str, str]:
    """What the service says that it waits for."""
    url = sandbox.health_urls[service] + "/readyz"
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            found: dict[str, str] = (await answer.json())["missing"]
            assert answer.status == (503 if found else 200)
            return found
    except aiohttp.ClientConnectionError:
        return {"start": "it does not listen yet"}
