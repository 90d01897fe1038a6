"""When a server that is not ours can be used."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import aiohttp

from sandbox.process import POLL_SECONDS, Part, Probe


def answers(url: str, headers: Mapping[str, str] | None = None) -> Probe:
    """Return a probe that passes when that address answers 200; its self-signed certificate is not checked."""

    async def probe(_: Part) -> None:
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(url, ssl=False) as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(POLL_SECONDS)

    return probe
