"""`triton plan` shows every batch before anything starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.planning import assume, make, plan_lines
from shared.deployflow import DeployFlowSpec

Json = dict[str, Any]
EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_tutorials_plan_has_a_canary_that_waits_twice(triton: Callable[..., Any]) -> None:
    result = triton("plan", "-f", str(EXAMPLES / "nginx-deployflow.yaml"))
    assert result.code == 0
    assert "create of 12122-sample-10010 to 3 replicas: 3 pods in 3 batches, mode auto" in result.out
    assert (
        "1 (canary)   1          0                  next pulls it in, next counts it as baked" in result.out
    )
    assert "assuming that there is no CloneSet" in result.err


def test_the_plan_for_programs(triton: Callable[..., Any]) -> None:
    made = json.loads(triton("plan", "-f", str(EXAMPLES / "web-update.yaml"), "-o", "json").out)
    assert [batch["surge"] for batch in made["batches"]] == [2, 2, 2, 2, 2]
    assert made["current"] == {"exists": False, "replicas": 0, "updated": 0, "stopped": 0}


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_can_be_planned(example: Path, triton: Callable[..., Any]) -> None:
    assert triton("plan", "-f", str(example)).code == 0


def _cloneset(template: Json) -> Json:
    return {"spec": {"replicas": 4, "template": template}, "status": {"updatedReplicas": 4}}


def test_an_update_replaces_as_many_old_pods_as_it_makes(spec: Json) -> None:
    template = {"spec": {"containers": [{"name": "web", "image": "web:0"}]}}
    wanted = DeployFlowSpec.model_validate(spec)
    assumption = assume(wanted, _cloneset(template))
    lines = plan_lines(wanted, assumption, make(wanted, assumption))
    assert lines[1] == "starts from: CloneSet 7-web: 4 replicas, 0 already on the target"
    assert [line.split()[:3] for line in lines[-2:]] == [["2", "2", "2"], ["3", "1", "1"]]


def test_an_update_to_what_runs_already_has_nothing_to_do(spec: Json) -> None:
    template = spec["application"]["template"] | {"metadata": {"labels": {"added": "by-triton"}}}
    wanted = DeployFlowSpec.model_validate(spec)
    assumption = assume(wanted, _cloneset(template))
    assert plan_lines(wanted, assumption, make(wanted, assumption))[-1] == "nothing to do"


def test_a_file_without_a_deployflow_has_nothing_to_plan(tmp_path: Path, triton: Callable[..., Any]) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n")
    result = triton("plan", "-f", str(file))
    assert (result.code, result.err) == (2, f"error: {file}: there is no DeployFlow to plan\n")
