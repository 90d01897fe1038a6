"""Every option and every field with bad values: the error names what was written, in words."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest
from pydantic import ValidationError

from shared.domain.deployflow import (
    Application,
    DeployFlowSpec,
    NonUpdateStrategy,
    Strategy,
    UpdateStrategy,
    problems,
)
from shared.domain.json_types import Json
from tests.unit.cli.test_action_commands import WEB, Server, server
from tests.unit.planner.api.rest_surroundings import client_of
from tests.unit.planner.api.surroundings import World

__all__ = ["server"]

BAD: Final[tuple[Any, ...]] = (
    -1,
    1.5,
    "x",
    "200%",
    "",
    [],
    ["a", 7],
    {},
    {"a": []},
    True,
    10**12,
    "-x",
    "a" * 5000,
)
"""For each field at least one of them is bad."""
PYDANTIC: Final = re.compile(
    r"Input should|String should|Field required|Extra inputs|Value error|valid (integer|string|list|dictionary|boolean)"
)
EXPRESSION: Final = re.compile(r"\[[a-z0-9A-Z]-|\^|\)\?|\]\*|\\d|\)\$")


def assert_words(text: str) -> None:
    said = re.sub(r"\(received: .*?\)(?=;|$)", "", text)
    assert not PYDANTIC.search(said), text
    assert not EXPRESSION.search(said), text


def _fields() -> Iterator[tuple[str, str]]:
    for part, model in (
        ("application", Application),
        ("updateStrategy", UpdateStrategy),
        ("nonUpdateStrategy", NonUpdateStrategy),
    ):
        for name, info in model.model_fields.items():
            yield part, str(info.alias or name)


def _spec(part: str, field: str, value: Any, spec: Json) -> Json:
    made = copy.deepcopy(spec)
    if part == "nonUpdateStrategy":
        del made["updateStrategy"]
        made |= {"action": "restart", part: {}}
    made[part][field] = value
    return made


@pytest.mark.parametrize(("part", "field"), list(_fields()))
def test_each_field_says_what_it_takes(part: str, field: str, spec: Json) -> None:
    refused = 0
    for value in BAD:
        try:
            DeployFlowSpec.model_validate(_spec(part, field, value, spec))
        except ValidationError as error:
            refused += 1
            text = problems(error, "spec")
            assert_words(text)
            assert text.startswith((f"spec.{part}.{field}", "spec: "))
    assert refused


STARTS: Final = (
    ["update", WEB, "--image", "web:2", "--container", "web"],
    ["rollback", WEB],
    ["restart", WEB],
    ["scale", WEB, "--replicas", "2"],
    ["stop", WEB],
    ["start", WEB],
    ["delete", WEB, "--yes"],
)
OPTIONS: Final = (
    "--batch-size",
    "--mode",
    "--interval",
    "--canary",
    "--replicas",
    "--pod",
    "--to",
    "--container",
)


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start[0])
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_is_named_as_it_was_written(
    option: str, start: list[str], server: Server, triton: Callable[..., Any]
) -> None:
    server.had("second", image="web:2")
    for value in ("-1", "1.5", "x", "200%", "9999999999999", "a b"):
        result = triton(*start, option, value)
        if result.code == 0:
            continue
        assert result.err.count("\n") == 1 or result.err.startswith(("plan:", "warning:")), result.err
        if f"No such option: {option}" in result.err:
            return
        assert option in result.err, result.err
        assert "spec." not in result.err
        assert "trategy" not in result.err
        assert_words(result.err)


def test_a_batch_of_200_percent_is_an_error_of_the_option(server: Server, triton: Callable[..., Any]) -> None:
    assert triton("restart", WEB, "--batch-size", "200%").err == (
        "error: --batch-size: must be a whole number or a percentage from 1% to 100% (received: '200%')\n"
    )


CALLS: Final[tuple[tuple[str, Json, type[Strategy]], ...]] = (
    ("updates", {"image": "web:2"}, UpdateStrategy),
    ("rollbacks", {}, UpdateStrategy),
    ("restarts", {}, NonUpdateStrategy),
    ("stops", {}, NonUpdateStrategy),
)


@pytest.mark.parametrize(
    ("call", "body", "model"), CALLS, ids=lambda each: each if isinstance(each, str) else ""
)
async def test_rest_names_the_field_of_the_body(call: str, body: Json, model: type[Strategy]) -> None:
    world = World()
    world.flow("web-1", status={"phase": "Success", "finished": True})
    async with client_of(world) as rest:
        for name, info in model.model_fields.items():
            field = str(info.alias or name)
            refused = 0
            for value in BAD:
                answer = await _post(rest, call, {**body, "strategy": {field: value}})
                if answer.status_code == 400:
                    refused += 1
                    detail = answer.json()["detail"]
                    assert_words(detail)
                    assert detail.startswith(f"strategy.{field}"), detail
            assert refused, field


async def _post(rest: httpx.AsyncClient, call: str, body: Json) -> httpx.Response:
    return await rest.post(
        f"/instances/web/{call}", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )


@pytest.mark.parametrize(
    ("field", "value"), [("batchSize", "200%"), ("canary", -1), ("batchsize", 1), ("mode", "x")]
)
async def test_rest_says_what_a_new_release_may_have(field: str, value: Any, spec: Json) -> None:
    async with client_of(World()) as rest:
        answer = await rest.post("/deployflows", json={"spec": _spec("updateStrategy", field, value, spec)})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(f"spec.updateStrategy.{field}: ")
    assert_words(answer.json()["detail"])
