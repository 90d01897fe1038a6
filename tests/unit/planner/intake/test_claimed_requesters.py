"""Names that nobody has checked are recorded and shown as claimed: of Kafka commands, and of calls without a login."""

from __future__ import annotations

import json

import msgspec
import pytest

from services.planner.api.access import OpenAccess
from services.planner.decision.apply_facts import make_flow
from services.planner.intake.command_consumer import CommandConsumer
from services.planner.intake.flow_mutations import FlowMutations
from services.planner.model.state import Instance
from services.planner.runtime.flow_cache import DeployFlow, FlowCache, observed
from services.planner.views.flow_events import events
from services.planner.views.status import status_of
from shared.domain import deployflow as df
from shared.domain.deploy_commands import CommandType, DeployCommand, deployflow_name, last_command_of
from shared.domain.json_types import Json
from shared.domain.record import Record
from shared.domain.topics import DEPLOY_COMMANDS
from shared.kube.client import CRDS, DEPLOYFLOWS, Client
from shared.kube.crd import crd
from tests.system.other_system import deploy, press
from tests.unit.parts import MemoryKafka

NAME = deployflow_name("web", "paas-1")


@pytest.fixture
async def kafka(api: Client) -> MemoryKafka:
    await api.create(CRDS, None, crd())
    return MemoryKafka()


def mutations(api: Client, kafka: MemoryKafka) -> FlowMutations:
    return FlowMutations(api, FlowCache(api, kafka.kafka, kafka.settings))


async def publish(api: Client, kafka: MemoryKafka, command: Json) -> None:
    value = json.dumps({"namespace": "default", **command}).encode()
    intake = CommandConsumer(mutations(api, kafka), kafka.kafka)
    await intake.handle("default/web", [Record(DEPLOY_COMMANDS, "default/web", value, {}, 0, 0, 0)])


async def written_annotations(api: Client) -> Json:
    found: Json = (await api.get(DEPLOYFLOWS, "default", NAME))["metadata"]["annotations"]
    return found


async def test_the_name_in_a_command_is_a_claim_and_each_command_has_its_own(
    api: Client, kafka: MemoryKafka
) -> None:
    await publish(api, kafka, deploy("paas-1", "web"))
    written = await written_annotations(api)
    assert (written[df.REQUESTED_BY], written[df.REQUESTED_BY_CLAIMED]) == ("paas", "true")
    pause = DeployCommand(
        id="2", type=CommandType.PAUSE, namespace="default", deploy_flow=NAME, requested_by="jane"
    )
    await mutations(api, kafka).carry_out(pause)
    written = await written_annotations(api)
    assert (written[df.REQUESTED_BY], written[df.REQUESTED_BY_CLAIMED]) == ("paas", "true")
    last = last_command_of(written)
    assert last is not None
    assert (last.command, last.requested_by, last.requested_by_claimed) == ("pause", "jane", False)
    await publish(api, kafka, press("3", "resume", "web", deployFlow=NAME, requestedBy="boss"))
    written = await written_annotations(api)
    last = last_command_of(written)
    assert last is not None
    assert (last.requested_by, last.requested_by_claimed, last.requested_via) == ("boss", True, "kafka")
    assert written[df.REQUESTED_BY] == "paas"


async def test_without_a_login_the_name_of_a_call_is_a_claim() -> None:
    assert (await OpenAccess().caller(None, "jane")).claimed


async def test_status_and_events_say_that_it_is_a_claim(api: Client, kafka: MemoryKafka) -> None:
    await publish(api, kafka, deploy("paas-1", "web"))
    live = await api.get(DEPLOYFLOWS, "default", NAME)
    flow = make_flow(observed(msgspec.convert(live, DeployFlow)), 1)
    before = Instance("default", "web")
    after = Instance("default", "web", waiting=(flow,))
    status = status_of(after, flow)
    assert (status["requestedBy"], status["requestedByClaimed"]) == ("paas", True)
    (event, *_) = events(before, after, 1)
    assert (event.requested_by, event.requested_by_claimed) == ("paas", True)
