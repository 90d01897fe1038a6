"""What the planner acts on: the DeployFlows of its partitions, in the namespaces that it manages."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.planner.runtime.flow_cache import FlowCache
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
