"""A template that is nested too deeply is refused at every door, with the field and the bound."""

from __future__ import annotations

import copy
import json
from typing import cast

import pytest

from services.planner.intake.command_consumer import CommandConsumer
from services.planner.intake.flow_mutations import FlowMutations
from shared.domain.json_types import Json
from shared.domain.object_bounds import DEEPEST, TOO_DEEP
from shared.domain.record import Record
from shared.domain.topics import DEPLOY_COMMANDS
from shared.errors import Poison
from tests.system.hostile.objects import nested
from tests.system.other_system import deploy
from tests.unit.parts import MemoryKafka
from tests.unit.planner.api.rest_surroundings import client_of
from tests.unit.planner.api.surroundings import TEMPLATE, World

DEPTHS = [97, 230, 260, 300]


def application(depth: int) -> Json:
    identity = {"appID": 12122, "groupID": 10010, "appName": "hello", "instanceName": "deep"}
    return {**identity, "replicas": 1, "template": {**copy.deepcopy(TEMPLATE), "deep": nested(depth)}}


@pytest.mark.parametrize("depth", DEPTHS)
async def test_rest_refuses_what_is_too_deep(depth: int) -> None:
    async with client_of(World(), "/api") as rest:
        old = await rest.post("/v1/namespaces/shop/deployflows", json={"applicationSpec": application(depth)})
        spec = {"action": "create", "application": application(depth)}
        new = await rest.post("/v2/namespaces/shop/deployflows", json={"spec": spec})
    for answer in (old, new):
        assert answer.status_code == 400, answer.text
        assert TOO_DEEP in answer.text
        assert "the body can't be read" in answer.text or "application.template" in answer.text.lower()


async def test_a_body_that_ends_parsers_is_refused() -> None:
    body = b"[" * 1_200 + b"]" * 1_200
    async with client_of(World(), "/api") as rest:
        headers = {"Content-Type": "application/json"}
        answer = await rest.post("/v2/namespaces/shop/deployflows", content=body, headers=headers)
    assert answer.status_code == 400
    assert TOO_DEEP in answer.text


async def read(value: bytes) -> Poison:
    consumer = CommandConsumer(cast("FlowMutations", None), MemoryKafka().kafka)
    with pytest.raises(Poison) as refused:
        await consumer.handle("key", [Record(DEPLOY_COMMANDS, "key", value, {}, 0, 0, 0)])
    return refused.value


@pytest.mark.parametrize("depth", DEPTHS)
async def test_a_command_that_is_too_deep_is_put_aside_by_its_field(depth: int) -> None:
    command = {**deploy("1", "deep"), "namespace": "shop"}
    command["spec"]["application"]["template"]["deep"] = nested(depth)
    refused = await read(json.dumps(command).encode())
    assert (refused.reason, str(refused)) == ("InvalidCommand", f"spec.application.template: {TOO_DEEP}")


async def test_a_command_that_ends_parsers_is_put_aside() -> None:
    assert TOO_DEEP in str(await read(b'{"id":' * 5_000 + b"1" + b"}" * 5_000))
    assert str(DEEPEST) in TOO_DEEP
