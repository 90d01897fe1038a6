"""Commands from other systems: what is the command's fault, and what is not."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from services.planner.intake.command_consumer import CommandConsumer
from services.planner.intake.flow_mutations import FlowMutations
from services.planner.runtime.flow_cache import FlowCache
from shared.domain.json_types import Json
from shared.domain.record import Record
from shared.domain.topics import DEPLOY_COMMANDS
from shared.errors import Poison, Unavailable
from shared.kube.client import ApiError, Client
from shared.settings import Settings
from tests.system.other_system import deploy, press
from tests.unit.parts import MemoryKafka

NEXT = {"id": "1", "type": "next", "namespace": "default", "deployFlow": "web-df", "requestedBy": "ci"}


class Refusing:
    """Takes the place of the API server."""

    def __init__(self, refusal: ApiError) -> None:
        self._refusal = refusal

    async def get(self, *_: object) -> dict[str, Any]:
        raise self._refusal


class Untouched:
    """Takes the place of an API server that nothing may be requested of."""

    def __getattr__(self, name: str) -> None:
        raise AssertionError(f"{name} of the API server was called")


async def handle(client: object, command: Json, kafka: MemoryKafka | None = None) -> None:
    kafka = kafka or MemoryKafka()
    api = cast("Client", client)
    intake = CommandConsumer(FlowMutations(api, FlowCache(api, kafka.kafka, kafka.settings)), kafka.kafka)
    await intake.handle("key", [Record(DEPLOY_COMMANDS, "key", json.dumps(command).encode(), {}, 0, 0, 0)])


async def answer_with(refusal: ApiError) -> None:
    await handle(Refusing(refusal), NEXT)


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


EVERY_COMMAND: list[Json] = [
    deploy("1", "web"),
    press("1", "rollback", "web"),
    press("1", "continue", "web", target={"batches": 2}),
    *(
        press("1", kind, "web")
        for kind in ("next", "pause", "resume", "cancel", "promote", "retry", "delete")
    ),
]


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=[command["type"] for command in EVERY_COMMAND])
async def test_no_command_is_carried_out_in_a_namespace_that_this_triton_does_not_manage(
    command: Json,
) -> None:
    kafka = MemoryKafka()
    kafka.settings = Settings(namespaces=["pay", "ship"])
    with pytest.raises(Poison, match="this Triton manages pay, ship") as caught:
        await handle(Untouched(), {"namespace": "default", **command}, kafka)
    assert caught.value.reason == "NotLookedAfter"
    ((topic, reply),) = kafka.replies
    assert (topic, reply["result"], reply["reason"]) == ("paas.replies", "refused", "NotLookedAfter")


INVALID: dict[str, tuple[Json, str]] = {
    "an unknown field": ({"colour": "red"}, "colour: "),
    "an unknown type": ({"type": "explode"}, "type: "),
    "no namespace": ({"namespace": None}, "namespace: "),
    "a spec that is none": ({"spec": {"action": "explode"}}, "spec.action: "),
    "a deploy without a spec": ({"spec": None}, "spec: "),
    "a control without a target": ({"type": "pause", "spec": None}, "deployFlow: "),
}


@pytest.mark.parametrize("what", INVALID)
async def test_an_invalid_command_is_answered_by_the_field(what: str) -> None:
    changed, says = INVALID[what]
    kafka = MemoryKafka()
    with pytest.raises(Poison) as caught:
        await handle(Untouched(), {**deploy("1", "web"), "namespace": "default", **changed}, kafka)
    assert caught.value.reason == "InvalidCommand"
    ((topic, reply),) = kafka.replies
    assert topic == "paas.replies"
    assert reply == {
        "id": "1",
        "result": "refused",
        "deployFlow": "",
        "reason": "InvalidCommand",
        "message": str(caught.value),
    }
    assert says in reply["message"]


async def test_an_invalid_command_whose_id_is_in_its_header_is_answered() -> None:
    kafka = MemoryKafka()
    value = json.dumps({"type": "pause", "namespace": "default", "replyTo": "paas.replies"}).encode()
    record = Record(DEPLOY_COMMANDS, "key", value, {"ce_id": "header-1"}, 0, 0, 0)
    with pytest.raises(Poison):
        await CommandConsumer(cast("FlowMutations", Untouched()), kafka.kafka).handle("key", [record])
    assert [reply["id"] for _, reply in kafka.replies] == ["header-1"]


@pytest.mark.parametrize(
    "unfit",
    [
        {"id": ""},
        {"id": 7},
        {"id": None},
        {"id": "x" * 254},
        {"id": "\ud800"},
        {"replyTo": ""},
        {"replyTo": "a topic"},
        {"replyTo": 7},
        {"replyTo": None},
        {"replyTo": "triton.batch-commands"},
        {"replyTo": "_schemas"},
        {"replyTo": "orders"},
    ],
    ids=repr,
)
async def test_an_invalid_command_has_no_answer_without_a_fit_id_and_an_allowed_topic(unfit: Json) -> None:
    kafka = MemoryKafka()
    with pytest.raises(Poison) as caught:
        await handle(
            Untouched(), {**deploy("1", "web"), "namespace": "default", "colour": "red", **unfit}, kafka
        )
    assert caught.value.reason == "InvalidCommand"
    assert kafka.replies == []


@pytest.mark.parametrize(
    "topic", ["_schemas", "__consumer_offsets", "triton.batch-commands", "other.deploy-commands", "orders"]
)
async def test_a_command_that_wants_its_answer_elsewhere_is_refused_and_the_log_says_so(
    topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = MemoryKafka()
    command = deploy("1", "web") | {"namespace": "default", "replyTo": topic}
    with pytest.raises(Poison, match=f"replyTo: .*{topic}") as caught:
        await handle(Untouched(), command, kafka)
    assert caught.value.reason == "ReplyToNotAllowed"
    assert kafka.replies == []
    assert "no answer to 1: " in caplog.text
    assert '"result":"refused"' in caplog.text
