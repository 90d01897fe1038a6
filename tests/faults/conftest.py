"""One sandbox of real parts for all cases: each takes something away, and gives it back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest_asyncio

from sandbox.environment import Sandbox
from sandbox.real.stack import RealStack
from tests.system.conftest import SETTINGS, pytest_runtest_makereport
from tests.system.releases import Releases

__all__ = ["pytest_runtest_makereport", "releases", "sandbox"]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(settings=SETTINGS, stack=RealStack(print)) as running:
        yield running
        # none has died of another's absence
        with suppress(TimeoutError):
            await asyncio.wait_for(running.lost(), 0.1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox) as client:
        yield client
