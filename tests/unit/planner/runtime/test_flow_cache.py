"""What the planner acts on: the DeployFlows of its partitions, in the namespaces that it manages."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from services.planner.decision.apply_facts import make_flow
from services.planner.runtime.flow_cache import LARGEST_SPEC, DeployFlow, FlowCache, observed, replace_refused
from shared.domain.messages import Due
from shared.errors import Fault
from shared.kube.client import Client
from shared.settings import Settings
from tests.system.releases import deployflow
from tests.unit.parts import BackgroundPublisher, MemoryKafka


class EveryPartition:
    """Takes the place of the consumer."""

    def owns(self, _: str) -> bool:
        return True


@pytest.mark.parametrize(("namespace", "acts"), [("pay", True), ("shop", False)])
def test_a_deployflow_is_acted_on_only_in_a_namespace_that_this_triton_manages(
    namespace: str, acts: bool
) -> None:
    flows = FlowCache(cast("Client", None), MemoryKafka().kafka, Settings(namespaces=["pay"]))
    published = BackgroundPublisher()
    flows.outgoing = cast("Any", published)
    flows.attach(cast("Any", EveryPartition()))
    body = deployflow("web-1", "web", action="create")
    meta = {"namespace": namespace, "uid": "1", "resourceVersion": "1", "generation": 1}
    meta |= {"creationTimestamp": "2026-01-01T00:00:00Z"}
    # as the answer to a write of our own
    flows.reflector.put({**body, "metadata": {**body["metadata"], **meta}})
    assert [message.flow.name for message in published.messages] == (["web-1"] if acts else [])
    assert bool(flows.unfinished()) is acts


def flow(text: str = "", **status: Any) -> DeployFlow:
    body = deployflow("web-1", "web", action="create")
    body["spec"]["application"]["template"]["metadata"] = {"annotations": {"text": text}}
    meta = {"namespace": "shop", "uid": "1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return msgspec.convert({**body, "metadata": {**body["metadata"], **meta}, "status": status}, DeployFlow)


def test_a_deployflow_that_is_too_large_fails_with_its_size_and_the_limit() -> None:
    message = observed(flow("x" * 1_200_000))
    assert len(message.model_dump_json()) < 2_000
    failed = make_flow(message, 0)
    assert (failed.outcome, failed.reason) == ("Failed", "InvalidSpec")
    assert "has 1200" in failed.message
    assert str(LARGEST_SPEC) in failed.message


def test_one_that_has_begun_is_passed_on_whatever_its_size() -> None:
    message = observed(flow("x" * 1_200_000, startedAt="2026-01-01T00:00:00Z"))
    assert message.spec
    assert not message.fault


def test_one_that_kafka_refuses_fails_with_what_kafka_says() -> None:
    message = observed(flow("x" * 800_000, version=3, batches=[{"batch": 1}]))
    fault = Fault("TooLarge", "its message has 800900 bytes; the topic triton.planner-facts takes 1048588")
    (instead,) = replace_refused(message, fault)
    failed = make_flow(cast("Any", instead), 0)
    assert (failed.outcome, failed.reason) == ("Failed", "InvalidSpec")
    assert fault.message in failed.message
    assert cast("Any", instead).status == {"version": 3}
    assert replace_refused(instead, fault) == [], "tried once"
    assert replace_refused(Due(namespace="shop", instance="web"), fault) == []
