"""When `.status` is written: at once what somebody waits for, the rest as the API server can take it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import cast

import pytest
from msgspec.structs import replace

from services.planner.model.state import Instance
from services.planner.runtime import write_backoff
from services.planner.runtime.flow_cache import FlowCache
from services.planner.runtime.status_writer import StatusWriter
from shared.domain.deploy_commands import CommandType
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import ApiError, Client
from shared.settings import Settings
from tests.simulation.world import World
from tests.unit.parts import MemoryKafka
from tests.unit.planner.releases import NEW, opening, update

WITHIN_SECONDS = 5.0
NEVER = 1e-6
"""Writes a second: nothing that can wait is ever written."""
ALWAYS = 1000.0
ETCD_TAKES = 3 << 19


class Server:
    """Takes the place of the API server: keeps DeployFlows, and every status that was written into them."""

    def __init__(self) -> None:
        self.statuses: list[Json] = []
        self.refuses: ApiError | Unavailable | None = None
        self.flows = FlowCache(cast("Client", self), MemoryKafka().kafka, Settings())
        self._version = 1
        self._keep({"metadata": {}, "status": {}})

    def writer(self, rate: float) -> StatusWriter:
        return StatusWriter(cast("Client", self), self.flows, lambda _: None, rate=rate)

    async def patch(
        self, _resource: object, _namespace: str, name: str, body: Json, *, subresource: str | None
    ) -> Json:
        if self.refuses is not None:
            refusal, self.refuses = self.refuses, None
            raise refusal
        if subresource == "status":
            self.statuses.append(body["status"])
        return self._keep(body, name)

    def add(self, name: str) -> None:
        self._keep({"metadata": {}}, name)

    def _keep(self, body: Json, name: str = NEW) -> Json:
        self._version += 1
        written = {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "generation": 1,
                **body["metadata"],
                "resourceVersion": str(self._version),
            },
            "spec": {"application": {"instanceName": "web"}},
            "status": self.statuses[-1] if self.statuses and name == NEW else body.get("status", {}),
        }
        self.flows.reflector.put(written)
        return written

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_SECONDS):
            while not met():
                await asyncio.sleep(0.005)

    @property
    def phases(self) -> list[str]:
        """What a reader of `.status` saw, one after another."""
        return [
            status["reason"]
            or (status["conditions"][-1]["phase"] if status["conditions"] else status["phase"])
            for status in self.statuses
        ]


def history(world: World) -> list[Instance]:
    """The instance at each step of the release so far."""
    return [entry.decision.instance for entry in world.history if entry.decision.instance.flows]


async def test_the_first_status_waits_for_nothing() -> None:
    server, world = Server(), update()
    writer = server.writer(NEVER)
    writer.mark(world.instance)
    await server.until(lambda: len(server.statuses) == 1)


async def test_the_end_overtakes_what_was_in_passing() -> None:
    server, world = Server(), update(batchSize=2)
    writer = server.writer(NEVER)
    steps = history(world)
    writer.mark(steps[0])
    await server.until(lambda: len(server.statuses) == 1)
    for step in steps[1:]:
        writer.mark(step)
        await asyncio.sleep(0)
    await server.until(lambda: len(server.statuses) == 2)
    assert server.statuses[-1]["phase"] == "Success"
    assert len(server.statuses[-1]["conditions"]) == 5


async def test_where_the_release_waits_for_somebody_is_written_at_once() -> None:
    server, world = Server(), update(3, mode="manual", batchSize=1)
    writer = server.writer(NEVER)
    writer.mark(world.instance)
    await server.until(lambda: len(server.statuses) == 1)
    world.steer(NEW, CommandType.NEXT)
    writer.mark(world.instance)
    await server.until(lambda: len(server.statuses) == 2)
    world.steer(NEW, CommandType.PAUSE)
    writer.mark(world.instance)
    await server.until(lambda: len(server.statuses) == 3)
    assert [status["message"] for status in server.statuses] == [
        "batch 2 of 3 can start: press next to start it",
        "batch 3 of 3 can start: press next to start it",
        "paused: resume it to continue",
    ]


async def test_what_waits_is_written_when_the_planner_stops() -> None:
    server, world = Server(), opening()
    writer = server.writer(NEVER)
    writer.mark(history(world)[0])
    await server.until(lambda: len(server.statuses) == 1)
    writer.mark(world.instance)
    await writer.stop()
    assert server.statuses[-1]["conditions"][-1]["batch"] == 1


async def test_what_is_in_passing_is_written_too() -> None:
    server, world = Server(), opening()
    writer = server.writer(ALWAYS)
    writer.mark(world.instance)
    await server.until(lambda: len(server.statuses) == 1)
    world.run_until(lambda: world.where(NEW).endswith("Baking"))
    writer.mark(world.instance)
    await server.until(lambda: server.phases[-1] == "Baking")


async def test_a_request_is_repeated_while_the_api_server_does_not_know_our_rights() -> None:
    server, world = Server(), update()
    words = (
        'deployflows.apps.triton.io "new" is forbidden: User "planner" cannot patch resource "deployflows"'
    )
    server.refuses = ApiError(403, "Forbidden", words)
    server.writer(NEVER).mark(world.instance)
    await server.until(lambda: len(server.statuses) == 1)


async def test_a_status_that_was_refused_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_backoff, "FIRST_SECONDS", 0.05)
    server, world = Server(), update()
    server.refuses = ApiError(403, "Forbidden", "denied by a policy")
    server.writer(NEVER).mark(world.instance)
    await server.until(lambda: len(server.statuses) == 1)


async def test_the_end_of_a_release_is_written_before_the_beginning_of_the_next() -> None:
    server, world = Server(), update()
    server.add("second")
    world.apply("second", {"mode": "auto", "canary": 1})
    server.refuses = Unavailable("the API server is busy")
    server.writer(NEVER).mark(world.instance)
    await server.until(lambda: len(server.statuses) == 2)
    assert [status["phase"] for status in server.statuses] == ["Success", "BatchStarted"]


async def test_the_status_of_thousands_of_pods_is_one_that_etcd_takes() -> None:
    server, world = Server(), opening(10, stage="Baking")
    (sample, *_) = (pod for pod in world.instance.pods.values() if pod.batch == 1)
    pods = {f"uid-of-a-pod-{at}": replace(sample, name=f"{'web' * 15}-{at}") for at in range(9_000)}
    writer = server.writer(ALWAYS)
    writer.mark(replace(world.instance, pods=pods))
    await server.until(lambda: len(server.statuses) == 1)
    (status,) = server.statuses
    assert status["replicas"] == 9_000
    assert len(json.dumps(status)) < ETCD_TAKES
