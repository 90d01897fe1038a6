"""Commands from other systems: what is the command's fault, and what is not."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from services.planner.intake.command_consumer import CommandConsumer
from services.planner.intake.flow_mutations import FlowMutations
from services.planner.runtime.flow_cache import FlowCache
from shared.domain.record import Record
from shared.domain.topics import DEPLOY_COMMANDS
from shared.errors import Poison, Unavailable
from shared.kube.client import ApiError, Client
from shared.settings import Settings
from tests.unit.parts import MemoryKafka

NEXT = {"id": "1", "type": "next", "namespace": "default", "deployFlow": "web-df", "requestedBy": "ci"}


class Refusing:
    """Takes the place of the API server."""

    def __init__(self, refusal: ApiError) -> None:
        self._refusal = refusal

    async def get(self, *_: object) -> dict[str, Any]:
        raise self._refusal


async def answer_with(refusal: ApiError) -> None:
    client, kafka = cast("Client", Refusing(refusal)), MemoryKafka().kafka
    intake = CommandConsumer(FlowMutations(client, FlowCache(client, kafka, Settings())), kafka)
    await intake.handle("key", [Record(DEPLOY_COMMANDS, "key", json.dumps(NEXT).encode(), {}, 0, 0, 0)])


async def test_a_command_waits_for_rights_that_the_planner_does_not_have() -> None:
    words = (
        'deployflows.apps.triton.io "web-df" is forbidden: User "planner" cannot get resource "deployflows"'
    )
    with pytest.raises(Unavailable, match="give the planner the rights of deploy/rbac"):
        await answer_with(ApiError(403, "Forbidden", words))


async def test_a_command_that_a_policy_refuses_is_put_aside_with_its_words() -> None:
    words = 'admission webhook "policy.example" denied the request: no releases on Fridays'
    with pytest.raises(Poison, match="no releases on Fridays"):
        await answer_with(ApiError(403, "Forbidden", words))
