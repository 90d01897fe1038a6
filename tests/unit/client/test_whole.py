"""The client knows all of the second version's API, to the last field: it can't go stale unnoticed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from unittest.mock import Mock
from urllib.parse import unquote

import pytest

from services.planner.api import rest_app
from services.planner.api.calls import Calls
from services.planner.api.rate_limits import Unlimited
from triton_client import AsyncTriton, Triton, answers, calls
from triton_client.calls import Ask, Listen

Json = dict[str, Any]
SAMPLES: Json = {
    "int": 1,
    "datetime": datetime(2026, 1, 1, tzinfo=UTC),
    "Sequence[str]": ["a"],
    "Json": {"mode": "auto"},
    "Spec": {"action": "stop"},
    "bool": True,
    "str": "x",
}
NAMES = {"namespace": "{namespace}", "name": "{name}", "instance": "{name}"}
NAMED = {"deployflow", "rollback", "update"}


class Operation(NamedTuple):
    method: str
    path: str


def _functions() -> dict[str, Any]:
    """The calls by name."""
    return {
        name: function
        for name, function in vars(calls).items()
        if inspect.isfunction(function) and function.__module__ == calls.__name__ and name[0] != "_"
    }


def _described(name: str, **more: Any) -> Ask[Any] | Listen[Any]:
    """What it sends with every argument given."""
    given = {}
    for parameter in inspect.signature(_functions()[name]).parameters.values():
        kind = str(parameter.annotation).removesuffix(" | None")
        required = parameter.default is inspect.Parameter.empty
        given[parameter.name] = (
            NAMES[parameter.name] if required and parameter.name in NAMES else SAMPLES[kind]
        )
    described: Ask[Any] | Listen[Any] = _functions()[name](**{**given, **more})
    return described


def _all() -> Iterator[tuple[Operation, Ask[Any] | Listen[Any]]]:
    for name in _functions():
        variants: list[Json] = [{}]
        if name == "deployflows":
            variants = [{"all_namespaces": False}, {"all_namespaces": True}]
        for more in variants:
            asked = _described(name, **more)
            method = asked.method if isinstance(asked, Ask) else "GET"
            yield Operation(method, unquote(asked.path)), asked


@pytest.fixture(scope="module")
def document() -> Json:
    app = rest_app.application(Mock(spec=Calls), limits=Unlimited(), body_bytes=1)
    document: Json = app.openapi()
    return document


@pytest.fixture(scope="module")
def operations(document: Json) -> dict[Operation, Json]:
    return {
        Operation(method.upper(), path): operation
        for path, methods in document["paths"].items()
        if path.startswith("/api/v2/")
        for method, operation in methods.items()
        if method in {"get", "post", "patch", "put", "delete"}
    }


def test_every_operation_has_a_call_and_every_call_an_operation(operations: dict[Operation, Json]) -> None:
    assert operations
    assert {operation for operation, _ in _all()} == set(operations)


def test_every_query_parameter_can_be_given(operations: dict[Operation, Json]) -> None:
    told = {
        operation: {each["name"] for each in body.get("parameters", ()) if each["in"] == "query"}
        for operation, body in operations.items()
    }
    sent = {operation: set(asked.query) if isinstance(asked, Ask) else set() for operation, asked in _all()}
    assert sent == told


def test_every_field_of_a_body_can_be_given(document: Json, operations: dict[Operation, Json]) -> None:
    for operation, asked in _all():
        body = operations[operation].get("requestBody")
        if operation.method == "PATCH":
            continue  # its fields are those of the strategy
        sent = set(asked.body or {}) if isinstance(asked, Ask) else set()
        assert sent == (set(_properties(document, body)) if body else set()), operation


def _properties(document: Json, body: Json) -> Json:
    (content,) = body["content"].values()
    schema = content["schema"]
    while "properties" not in schema:
        options = [one for one in schema.get("anyOf", [schema]) if "$ref" in one]
        schema = document["components"]["schemas"][options[0]["$ref"].rpartition("/")[2]]
    properties: Json = schema["properties"]
    return properties


def test_every_field_of_an_answer_can_be_read(document: Json) -> None:
    schemas = document["components"]["schemas"]
    models = [
        model
        for model in vars(answers).values()
        if inspect.isclass(model) and issubclass(model, answers.Answer) and model is not answers.Answer
    ]
    assert len(models) > 5
    for model in models:
        fields = {field.alias for field in model.model_fields.values()}
        assert fields == set(schemas[model.__name__]["properties"]), model


def test_both_clients_have_every_call() -> None:
    for client in (Triton, AsyncTriton):
        public = {name for name in vars(client) if name[0] != "_"} - {"close"}
        assert public == set(_functions())
        for name, function in _functions().items():
            assert getattr(client, name).__wrapped__ is function
