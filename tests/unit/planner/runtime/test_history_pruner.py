"""Finished DeployFlows beyond the history limit are deleted, by the replica that owns their instance, after their end."""

from __future__ import annotations

from typing import Any, cast

from services.planner.runtime.flow_cache import FlowCache
from services.planner.runtime.history_pruner import HistoryPruner
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import ApiError, Client
from shared.settings import Settings
from tests.unit.parts import MemoryKafka, application


class Server:
    """Takes the place of the API server, with an instance that was released so often, and of the consumer."""

    def __init__(self, releases: int) -> None:
        self.flows = FlowCache(cast("Client", self), MemoryKafka().kafka, Settings())
        self.flows.attach(cast("Any", self))
        self.deleted: list[str] = []
        self.bodies: list[Json] = []
        self.refusal: Exception | None = None
        self.owned = True
        for number in range(releases):
            self.put(number)

    def put(self, number: int, **metadata: Any) -> None:
        at = f"2026-01-01T00:00:{number:02}Z"
        known = {
            "name": f"web-{number}",
            "namespace": "default",
            "uid": f"uid-{number}",
            "resourceVersion": str(7 + len(metadata)),
            "creationTimestamp": at,
            "annotations": {df.PRUNE: "true"},
        }
        status = {"phase": "Success", "finished": True, "version": 2, "startedAt": at}
        spec = {"action": "update", "application": application(f"web:{number}")}
        self.flows.reflector.put({"metadata": known | metadata, "spec": spec, "status": status})

    def owns(self, _key: str) -> bool:
        return self.owned

    async def delete(self, _resource: object, _namespace: str, name: str, body: Json) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.deleted.append(name)
        self.bodies.append(body)

    async def check(self, limit: int = 2) -> list[str]:
        await HistoryPruner(cast("Client", self), self.flows, limit).check()
        return self.deleted


async def test_the_oldest_are_deleted_as_they_are_known() -> None:
    server = Server(5)
    assert await server.check() == ["web-0", "web-1", "web-2"]
    assert server.bodies[0] == {"preconditions": {"uid": "uid-0", "resourceVersion": "7"}}


async def test_one_whose_final_reply_is_not_sent_yet_waits() -> None:
    server = Server(5)
    server.put(1, finalizers=[df.FINALIZER])
    assert await server.check() == ["web-0", "web-2"]


async def test_one_that_is_being_deleted_is_not_deleted_again() -> None:
    server = Server(5)
    server.put(0, deletionTimestamp="2026-01-02T00:00:00Z", finalizers=["others.example/keep"])
    assert await server.check() == ["web-1", "web-2"]


async def test_the_instances_of_other_replicas_are_left_to_them() -> None:
    server = Server(5)
    server.owned = False
    assert await server.check() == []


async def test_one_that_somebody_changes_or_deletes_meanwhile_is_decided_again_at_the_next_check() -> None:
    server = Server(5)
    for refusal in (ApiError(409, "Conflict", "it has been modified"), ApiError(404, "NotFound", "gone")):
        server.refusal = refusal
        assert await server.check() == []
    server.refusal = Unavailable("the API server does not answer")
    assert await server.check() == []
    server.refusal = None
    assert await server.check() == ["web-0", "web-1", "web-2"]
