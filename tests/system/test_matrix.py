"""Every action × every way that its releases can go, each as a whole release; several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from tests.system.matrix import ACTIONS, CELLS, OUTCOMES, REASONS, Cell
from tests.system.whole_releases import run

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]
AT_A_TIME = 8

Runs = dict[Cell, asyncio.Task[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def runs(sandbox: Sandbox, request: pytest.FixtureRequest) -> AsyncIterator[Runs]:
    """Begin the releases of all requested cells in their order."""
    limit = asyncio.Semaphore(AT_A_TIME)

    async def one(cell: Cell) -> None:
        async with limit:
            await run(sandbox, cell)

    requested = [getattr(item, "callspec", None) for item in request.session.items]
    cells = [call.params["cell"] for call in requested if call is not None and "cell" in call.params]
    begun = {cell: asyncio.create_task(one(cell)) for cell in cells}
    yield begun
    for task in begun.values():
        task.cancel()
    await asyncio.gather(*begun.values(), return_exceptions=True)


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_a_whole_release(runs: Runs, cell: Cell) -> None:
    await runs[cell]


async def test_every_cell_is_run_or_says_why_not() -> None:
    every = {Cell(action, outcome) for action in ACTIONS for outcome in OUTCOMES}
    run_whole = {cell._replace(named=False) for cell in CELLS}
    assert run_whole | set(REASONS) == every
    assert not run_whole & set(REASONS)
    assert all(REASONS.values())
