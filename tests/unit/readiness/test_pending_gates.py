"""Gates that a command names and that are not moved: what Prometheus reads of them."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from services.readiness.pending_gates import PendingGates
from shared.domain import messages as m
from shared.errors import Unavailable
from shared.kube.client import Client
from tests.unit.parts import Trouble, refusal
from tests.unit.readiness.test_gate_keeper import Readiness, bare, contained, pull, readiness

__all__ = ["readiness"]


async def refuse(request: web.Request) -> web.StreamResponse | None:
    return refusal(500, "InternalError", "not now") if request.method == "PATCH" else None


def samples(readiness: Readiness) -> dict[str, list[tuple[dict[str, str], float]]]:
    collector = PendingGates(readiness.keeper.pending, lambda: 30.0)
    return {f.name: [(s.labels, s.value) for s in f.samples] for f in collector.collect()}


async def test_gates_that_are_not_moved_are_reported_until_they_are(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    uids = await bare(api, "one", "two")
    await contained(readiness, 2)
    trouble.meddle = refuse
    # in the client, a server's fault is tried again for a while
    with pytest.raises((Unavailable, TimeoutError)):
        async with asyncio.timeout(1):
            await readiness.handle(pull(m.PullIn, 5, *uids))
    labels = {"namespace": "default", "application_instance": "web", "deployflow": "web-df", "gate": "open"}
    assert samples(readiness) == {
        "triton_gates_pending": [(labels, 2)],
        "triton_gates_pending_seconds": [(labels, 30)],
    }
    readiness.is_owner = False
    assert samples(readiness) == {"triton_gates_pending": [], "triton_gates_pending_seconds": []}
    readiness.is_owner = True
    trouble.meddle = None
    await readiness.handle(pull(m.PullIn, 5, *uids))
    assert samples(readiness) == {"triton_gates_pending": [], "triton_gates_pending_seconds": []}
