"""Freeze windows at the command line: the override, and what a plan says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from cli.manifests import Document
from cli.planning import held_back
from shared.domain.deployflow import DeployFlowSpec
from shared.domain.json_types import Json
from shared.releases.specs import release

OVERRIDE = "apps.triton.io/freeze-override"
WEEKEND = {"name": "weekend", "cron": "0 18 * * FRI", "duration": "62h"}
SATURDAY, TUESDAY = (datetime.fromisoformat(f"2026-11-{day}T12:00+00:00") for day in (21, 24))


def test_an_update_carries_the_reason_of_its_override(spec: Json) -> None:
    wanted = DeployFlowSpec.model_validate(spec)
    made = release(
        wanted, namespace="shop", request_id="1", requested_by="deployer", freeze_override="a leak"
    )
    annotations = made["metadata"]["annotations"]
    assert annotations[OVERRIDE] == "a leak"
    assert annotations["apps.triton.io/requested-by"] == "deployer"
    made = release(wanted, namespace="shop", request_id="1", requested_by="deployer")
    assert OVERRIDE not in made["metadata"]["annotations"]


def test_apply_puts_who_and_why_on_deployflows_only(spec: Json) -> None:
    flow = Document(
        "file",
        {
            "apiVersion": "apps.triton.io/v1alpha1",
            "kind": "DeployFlow",
            "metadata": {"name": "web-2", "annotations": {"team": "web"}},
            "spec": spec,
        },
    )
    made = flow.overriding_freeze("a leak").body["metadata"]["annotations"]
    assert made == {"team": "web", OVERRIDE: "a leak"}
    service = Document("file", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}})
    assert service.overriding_freeze("a leak") == service


@pytest.mark.parametrize("command", [["apply", "-f", "x.yaml"], ["update", "web", "--image", "web:2"]])
def test_an_override_without_a_reason_is_refused(command: list[str], triton: Callable[..., Any]) -> None:
    result = triton(*command, "--override-freeze", " ")
    assert result.code == 2
    assert "--override-freeze" in result.err
    assert "the reason is empty" in result.err


@pytest.mark.parametrize(
    ("action", "at", "annotations", "said"),
    [
        (
            "update",
            SATURDAY,
            {},
            "would be held back now by freeze window weekend until 2026-11-23T08:00:00Z",
        ),
        (
            "update",
            SATURDAY,
            {OVERRIDE: "a leak"},
            "would start in freeze window weekend until 2026-11-23T08:00:00Z, which it overrides",
        ),
        ("update", TUESDAY, {}, ""),
        ("rollback", SATURDAY, {}, ""),
    ],
)
def test_a_plan_says_what_would_hold_it_back(
    action: str, at: datetime, annotations: Json, said: str, spec: Json
) -> None:
    wanted = DeployFlowSpec.model_validate({**spec, "action": action})
    metadata = {"name": "web-2", "annotations": annotations}
    assert held_back(metadata, wanted, "shop", json.dumps([WEEKEND]), at) == said
