"""A batch plan has one shape: in the planner's model, in its preview, in REST's document and in the client."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

import triton_client.models as client
from services.planner.api import models_v2
from services.planner.model import batch_plan
from services.planner.views.plan_preview import assume, make, plan_object
from shared.domain.deployflow import DeployFlowSpec

SPEC = DeployFlowSpec.model_validate(
    {
        "action": "create",
        "application": {
            "appID": 1,
            "groupID": 2,
            "appName": "hello",
            "instanceName": "web",
            "replicas": 4,
            "template": {"spec": {"containers": [{"name": "app", "image": "nginx:2"}]}},
        },
        "updateStrategy": {"canary": 1, "batchSize": 2},
    }
)


class Shape(NamedTuple):
    served: type[BaseModel]
    read: type[BaseModel]


SHAPES = {
    "plan": Shape(models_v2.Plan, client.Plan),
    "current": Shape(models_v2.Current, client.Current),
    "batch": Shape(models_v2.PlannedBatch, client.PlannedBatch),
}


def keys(model: type[BaseModel]) -> list[str]:
    return [str(info.alias or name) for name, info in model.model_fields.items()]


def preview() -> dict[str, Any]:
    assumption = assume(SPEC, None)
    return plan_object(SPEC, assumption, make(SPEC, assumption))


@pytest.mark.parametrize("part", SHAPES)
def test_the_client_reads_the_fields_that_rest_serves(part: str) -> None:
    assert keys(SHAPES[part].read) == keys(SHAPES[part].served)


def test_the_preview_has_the_fields_that_rest_serves() -> None:
    shown = preview()
    assert list(shown) == keys(models_v2.Plan)
    assert list(shown["current"]) == keys(models_v2.Current)
    assert all(list(batch) == keys(models_v2.PlannedBatch) for batch in shown["batches"])


def test_a_batch_of_the_plan_is_shown_as_it_is_with_the_pods_that_go() -> None:
    assert [*batch_plan.PlannedBatch._fields, "pods"] == keys(models_v2.PlannedBatch)
    assert list(batch_plan.Current._fields) == keys(models_v2.Current)


def test_the_client_reads_a_preview_without_loss() -> None:
    shown = preview()
    for model in (models_v2.Plan, client.Plan):
        assert model.model_validate(shown).model_dump(mode="json", by_alias=True) == shown
