"""The JSON Schemas by which other systems check their commands, and read the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from shared.domain.deploy_commands import DeployCommand
from shared.domain.json_types import Json
from shared.domain.replies import DeployCommandReply
from shared.messaging import asyncapi, json_schemas

FOLDER = Path(__file__).parents[4] / "docs" / "schemas"
KIND = jsonschema.Draft202012Validator
MESSAGES = asyncapi.document()["components"]["messages"]


def fits(name: str, value: Json) -> bool:
    schema = json_schemas.schema(json_schemas.MODELS[name])
    KIND.check_schema(schema)
    return bool(KIND(schema).is_valid(value))


def is_read(model: Any, value: Json) -> bool:
    try:
        model.model_validate(value)
    except ValidationError:
        return False
    return True


def test_the_files_in_the_repository_are_those_that_the_models_make() -> None:
    made = {name: json_schemas.text(model) for name, model in json_schemas.MODELS.items()}
    kept = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert kept == made, "run `make documents`"


HEAD: Json = {"id": "1", "namespace": "shop"}
SPEC: Json = MESSAGES["DeployCommand"]["examples"][0]["payload"]["spec"]
COMMANDS: list[tuple[Json, bool]] = [
    ({"type": "deploy", "spec": SPEC}, True),
    ({"type": "deploy", "spec": SPEC, "freezeOverride": "the fix", "replyTo": "paas.replies"}, True),
    ({"type": "deploy"}, False),
    ({"type": "deploy", "spec": None}, False),
    ({"type": "deploy", "deployFlow": "web-1"}, False),
    ({"type": "deploy", "spec": SPEC, "replyTo": "no topic!"}, False),
    ({"type": "deploy", "spec": SPEC, "replyto": "misspelt"}, False),
    ({"type": "rollback", "instanceName": "web"}, True),
    ({"type": "rollback", "deployFlow": "web-1"}, False),
    ({"type": "rollback", "instanceName": ""}, False),
    ({"type": "continue", "instanceName": "web", "target": {"batches": 2}}, True),
    ({"type": "continue", "instanceName": "web"}, False),
    ({"type": "continue", "target": {"batches": 2}}, False),
    ({"type": "next", "instanceName": "web", "batch": 1, "stage": "Smoked"}, True),
    ({"type": "next", "deployFlow": None, "instanceName": "web"}, True),
    ({"type": "next"}, False),
    ({"type": "next", "deployFlow": None}, False),
    ({"type": "next", "deployFlow": "web-1", "batch": 0}, False),
    ({"type": "cancel", "deployFlow": "web-1"}, True),
    ({"type": "cancel", "deployFlow": "web-1", "freezeOverride": "why"}, False),
    ({"type": "explode", "deployFlow": "web-1"}, False),
]


@pytest.mark.parametrize(("fields", "good"), COMMANDS, ids=range(len(COMMANDS)))
def test_the_schema_takes_and_refuses_the_commands_that_the_planner_does(fields: Json, good: bool) -> None:
    command = HEAD | fields
    assert is_read(DeployCommand, command) == good
    assert fits("deploy-command.schema.json", command) == good


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"phase": "Failed"}, True),
        ({"phase": "BatchStarted"}, False),
        ({"phase": None}, False),
        ({"result": "perhaps"}, False),
    ],
    ids=str,
)
def test_the_schema_of_the_answers_knows_what_they_can_be(change: Json, good: bool) -> None:
    _, _, finished = (example["payload"] for example in MESSAGES["DeployCommandReply"]["examples"])
    assert fits("reply.schema.json", finished | change) == good
    assert {*finished} == {field.alias for field in DeployCommandReply.model_fields.values()}
