"""What a waiting update inherits is written into its spec once, whatever goes wrong around that write."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from services.planner.decision.apply_facts import CannotInherit
from services.planner.model.state import Flow, Instance, Strategy
from services.planner.runtime.flow_cache import DeployFlow, FlowCache
from services.planner.runtime.inheritance import Inheritance
from shared.domain.deployflow import FlowPhase
from shared.domain.json_types import Json
from shared.domain.messages import SpecGone, SpecObserved
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, ApiError, Client
from tests.system.releases import deployflow


def stored(name: str, image: str, at: int, **status: Any) -> Json:
    body = deployflow(name, "web", image=image)
    meta = {"namespace": "default", "uid": name, "generation": 1, "resourceVersion": str(at)}
    times = {"creationTimestamp": f"2026-01-01T00:00:0{at}Z"}
    return {**body, "metadata": {**body["metadata"], **meta, **times}, "status": status}


class Cluster:
    """An API server and the planner's cache of it. `answers`: the codes of the next patches; none: accepted."""

    def __init__(self, *flows: Json) -> None:
        self.flows = {flow["metadata"]["name"]: flow for flow in flows}
        self.answers: list[int] = []
        self.patches = 0
        self.reflector = self

    async def get(self, kind: object, namespace: str, name: str) -> Json:
        if kind is CLONESETS or name not in self.flows:
            raise ApiError(404, "NotFound", "not found")
        return self.flows[name]

    async def patch(self, kind: object, namespace: str, name: str, body: list[Json], **_: object) -> Json:
        self.patches += 1
        if self.answers:
            raise ApiError(self.answers.pop(0), "Refused", "no updates today")
        version, spec = (operation["value"] for operation in body)
        assert version == self.flows[name]["metadata"]["resourceVersion"]
        meta = {**self.flows[name]["metadata"], "generation": 2, "resourceVersion": "99"}
        self.flows[name] = {**self.flows[name], "metadata": meta, "spec": spec}
        return self.flows[name]

    def put(self, flow: Json) -> None:
        assert self.flows[flow["metadata"]["name"]] is flow

    def releases(self, key: object) -> list[DeployFlow]:
        return [msgspec.convert(flow, DeployFlow) for flow in self.flows.values()]


def waiting() -> Json:
    flow = stored("waits", "web:9", 3)
    flow["spec"]["inherits"] = {"images": {"main": "web:9"}}
    return flow


def state(*finished: Flow) -> Instance:
    return Instance("default", "web", waiting=(known("waits"),), finished=finished)


def known(name: str, phase: FlowPhase = FlowPhase.PENDING) -> Flow:
    return Flow(name, name, "update", 7, 8, "shop", 6, Strategy(), phase=phase)


def inheritance(cluster: Cluster) -> Inheritance:
    parts: Any = cluster
    return Inheritance(cast("Client", parts), cast("FlowCache", parts))


async def fill_in(cluster: Cluster, instance: Instance) -> Any:
    return await inheritance(cluster).fill_in(instance, instance.waiting[0])


def environment(fact: SpecObserved) -> Any:
    return fact.spec["application"]["template"]["spec"]["containers"][0].get("env")


def cluster_with_running(phase: str) -> Cluster:
    running = stored("runs", "web:2", 2, phase=phase, startedAt="2026-01-01T00:00:02Z")
    running["spec"]["application"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    return Cluster(stored("first", "web:1", 1, phase="Success", finished=True), running, waiting())


async def test_an_end_that_is_not_in_status_yet_counts() -> None:
    cluster = cluster_with_running("BatchFinished")
    fact = await fill_in(cluster, state(known("runs", FlowPhase.SUCCESS)))
    assert environment(fact) == [{"name": "A", "value": "1"}]
    assert (fact.generation, "inherits" in fact.spec) == (2, False)


async def test_what_was_written_stays_although_its_answer_was_lost() -> None:
    cluster = cluster_with_running("BatchFinished")
    first = await fill_in(cluster, state(known("runs", FlowPhase.CANCELED)))
    again = await fill_in(cluster, state(known("runs", FlowPhase.SUCCESS)))
    assert first == again
    assert environment(again) is None
    assert cluster.patches == 1


async def test_a_conflict_is_tried_again_with_what_is_there_then() -> None:
    cluster = cluster_with_running("Success")
    cluster.answers = [409, 409]
    assert isinstance(await fill_in(cluster, state()), SpecObserved)
    cluster = cluster_with_running("Success")
    cluster.answers = [409] * 20
    with pytest.raises(Unavailable, match="keeps changing"):
        await fill_in(cluster, state())


async def test_a_refusal_ends_the_release_with_its_words() -> None:
    cluster = cluster_with_running("Success")
    cluster.answers = [422]
    fact = await fill_in(cluster, state())
    assert isinstance(fact, CannotInherit)
    assert fact.message == "what it inherits was refused: no updates today"


async def test_one_that_is_deleted_meanwhile_is_gone() -> None:
    cluster = cluster_with_running("Success")
    del cluster.flows["waits"]
    assert isinstance(await fill_in(cluster, state()), SpecGone)
