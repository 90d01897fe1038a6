"""The OpenAPI document: kept in the repository, valid, and its examples are taken and answered as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from services.planner.api import openapi
from shared.messaging import asyncapi
from tests.unit.planner.api.rest_surroundings import client_of
from tests.unit.planner.api.surroundings import Named, World, batch

ROOT = Path(__file__).parents[4]
DOCUMENT = json.loads(openapi.text())
DONE = {"phase": "Success", "finished": True, "startedAt": "2026-01-02T03:04:05Z"}
FOLLOWED = "follow_events"
"""Comes from Kafka: the system tests have it."""


class Log:
    """The release log."""

    async def search(self, query: Any) -> list[Any]:
        return [{"@timestamp": "2026-01-02T03:04:05.678Z", "message": "web-1: Received"}]


def _operations() -> list[Any]:
    return [
        pytest.param(path, method, operation, id=operation["operationId"])
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    ]


def _world(path: str) -> tuple[World, str]:
    """One in which the operation can be done, and the name that its path takes."""
    world = World()
    world.calls.queries._events = cast("Any", Log())
    world.cloneset(updatedReadyReplicas=3)
    world.pod("web-a")
    template = {"spec": {"containers": [{"name": "web", "image": "nginx:1.28"}]}}
    first = world.flow("web-1", status=DONE)
    first["spec"]["application"]["template"] = template
    world.says("web-1")
    if "/instances" in path or "{name}" not in path:
        second = world.flow("web-2", status={**DONE, "startedAt": "2026-01-02T03:05:05Z"})
        second["metadata"]["creationTimestamp"] = "2026-01-02T03:05:05Z"
        world.says("web-2")
        return world, "web"
    if path.endswith("/{name}/watch"):
        return world, "web-1"
    phase = "SmokeFailed" if path.endswith("/retry") else "Smoked"
    status = {"phase": "BatchStarted", "conditions": [batch(1, phase, canary=True)], "batches": 3}
    world.flow("web-2", status=status, batchIntervalSeconds=5)
    return world, "web-2"


def _checked(operation: Any, answer: httpx.Response) -> None:
    documented = operation["responses"][str(answer.status_code)]
    assert set(documented.get("headers", {})) - {"Retry-After"} <= {
        name.title().replace("Etag", "ETag") for name in answer.headers
    }
    if not (content := documented.get("content")):
        assert not answer.content
        return
    kind = answer.headers["Content-Type"].partition(";")[0]
    schema = {**content[kind]["schema"], "components": DOCUMENT["components"]}
    received = answer.json() if kind.endswith("json") else {"data": answer.text}
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(received)


def test_the_document_in_the_repository_is_the_one_that_is_made() -> None:
    assert (ROOT / "docs" / "openapi.json").read_text() == openapi.text(), "run make documents"


def test_the_document_is_valid() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    validate(DOCUMENT)


async def test_both_documents_are_served() -> None:
    async with client_of(World(), "") as rest:
        assert (await rest.get("/openapi.json")).json() == DOCUMENT
        assert yaml.safe_load((await rest.get("/asyncapi.yaml")).text) == asyncapi.document()


@pytest.mark.parametrize(("path", "method", "operation"), _operations())
def test_every_operation_says_what_it_is_and_what_may_go_wrong(
    path: str, method: str, operation: Any
) -> None:
    assert operation["summary"]
    assert operation["tags"]
    assert {"400", "401", "403", "429", "503"} <= set(operation["responses"])
    names = {parameter["name"] for parameter in operation["parameters"]}
    if method != "get" and not path.endswith("/plans"):
        assert "Idempotency-Key" in names
    if "requestBody" in operation:
        assert "examples" in operation["requestBody"]["content"]["application/json"]


@pytest.mark.parametrize(("path", "method", "operation"), _operations())
async def test_the_examples_are_done_and_answered_as_the_document_says(
    path: str, method: str, operation: Any
) -> None:
    if operation["operationId"] == FOLLOWED:
        return
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    for body in [example["value"] for example in content.get("examples", {}).values()] or [None]:
        world, name = _world(path)
        if (path, method) in {(p, "delete") for p in DOCUMENT["paths"] if p.endswith("deployflows/{name}")}:
            name = "web-1"
        async with client_of(world, "") as rest:
            url = path.format(namespace="shop", name=name)
            answer = await rest.request(method.upper(), url, json=body)
            assert answer.is_success, answer.text
            _checked(operation, answer)


async def test_what_goes_wrong_is_answered_as_the_document_says() -> None:
    world = World()
    world.flow("web-1", status=DONE)
    async with client_of(world, "") as rest:
        for path, method, status in (
            ("/api/v2/namespaces/{namespace}/deployflows/{name}", "get", 404),
            ("/api/v2/namespaces/{namespace}/deployflows", "post", 400),
            ("/api/v1/namespaces/{namespace}/deployflows/{name}", "get", 404),
        ):
            url = path.format(namespace="shop", name="none")
            answer = await rest.request(method.upper(), url, json={})
            assert answer.status_code == status
            _checked(DOCUMENT["paths"][path][method], answer)


PATHS = ["/", "/api", "/docs", "/api/v1", "/api/v2"]


@pytest.mark.parametrize("path", PATHS)
async def test_whoever_looks_around_finds_the_documents_without_a_login(path: str) -> None:
    async with client_of(World(access=Named()), "") as rest:
        links = (await rest.get(path)).json()["links"]
        page = await rest.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
        assert (await rest.get("/openapi.json")).status_code == 200
        assert (await rest.get("/api/v2/deployflows")).status_code == 401
    assert {"/openapi.json", "/asyncapi.yaml"} <= set(links)
    assert page.headers["Content-Type"].startswith("text/html")
    assert '<a href="/openapi.json">' in page.text
    assert "<td>POST<td><code>/api/v2/namespaces/{namespace}/deployflows</code>" in page.text
