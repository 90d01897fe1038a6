"""The REST API under fire: what its own document allows, what it does not, and what lies at the borders of both."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import negative_data_rejection

from sandbox.environment import Sandbox
from services.planner.api import openapi
from services.planner.api.call_authorization import NAMESPACE as NAMESPACE_LIKE
from shared.domain.json_types import Json
from tests.system.releases import Releases, deployflow

NAMESPACE = "fuzz"
EXAMPLES = 20
"""Of each operation, beside the cases at the borders."""
LARGEST = 2**31 - 1
INSTANCE = "fuzz-web"
FLOWS = ("fuzz-web-first", "fuzz-waits")
LIMITS = {"TRITON_API_REQUESTS_PER_SECOND": "100000"}

schema = schemathesis.openapi.from_dict(json.loads(openapi.text()))
# as a conflict, these are of the state of a release
schema.config.checks.positive_data_acceptance.expected_statuses += ["412", "422"]
sent: list[str] = []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url() -> AsyncIterator[str]:
    """A planner with a release that is over and one that waits."""
    async with Sandbox(settings=LIMITS) as sandbox, Releases(sandbox, NAMESPACE) as releases:
        await releases.make_namespace()
        await releases.create(INSTANCE, replicas=2)
        await releases.apply(deployflow("fuzz-waits", INSTANCE, image="nginx:2", replicas=2, canary=1))
        await releases.batch_is("fuzz-waits", 1, "Smoked")
        yield sandbox.rest_urls["planner"]


@pytest.fixture(scope="module")
def session() -> requests.Session:
    return requests.Session()


@schema.hook
def flatmap_path_parameters(context: Any, path_parameters: Json) -> Any:
    """Half of the names that could be are of what there is."""
    if not path_parameters:
        return st.just(path_parameters)
    fit = [path_parameters.get("namespace", "x"), path_parameters.get("name", "x")]
    if not all(
        isinstance(name, str) and len(name) < 64 and re.fullmatch(NAMESPACE_LIKE, name) for name in fit
    ):
        return st.just(path_parameters)
    real = {"namespace": NAMESPACE} if "namespace" in path_parameters else {}
    if "name" in path_parameters:
        flow = "/deployflows/" in context.operation.path
        real["name"] = FLOWS[0] if flow else INSTANCE
    return st.sampled_from([path_parameters, {**path_parameters, **real}])


def _small(value: Any) -> Any:
    """With few replicas: the sandbox would make millions of pods."""
    if isinstance(value, dict):
        return {
            key: 3
            if key == "replicas" and type(item) in {int, float} and 3 < item <= LARGEST
            else _small(item)
            for key, item in value.items()
        }
    return [_small(item) for item in value] if isinstance(value, list) else value


def test_the_document_is_the_one_that_is_served(url: str) -> None:
    assert httpx.get(f"{url}/openapi.json").json() == json.loads(openapi.text())


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_keeps_to_the_document(case: Any, url: str, session: requests.Session) -> None:
    sent.append(case.operation.label)
    case.body = _small(case.body)
    # programs written for the first version may send more than it reads
    lenient = [negative_data_rejection] if case.path.startswith("/api/v1/") else []
    case.call_and_validate(base_url=url, session=session, timeout=30, excluded_checks=lenient)


def test_enough_was_tried() -> None:
    assert len(sent) >= 5_000, len(sent)
