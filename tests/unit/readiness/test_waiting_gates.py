"""Gates that a command names and that are not moved: what Prometheus is told of them."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from services.readiness.waiting import WaitingGates
from shared.domain import messages as m
from shared.errors import Unavailable
from shared.kube.client import Client
from tests.unit.parts import Trouble, refusal
from tests.unit.readiness.test_keeper import Readiness, bare, contained, pull, readiness

__all__ = ["readiness"]


async def refuse(request: web.Request) -> web.StreamResponse | None:
    return refusal(500, "InternalError", "not now") if request.method == "PATCH" else None


def told(readiness: Readiness) -> dict[str, list[tuple[dict[str, str], float]]]:
    collector = WaitingGates(readiness.keeper.pending, lambda: 30.0)
    return {f.name: [(s.labels, s.value) for s in f.samples] for f in collector.collect()}


async def test_gates_that_are_not_moved_are_told_until_they_are(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    uids = await bare(api, "one", "two")
    await contained(readiness, 2)
    trouble.meddle = refuse
    # in the client, a server's fault is tried again for a while
    with pytest.raises((Unavailable, TimeoutError)):
        async with asyncio.timeout(1):
            await readiness.given(pull(m.PullIn, 5, *uids))
    labels = {"namespace": "default", "application_instance": "web", "deployflow": "web-df", "gate": "open"}
    assert told(readiness) == {
        "triton_gates_pending": [(labels, 2)],
        "triton_gates_pending_seconds": [(labels, 30)],
    }
    readiness.mine = False
    assert told(readiness) == {"triton_gates_pending": [], "triton_gates_pending_seconds": []}
    readiness.mine = True
    trouble.meddle = None
    await readiness.given(pull(m.PullIn, 5, *uids))
    assert told(readiness) == {"triton_gates_pending": [], "triton_gates_pending_seconds": []}
