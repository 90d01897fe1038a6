"""The client has every operation and field of /api/v2, so that it can't go stale unnoticed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from types import ModuleType
from typing import Any, NamedTuple, TypeVar
from unittest.mock import Mock
from urllib.parse import unquote

import pytest
from pydantic import BaseModel

from services.planner.api import rest_app
from services.planner.api.calls import Calls
from services.planner.api.rate_limits import Unlimited
from shared.domain import deployflow as server
from shared.domain.json_types import Json
from triton_client import AsyncTriton, Triton, models, operations, resources
from triton_client.operations import Operation, Subscription

T = TypeVar("T")
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


class Endpoint(NamedTuple):
    method: str
    path: str


def _functions() -> dict[str, Any]:
    """Return the functions of the operations by name."""
    return {
        name: function
        for name, function in vars(operations).items()
        if inspect.isfunction(function) and function.__module__ == operations.__name__ and name[0] != "_"
    }


def _described(name: str, **more: Any) -> Operation[Any] | Subscription[Any]:
    """Return what it sends with every argument set."""
    values = {}
    for parameter in inspect.signature(_functions()[name]).parameters.values():
        kind = str(parameter.annotation).removesuffix(" | None")
        required = parameter.default is inspect.Parameter.empty
        values[parameter.name] = (
            NAMES[parameter.name] if required and parameter.name in NAMES else SAMPLES[kind]
        )
    described: Operation[Any] | Subscription[Any] = _functions()[name](**{**values, **more})
    return described


def _all() -> Iterator[tuple[Endpoint, Operation[Any] | Subscription[Any]]]:
    for name in _functions():
        variants: list[Json] = [{}]
        if name == "deployflows":
            variants = [{"all_namespaces": False}, {"all_namespaces": True}]
        for more in variants:
            call = _described(name, **more)
            method = call.method if isinstance(call, Operation) else "GET"
            yield Endpoint(method, unquote(call.path)), call


@pytest.fixture(scope="module")
def document() -> Json:
    app = rest_app.application(Mock(spec=Calls), limits=Unlimited(), body_bytes=1)
    document: Json = app.openapi()
    return document


@pytest.fixture(scope="module")
def endpoints(document: Json) -> dict[Endpoint, Json]:
    return {
        Endpoint(method.upper(), path): operation
        for path, methods in document["paths"].items()
        if path.startswith("/api/v2/")
        for method, operation in methods.items()
        if method in {"get", "post", "patch", "put", "delete"}
    }


def test_every_operation_has_a_call_and_every_call_an_operation(endpoints: dict[Endpoint, Json]) -> None:
    assert endpoints
    assert {endpoint for endpoint, _ in _all()} == set(endpoints)


def test_every_query_parameter_can_be_set(endpoints: dict[Endpoint, Json]) -> None:
    documented = {
        endpoint: {each["name"] for each in body.get("parameters", ()) if each["in"] == "query"}
        for endpoint, body in endpoints.items()
    }
    sent = {endpoint: set(call.query) if isinstance(call, Operation) else set() for endpoint, call in _all()}
    assert sent == documented


def test_every_field_of_a_body_can_be_set(document: Json, endpoints: dict[Endpoint, Json]) -> None:
    for endpoint, call in _all():
        body = endpoints[endpoint].get("requestBody")
        if endpoint.method == "PATCH":
            continue  # its fields are those of the strategy
        sent = set(call.body or {}) if isinstance(call, Operation) else set()
        assert sent == (set(_properties(document, body)) if body else set()), endpoint


def _properties(document: Json, body: Json) -> Json:
    (content,) = body["content"].values()
    schema = content["schema"]
    while "properties" not in schema:
        options = [one for one in schema.get("anyOf", [schema]) if "$ref" in one]
        schema = document["components"]["schemas"][options[0]["$ref"].rpartition("/")[2]]
    properties: Json = schema["properties"]
    return properties


def _types(module: ModuleType, base: type[T]) -> list[type[T]]:
    """Return the classes that the module defines on top of `base`."""
    return [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, base) and kind.__module__ == module.__name__
    ]


def _fields(model: type[BaseModel]) -> set[str]:
    return {str(field.alias) for field in model.model_fields.values()}


def test_every_field_of_an_answer_can_be_read(document: Json) -> None:
    schemas = document["components"]["schemas"]
    answers = _types(models, resources.Model)
    assert len(answers) > 5
    for model in answers:
        assert _fields(model) == set(schemas[model.__name__]["properties"]), model


def test_the_types_of_a_release_are_those_of_the_server() -> None:
    types = [model for model in _types(resources, resources.Model) if model is not resources.Model]
    assert len(types) > 4
    for model in types:
        assert _fields(model) == _fields(getattr(server, model.__name__)), model
    enumerations = _types(resources, StrEnum)
    assert len(enumerations) > 4
    for enumeration in enumerations:
        assert {each.name: each.value for each in enumeration} == {
            each.name: each.value for each in getattr(server, enumeration.__name__)
        }, enumeration


def test_a_phase_of_a_newer_server_stays_a_string() -> None:
    status = resources.DeployFlowStatus.model_validate({"phase": "Success"})
    assert status.phase is resources.FlowPhase.SUCCESS
    assert resources.DeployFlowStatus.model_validate({"phase": "Resting", "new": 1}).phase == "Resting"


def test_both_clients_have_every_call() -> None:
    for client in (Triton, AsyncTriton):
        public = {name for name in vars(client) if name[0] != "_"} - {"close"}
        assert public == set(_functions())
        for name, function in _functions().items():
            assert getattr(client, name).__wrapped__ is function
