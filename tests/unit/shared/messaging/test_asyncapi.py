"""The AsyncAPI document that other systems' authors work by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shared.domain import topics
from shared.domain.deploy_commands import DeployCommand
from shared.domain.messages import TOPIC_OF
from shared.domain.record import Record
from shared.domain.replies import DeployCommandReply
from shared.messaging import asyncapi
from shared.messaging.consumer import decode

DOCUMENT = asyncapi.document()
MESSAGES = DOCUMENT["components"]["messages"]
FILE = Path(__file__).parents[4] / "docs" / "asyncapi.yaml"


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from refs(item)
    elif isinstance(value, list):
        for item in value:
            yield from refs(item)


def resolve(ref: str) -> Any:
    at: Any = DOCUMENT
    for part in ref.removeprefix("#/").split("/"):
        at = at[part]
    return at


def examples() -> Iterator[Any]:
    for name, message in MESSAGES.items():
        for number, example in enumerate(message.get("examples", ())):
            yield pytest.param(name, example["payload"], id=f"{name}-{number}")


EXAMPLES = list(examples())


def schema_of(name: str) -> Any:
    return {**MESSAGES[name]["payload"], "components": DOCUMENT["components"]}


def check(name: str, payload: Any) -> None:
    schema = schema_of(name)
    kind = jsonschema.Draft202012Validator
    kind.check_schema(schema)
    kind(schema).validate(payload)


def test_the_file_in_the_repository_is_the_one_that_the_models_make() -> None:
    assert FILE.read_text() == asyncapi.text(), "run `make documents`"


def test_every_reference_leads_somewhere() -> None:
    found = set(refs(DOCUMENT))
    assert len(found) > 50
    for ref in found:
        assert resolve(ref) is not None


def test_every_topic_is_a_channel_with_its_address_and_every_message_is_in_one() -> None:
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    # each command says where its answers go to
    assert addresses == {f"triton.{name}" for name in topics.ALL} | {None}
    in_channels = {name for channel in DOCUMENT["channels"].values() for name in channel["messages"]}
    assert in_channels == set(MESSAGES)
    assert {model.__name__ for model in TOPIC_OF} < in_channels


def test_every_message_of_ours_has_an_example() -> None:
    assert {name for name, message in MESSAGES.items() if not message.get("examples")} == {"DeadLetter"}


@pytest.mark.parametrize(("name", "payload"), EXAMPLES)
def test_an_example_fits_its_schema(name: str, payload: Any) -> None:
    check(name, payload)


@pytest.mark.parametrize(("name", "payload"), EXAMPLES)
def test_an_example_is_read_by_the_services_as_what_it_says(name: str, payload: Any) -> None:
    if name == "DeployCommand":
        assert DeployCommand.model_validate(payload).type == payload["type"]
        return
    if name == "DeployCommandReply":
        assert DeployCommandReply.model_validate(payload).result == payload["result"]
        return
    topic = next(topic for model, topic in TOPIC_OF.items() if model.__name__ == name)
    value = json.dumps(payload).encode()
    assert type(decode(Record(topic, "shop/web", value, {}, 0, 0, 0))).__name__ == name


@pytest.mark.parametrize(
    "change",
    [
        {"type": "explode"},
        {"batchsize": 1},
        {"spec": {"action": "update"}},
        {"id": ""},
    ],
    ids=["unknown type", "misspelt field", "spec without application", "empty id"],
)
def test_the_schema_refuses_what_the_planner_would_refuse(change: dict[str, Any]) -> None:
    (deploy, *_) = (example["payload"] for example in MESSAGES["DeployCommand"]["examples"])
    check("DeployCommand", deploy)
    with pytest.raises(jsonschema.ValidationError):
        check("DeployCommand", deploy | change)


def test_a_service_is_shown_with_what_it_sends_and_receives() -> None:
    operations = DOCUMENT["operations"]
    assert operations["planner.receive.deploy-commands"]["action"] == "receive"
    gates = {ref["$ref"].split("/")[-1] for ref in operations["readiness.receive.batch-commands"]["messages"]}
    assert gates == {"PullIn", "PullOut"}
    received = {name for name in operations if name.startswith("events.receive.")}
    assert received == {
        "events.receive.phase-events",
        "events.receive.cloneset-events",
        "events.receive.cluster-events",
        "events.receive.deployflow-events",
    }
    sent = {name for name in operations if name.endswith(".send.cluster-events")}
    assert sent == {"executor.send.cluster-events", "readiness.send.cluster-events"}


def test_a_deploy_command_has_its_answers_on_the_topic_that_it_names_with_its_id() -> None:
    reply = DOCUMENT["operations"]["planner.receive.deploy-commands"]["reply"]
    assert reply["address"]["location"] == "$message.payload#/replyTo"
    (message,) = (resolve(resolve(ref["$ref"])["$ref"]) for ref in reply["messages"])
    command = MESSAGES["DeployCommand"]
    assert message["correlationId"] == command["correlationId"] == {"location": "$message.payload#/id"}
    assert [example["name"] for example in message["examples"]] == ["accepted", "refused", "finished"]


def test_deploy_commands_have_cloudevents_headers_and_say_what_their_key_is() -> None:
    message = MESSAGES["DeployCommand"]
    assert set(resolve(message["headers"]["$ref"])["properties"]) >= {
        "ce_id",
        "ce_type",
        "ce_source",
        "ce_subject",
        "ce_time",
    }
    assert "<namespace>/<instanceName>" in message["bindings"]["kafka"]["key"]["description"]
